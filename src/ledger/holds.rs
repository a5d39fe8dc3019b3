//! The holds of a shard: open ones in few places that are used again and again, ended ones in a row, oldest first.
//!
//! Nearly every hold that is remembered has ended and is never looked at again, so it must not be in the way.

use std::hash::BuildHasher as _;

use super::chains::Chains;
use super::ended::Row;
use super::hold::{Hold, HoldKey, Late, Past};
use super::pages::Pages;
use crate::clock::Time;

/// Open and ended holds by their key.
///
/// What always holds: a key is open, or in the row and within its time, but once.
pub(super) struct Holds {
    hasher: foldhash::fast::RandomState,
    /// Of open holds, by their places and one more.
    chains: Chains,
    /// The place that was left last is taken next: it is still in the cache.
    open: Pages<Opened>,
    serial: u32,
    ended: Row,
}

/// A key with its hash, which is worked out once for all that is done with it.
#[derive(Clone, Copy)]
pub(super) struct Sought {
    pub(super) key: HoldKey,
    hash: u64,
}

/// Where a hold was opened, and which of those that had this place it is.
#[derive(Clone, Copy)]
pub(super) struct HoldRef {
    place: u32,
    serial: u32,
}

pub(super) struct Opened {
    pub(super) key: HoldKey,
    serial: u32,
    /// In its chain.
    next: u32,
    pub(super) hold: Hold,
}

impl Holds {
    pub(super) fn new() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            chains: Chains::new(),
            open: Pages::new(),
            serial: 0,
            ended: Row::new(),
        }
    }

    pub(super) fn seek(&self, key: HoldKey) -> Sought {
        Sought { key, hash: self.hasher.hash_one(key) }
    }

    /// Reads where the chains of a key begin.
    pub(super) fn fetch(&self, sought: &Sought) -> u64 {
        u64::from(self.chains.front(sought.hash) ^ self.ended.front(sought.hash))
    }

    /// Where an open hold is.
    pub(super) fn place_of(&self, sought: &Sought) -> Option<u32> {
        let mut number = self.chains.first(sought.hash)?;
        loop {
            let place = number.checked_sub(1)?;
            let opened = self.at(place)?;
            if opened.key == sought.key {
                return Some(place);
            }
            number = opened.next;
        }
    }

    pub(super) fn at(&self, place: u32) -> Option<&Opened> {
        self.open.get(place)
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Hold> {
        self.open.get_mut(place).map(|opened| &mut opened.hold)
    }

    /// The hold that was opened there then, while it is open.
    pub(super) fn opened(&self, opened: HoldRef) -> Option<&Opened> {
        self.open.get(opened.place).filter(|other| other.serial == opened.serial)
    }

    /// A hold that ended and is remembered.
    pub(super) fn past(&self, sought: &Sought, now: Time) -> Option<&Past> {
        self.ended.get(&sought.key, sought.hash, now)
    }

    /// As [`Holds::past`], with what it takes to settle it late if it expired: once.
    pub(super) fn settle_past(&mut self, sought: &Sought, now: Time) -> Option<(&mut Past, Option<Late>)> {
        self.ended.settle(&sought.key, sought.hash, now)
    }

    /// Opens a hold under a key that is not known.
    pub(super) fn insert(&mut self, sought: &Sought, hold: Hold) -> HoldRef {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        if self.chains.is_crowded(self.open.len()) {
            self.chain_anew();
        }
        let place = self.open.insert(Opened { key: sought.key, serial, next: 0, hold });
        let next = self.chains.push(sought.hash, place.saturating_add(1), |_| true);
        self.open.get_mut(place).expect("just put there").next = next;
        HoldRef { place, serial }
    }

    /// Takes out a hold that was just ended.
    pub(super) fn remove(&mut self, sought: &Sought, place: u32) {
        let Some(removed) = self.open.remove(place) else { return };
        let number = place.saturating_add(1);
        let mut before = self.chains.front(sought.hash);
        if before == number {
            let next = removed.next.checked_sub(1).and_then(|place| self.open.get(place));
            let next = next.map(|next| (self.hasher.hash_one(next.key), removed.next, next.next));
            return self.chains.pop(sought.hash, next);
        }
        while let Some(opened) = before.checked_sub(1).and_then(|place| self.open.get_mut(place)) {
            before = opened.next;
            if before == number {
                opened.next = removed.next;
            }
        }
    }

    fn chain_anew(&mut self) {
        self.chains.clear(self.open.len());
        for (place, opened) in self.open.iter_mut() {
            opened.next = self.chains.push(self.hasher.hash_one(opened.key), place.saturating_add(1), |_| true);
        }
    }

    /// Puts a hold that ended at the end of the row.
    pub(super) fn remember(&mut self, sought: &Sought, past: (Past, Option<Late>), until: Time) {
        let hasher = &self.hasher;
        self.ended.push((sought.key, sought.hash), past, until, |key| hasher.hash_one(key));
    }

    /// When the ended hold that goes first is forgotten.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.ended.oldest()
    }

    pub(super) fn forget_oldest(&mut self) {
        self.ended.forget_oldest();
    }

    pub(super) fn open_keys(&self) -> impl Iterator<Item = HoldKey> {
        self.open.iter().map(|(_, opened)| opened.key)
    }

    /// The open holds of an account. Looks at all that are here.
    pub(super) fn open_of(&self, account: u32) -> impl Iterator<Item = &Hold> {
        self.open.iter().filter(move |(_, opened)| opened.key.account == account).map(|(_, opened)| &opened.hold)
    }

    #[cfg(test)]
    pub(super) fn all_open(&self) -> impl Iterator<Item = (&HoldKey, &Hold)> {
        self.open.iter().map(|(_, opened)| (&opened.key, &opened.hold))
    }

    #[cfg(test)]
    pub(super) fn all_past(&self) -> impl Iterator<Item = &Past> {
        self.ended.iter()
    }
}
