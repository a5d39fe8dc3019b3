//! The same calls to both, as many as are asked for.
//!
//! `TOLLGATE_TEST_CALLS=n cargo test --lib the_scripts_say` makes so many; a world that fails says how to make it again.

use super::call::World;
use super::server::Server;

/// Calls to make, where nobody says; and the first seed. Each world has a seed and rules of its own.
const CALLS: u64 = 100_000;
const CALLS_PER_WORLD: u64 = 5_000;
const SEED: u64 = 1;
/// Tests that share the worlds, so that they use all cores.
const PARTS: usize = 4;

/// Tells how to repeat what failed.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat it with TOLLGATE_TEST_SEED={} TOLLGATE_TEST_CALLS=1", self.0);
        }
    }
}

/// Makes one part of the worlds: every fourth, from the one with this number on.
fn make_worlds(first: u64) {
    let number = |name: &str, default: u64| {
        std::env::var_os(name).map_or(default, |text| text.into_string().unwrap().parse().unwrap())
    };
    let (seed, calls) = (number("TOLLGATE_TEST_SEED", SEED), number("TOLLGATE_TEST_CALLS", CALLS));
    let server = Server::start();
    for nth in (first..calls.div_ceil(CALLS_PER_WORLD)).step_by(PARTS) {
        let _told = Told(seed + nth);
        let mut world = World::new(&server.url(), seed + nth);
        while world.calls < CALLS_PER_WORLD {
            world.step();
        }
        world.finish();
    }
}

mod the_scripts_say_and_keep_what_the_law_says_and_keeps {
    #[test]
    fn in_the_first_quarter_of_worlds() {
        super::make_worlds(0);
    }

    #[test]
    fn in_the_second() {
        super::make_worlds(1);
    }

    #[test]
    fn in_the_third() {
        super::make_worlds(2);
    }

    #[test]
    fn in_the_fourth() {
        super::make_worlds(3);
    }
}
