//! A map by key digest that never tells by its timing how much of a digest was right.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use subtle::ConstantTimeEq;

use crate::reconcile::store::KeyDigest;

/// Values by digest: found by a hash with a secret seed, compared in constant time. They stand in a row, so that there is no
/// room between them for what may come.
pub(super) struct Digests<T> {
    row: IndexMap<Secret, T, RandomState>,
}

struct Secret(KeyDigest);

impl<T> Digests<T> {
    pub fn new() -> Self {
        Self { row: IndexMap::default() }
    }

    pub fn len(&self) -> usize {
        self.row.len()
    }

    pub fn get_mut(&mut self, digest: &KeyDigest) -> Option<&mut T> {
        self.row.get_mut(&Secret(*digest))
    }

    /// Puts a value in the place of an earlier one, if there was one.
    pub fn insert(&mut self, digest: KeyDigest, value: T) {
        self.row.insert(Secret(digest), value);
    }

    pub fn remove(&mut self, digest: &KeyDigest) -> Option<T> {
        self.row.swap_remove(&Secret(*digest))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.row.retain(|_, value| keep(value));
    }

    /// Forgets one value, as the secret hash of the digest that comes has it: neither the oldest nor the newest always.
    pub fn remove_for(&mut self, digest: &KeyDigest) {
        let length = u64::try_from(self.row.len()).unwrap_or(u64::MAX).max(1);
        let index = self.row.hasher().hash_one(digest) % length;
        self.row.swap_remove_index(usize::try_from(index).expect("below the number of values"));
    }
}

impl PartialEq for Secret {
    /// In two halves: as constant as byte by byte, at a tenth of the cost.
    fn eq(&self, other: &Self) -> bool {
        let halves = |Self(digest): &Self| {
            let (left, right) = digest.split_at(16);
            [left, right].map(|half| u128::from_ne_bytes(half.try_into().expect("half of 32 bytes")))
        };
        let ([left, right], [other_left, other_right]) = (halves(self), halves(other));
        (left.ct_eq(&other_left) & right.ct_eq(&other_right)).into()
    }
}

impl Eq for Secret {}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
