//! Who waits for a shard is known to whoever lets go of it.

use super::world::settings;
use crate::ledger::locks::Locked;
use crate::ledger::shard::Shard;

#[test]
fn a_shard_is_awaited_while_somebody_sleeps_for_it() {
    let shard = Locked::new(Shard::new(&settings(), 1));
    std::thread::scope(|scope| {
        let held = shard.lock();
        assert!(!shard.is_awaited());
        let sleeper = scope.spawn(|| shard.lock().accounts.end());
        while !shard.is_awaited() {
            std::thread::yield_now();
        }
        drop(held);
        assert_eq!(sleeper.join().unwrap(), 0);
    });
    assert!(!shard.is_awaited());
}
