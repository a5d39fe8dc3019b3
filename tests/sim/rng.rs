//! The only source of chance: SplitMix64, so that a seed is a history.

#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low + 1)
    }

    /// As [`Rng::between`], with small numbers as likely as large ones: even in the number's magnitude.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let bits_low = u64::from(low.max(1).ilog2());
        let bits_high = u64::from(high.max(1).ilog2());
        let top = 1 << self.between(bits_low, bits_high);
        self.between(top, 2 * top - 1).clamp(low, high)
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.between(0, length as u64 - 1)).expect("an index fits")
    }

    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.between(0, 999) < per_mille
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}
