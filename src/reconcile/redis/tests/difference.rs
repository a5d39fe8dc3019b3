//! The same calls to both, as many as are asked for.

use super::call::World;
use super::server::Server;

/// Calls to make, where nobody says; and the first seed. Each world has a seed and rules of its own.
const CALLS: u64 = 100_000;
const CALLS_PER_WORLD: u64 = 5_000;
const SEED: u64 = 1;

/// Tells how to repeat what failed.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat it with TOLLGATE_TEST_SEED={} TOLLGATE_TEST_CALLS=1", self.0);
        }
    }
}

#[test]
fn the_scripts_say_and_keep_what_the_law_says_and_keeps() {
    let number = |name: &str, default: u64| {
        std::env::var_os(name).map_or(default, |text| text.into_string().unwrap().parse().unwrap())
    };
    let (mut seed, calls) = (number("TOLLGATE_TEST_SEED", SEED), number("TOLLGATE_TEST_CALLS", CALLS));
    let server = Server::start();
    let mut made = 0;
    while made < calls {
        let _told = Told(seed);
        let mut world = World::new(&server.url(), seed);
        while world.calls < CALLS_PER_WORLD {
            world.step();
        }
        world.finish();
        made += world.calls;
        seed += 1;
    }
}
