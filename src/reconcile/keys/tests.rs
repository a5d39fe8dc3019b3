//! How long a key is vouched for, and what bounds the look-ups.

use super::memory::{Memory, Recalled};
use super::{Found, KeyOwner, KeySettings, Lookup, digest_of};
use crate::clock::Time;
use crate::reconcile::store::{KeyDigest, StoreError};

const KEY: KeyDigest = [7; 32];

fn at(millis: u64) -> Time {
    Time::from_nanos(1_000_000_000_000 + millis * 1_000_000)
}

fn acme() -> KeyOwner {
    KeyOwner::Account("acme".into())
}

fn ours() -> Found {
    Ok(Some("acme".into()))
}

fn away() -> Found {
    Err(StoreError::Unavailable("away".into()))
}

/// A memory that learned at 0 ms whose key it is.
fn knowing() -> Memory {
    let memory = Memory::new(KeySettings::default());
    memory.recall(KEY, at(0));
    memory.learn(KEY, at(0), ours());
    memory
}

/// What memory says in a word, and which look-up begins.
fn recall(memory: &Memory, millis: u64) -> (&'static str, Option<Lookup>) {
    let (recalled, lookup) = memory.recall(KEY, at(millis));
    let word = match recalled {
        Recalled::Owner(KeyOwner::Account(_)) => "acme",
        Recalled::Owner(KeyOwner::Nobody) => "nobody",
        Recalled::Owner(KeyOwner::Unavailable) => "unavailable",
        Recalled::Wait { before: Some(_), .. } => "wait, it was acme",
        Recalled::Wait { before: None, .. } => "wait",
        Recalled::Refused => "refused",
    };
    (word, lookup)
}

#[test]
fn a_key_in_use_is_refreshed_in_the_background_and_no_older_than_two_seconds() {
    let memory = knowing();
    assert_eq!(recall(&memory, 999), ("acme", None));
    assert_eq!(recall(&memory, 1_000), ("acme", Some(Lookup::Refresh)));
    assert_eq!(recall(&memory, 1_999), ("acme", None));
    assert_eq!(recall(&memory, 2_000), ("wait, it was acme", None));
    memory.learn(KEY, at(1_000), ours());
    assert_eq!(recall(&memory, 1_999), ("acme", None));
    assert_eq!(recall(&memory, 2_000), ("acme", Some(Lookup::Refresh)));
    memory.learn(KEY, at(2_000), Ok(None));
    assert_eq!(recall(&memory, 2_001), ("nobody", None));
}

#[test]
fn a_key_that_rested_is_looked_up_before_it_is_vouched_for() {
    let memory = knowing();
    assert_eq!(recall(&memory, 60_000), ("wait, it was acme", Some(Lookup::Refresh)));
}

#[test]
fn a_key_of_nobody_is_refused_for_five_seconds() {
    let memory = Memory::new(KeySettings::default());
    assert_eq!(recall(&memory, 0), ("wait", Some(Lookup::Stranger)));
    memory.learn(KEY, at(0), Ok(None));
    assert_eq!(recall(&memory, 4_999), ("nobody", None));
    assert_eq!(recall(&memory, 5_000), ("wait", Some(Lookup::Stranger)));
    memory.learn(KEY, at(5_000), Ok(None));
    memory.forget(&KEY);
    assert_eq!(recall(&memory, 5_001), ("wait", Some(Lookup::Stranger)));
}

#[test]
fn everybody_who_waits_shares_one_look_up() {
    let memory = Memory::new(KeySettings::default());
    let mut waiting = Vec::new();
    let mut lookups = 0;
    for _ in 0..100 {
        let (recalled, lookup) = memory.recall(KEY, at(0));
        lookups += usize::from(lookup.is_some());
        let Recalled::Wait { answer, .. } = recalled else { panic!("nothing is known yet") };
        waiting.push(answer);
    }
    assert_eq!(lookups, 1);
    memory.learn(KEY, at(0), ours());
    assert!(waiting.into_iter().all(|mut answer| answer.try_recv().unwrap() == acme()));
}

#[test]
fn known_keys_stay_known_while_the_store_is_away_and_nobody_waits_for_it() {
    let memory = knowing();
    assert_eq!(recall(&memory, 1_000), ("acme", Some(Lookup::Refresh)));
    memory.learn(KEY, at(1_000), away());
    assert_eq!(recall(&memory, 1_999), ("acme", None));
    // A while later the first request waits for the store, and falls back on the owner of before.
    assert_eq!(recall(&memory, 3_600_000), ("wait, it was acme", Some(Lookup::Refresh)));
    memory.learn(KEY, at(3_600_000), away());
    assert_eq!(recall(&memory, 3_600_999), ("acme", None));
    assert_eq!(recall(&memory, 3_601_000), ("acme", Some(Lookup::Refresh)));
}

#[test]
fn an_owner_is_believed_for_half_a_minute_while_changes_are_heard_of() {
    let followed = || {
        let memory = Memory::new(KeySettings::default());
        memory.follow(at(0));
        memory.recall(KEY, at(0));
        memory.learn(KEY, at(0), ours());
        memory
    };
    let memory = followed();
    assert_eq!(recall(&memory, 30_999), ("acme", None));
    assert_eq!(recall(&memory, 31_000), ("acme", Some(Lookup::Refresh)));
    assert_eq!(recall(&memory, 32_000), ("wait, it was acme", None));

    let memory = followed();
    memory.lose(at(10_000));
    assert_eq!(recall(&memory, 10_999), ("acme", None));
    assert_eq!(recall(&memory, 11_000), ("acme", Some(Lookup::Refresh)));
    assert_eq!(recall(&memory, 12_000), ("wait, it was acme", None));
    // What was confirmed before is not covered by what is heard since.
    memory.follow(at(20_000));
    assert_eq!(recall(&memory, 20_000), ("wait, it was acme", None));
    memory.learn(KEY, at(20_000), ours());
    assert_eq!(recall(&memory, 49_000), ("acme", None));
    memory.forget(&KEY);
    assert_eq!(recall(&memory, 49_000), ("wait", Some(Lookup::Stranger)));
}

#[test]
fn a_look_up_under_way_when_its_key_is_changed_teaches_nothing() {
    let memory = Memory::new(KeySettings::default());
    memory.recall(KEY, at(0));
    memory.forget(&KEY);
    memory.learn(KEY, at(0), ours());
    assert_eq!(recall(&memory, 1), ("wait", Some(Lookup::Stranger)));
}

#[test]
fn nobody_waits_for_a_store_that_just_failed_another_key() {
    let memory = knowing();
    memory.learn([8; 32], at(59_000), away());
    assert_eq!(recall(&memory, 60_000), ("acme", Some(Lookup::Refresh)));
    assert_eq!(recall(&memory, 61_000), ("wait, it was acme", None));
}

#[test]
fn a_flood_of_strangers_begins_few_look_ups_and_leaves_known_keys_alone() {
    let memory = Memory::new(KeySettings { lookups_max: 64, ..KeySettings::default() });
    memory.recall(KEY, at(0));
    memory.learn(KEY, at(0), ours());
    let begun = strangers(10_000).filter(|digest| memory.recall(*digest, at(0)).1.is_some()).count();
    assert!((32..=64).contains(&begun), "{begun}");
    assert_eq!(recall(&memory, 1_500), ("acme", Some(Lookup::Refresh)));
}

#[test]
fn strangers_and_owners_are_remembered_up_to_a_bound() {
    let memory = Memory::new(KeySettings { unknown_max: 160, known_max: 160, ..KeySettings::default() });
    let remembered = |found: fn() -> Found| {
        strangers(5_000).for_each(|digest| memory.learn(digest, at(0), found()));
        let known = strangers(5_000).filter(|digest| matches!(memory.recall(*digest, at(1)).0, Recalled::Owner(_)));
        known.count()
    };
    assert_eq!(remembered(|| Ok(None)), 160);
    assert_eq!(remembered(ours), 160);
}

#[test]
fn owners_that_come_later_are_remembered_too() {
    let memory = Memory::new(KeySettings { known_max: 1_600, ..KeySettings::default() });
    strangers(5_000).for_each(|digest| memory.learn(digest, at(0), ours()));
    let newest = strangers(5_000).skip(4_000);
    let known = newest.filter(|digest| matches!(memory.recall_now(digest, at(1)), Some(KeyOwner::Account(_)))).count();
    assert!(known > 500, "{known} of the newest 1,000, of 1,600 in all");
}

fn strangers(count: u32) -> impl Iterator<Item = KeyDigest> {
    (0..count).map(|number| digest_of(&number.to_string()))
}
