//! What is said and heard of a group of rates, and what is noted of it meanwhile.

/// What waiting asks need of each meter: the largest of them, and all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits<const N: usize> {
    pub(super) most: [u64; N],
    pub(super) sum: [u64; N],
}

/// What a request says of one group, each array in the order of the meters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<const N: usize> {
    pub(super) generation: u32,
    pub(super) seq: u64,
    pub(super) granted_known: [u64; N],
    pub(super) debt: [u64; N],
    pub(super) returned: [u64; N],
    pub(super) used: [u64; N],
    pub(super) at_hand: [u64; N],
    pub(super) want: [u64; N],
    pub(super) need: [u64; N],
}

/// What a reply says of one meter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) granted: u64,
    pub(super) fresh: u64,
    pub(super) per_minute: u64,
    pub(super) level: u128,
}

/// Four yes-or-no questions in one byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks(u8);

/// Something changed that the pool has not heard.
pub(super) const DIRTY: u8 = 1;
/// A chunk's rest went back that comes back in full only if the pool hears of it soon.
pub(super) const PRESSING: u8 = 2;
/// The newest chunk, or the one before it, is small: its rest may come back at any time.
pub(super) const FRESH_SMALL: u8 = 4;
pub(super) const OLD_SMALL: u8 = 8;

impl Marks {
    pub(super) const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    pub(super) const fn put(&mut self, marks: u8, is_set: bool) {
        self.0 = if is_set { self.0 | marks } else { self.0 & !marks };
    }
}
