//! Which of many values have a hash, as chains that begin in a table: nothing but numbers, for the values are elsewhere.

/// The first of each chain, by the hash. A value's number is never zero, and it keeps the number of the next in its chain.
///
/// Beside a number stands some of the hash of what it names, and whether others follow: who looks for what is not there, as
/// every new request does, reads one place in memory and hardly ever a second one.
pub(super) struct Chains {
    heads: Vec<Head>,
}

/// The largest number that a value may have.
pub(super) const NUMBER_MAX: u32 = (1 << 24) - 1;

/// Where a chain begins. In its bits, from the lowest: a number, zero where the chain is empty; whether others follow; seven
/// bits of the hash. There are as many as values, in no order that a cache could foresee, so each is small.
#[derive(Clone, Copy, Default)]
struct Head(u32);

const OTHERS_FOLLOW: u32 = NUMBER_MAX + 1;

impl Head {
    fn new(hash: u64, number: u32, next: u32) -> Self {
        assert!(number <= NUMBER_MAX, "settings allow no more than HOLDS_MAX of them");
        Self(tag(hash) | if next > 0 { OTHERS_FOLLOW } else { 0 } | number)
    }

    const fn number(self) -> u32 {
        self.0 & NUMBER_MAX
    }

    fn may_have(self, hash: u64) -> bool {
        self.number() > 0 && (self.0 & OTHERS_FOLLOW > 0 || self.0 & !NUMBER_MAX == tag(hash))
    }
}

/// Seven bits of a hash that do not choose its chain.
fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("shifted down to 32 bits") & !(NUMBER_MAX | OTHERS_FOLLOW)
}

impl Chains {
    pub(super) const fn new() -> Self {
        Self { heads: Vec::new() }
    }

    /// More values than this make chains long.
    pub(super) const fn is_crowded(&self, values: usize) -> bool {
        values >= self.heads.len() / 2
    }

    /// Empties all chains, and makes room for more than so many values.
    pub(super) fn clear(&mut self, values: usize) {
        let heads = values.saturating_add(1).saturating_mul(2).next_power_of_two();
        self.heads = vec![Head::default(); heads.max(self.heads.len())];
    }

    /// The first of the chain that what has this `hash` is in, if it is in one.
    pub(super) fn first(&self, hash: u64) -> Option<u32> {
        let head = self.heads.get(self.place(hash)).filter(|head| head.may_have(hash))?;
        Some(head.number())
    }

    /// Puts a value at the front of its chain; returns the number of the one that follows it, zero where none does. One that is
    /// not `live` is as good as gone, with all that follow it.
    pub(super) fn push(&mut self, hash: u64, number: u32, live: impl Fn(u32) -> bool) -> u32 {
        let place = self.place(hash);
        let Some(head) = self.heads.get_mut(place) else { return 0 };
        let next = if live(head.number()) { head.number() } else { 0 };
        *head = Head::new(hash, number, next);
        next
    }

    /// The front of the chain of `hash`, whatever is there; zero where nothing is.
    pub(super) fn front(&self, hash: u64) -> u32 {
        self.heads.get(self.place(hash)).map_or(0, |head| head.number())
    }

    /// Takes out the front. What followed it comes with its hash, its number and that of the one behind it.
    pub(super) fn pop(&mut self, hash: u64, next: Option<(u64, u32, u32)>) {
        let place = self.place(hash);
        if let Some(head) = self.heads.get_mut(place) {
            *head = next.map_or(Head::default(), |(hash, number, behind)| Head::new(hash, number, behind));
        }
    }

    fn place(&self, hash: u64) -> usize {
        let mask = u64::try_from(self.heads.len()).unwrap_or(0).saturating_sub(1);
        usize::try_from(hash & mask).unwrap_or(0)
    }
}
