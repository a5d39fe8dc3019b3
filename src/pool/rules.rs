//! The numbers of the pool's law, each with its reason. None of them is needed for safety: they change efficiency.

use std::time::Duration;

use crate::decision::Credit;
use crate::decision::catalogue::TierRule;

/// How much is lent, for how long, and what is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRules {
    /// The most that a session holds beyond its need.
    pub lease_max: Credit,
    /// As [`PoolRules::lease_max`], in parts of what the pool could lend: one part in so many.
    pub lease_parts: u32,
    /// The life of a lease while there is plenty.
    pub ttl: Duration,
    /// The life of a lease while credit is scarce.
    pub ttl_scarce: Duration,
    /// Credit is scarce below so many requests for each holder.
    pub scarce_requests: u32,
    /// What a request costs where no waiting one says more.
    pub request_typical: Credit,
    /// On top of every wait for a silent session, for clocks that run at different speeds.
    pub grace: Duration,
    /// How long the rights of a silent session are kept aside in limbo mode.
    pub limbo: Duration,
    /// How long the record of an ended session is remembered.
    pub tombstones: Duration,
    /// How long others are asked to give back after a need was not met.
    pub starving: Duration,
    pub next_sync_scarce: Duration,
    pub next_sync_blocked: Duration,
    pub next_sync_healthy: Duration,
    pub next_sync_max: Duration,
    /// Each holder of an account waits at least this long for every holder there is.
    pub sync_spacing: Duration,
    /// As [`PoolRules::sync_spacing`], while there is plenty.
    pub sync_spacing_healthy: Duration,
    /// Silent sessions, and tombstones, that one call ends at most.
    pub reap_max: usize,
    /// Records of one account, tombstones included.
    pub sessions_max: usize,
    /// Months whose usage is kept after they ended.
    pub months_kept: usize,
    /// Percents of the monthly limit that are announced.
    pub thresholds: Vec<u32>,
    /// A remainder of at most this counts as nothing left.
    pub dust: Credit,
    /// Waits after a declined top-up. One more decline turns auto top-up off.
    pub top_up_waits: Vec<Duration>,
    /// What each tier needs and gives, as the catalogue has it; none leaves every account without a tier of its own.
    pub tiers: Vec<TierRule>,
}

impl Default for PoolRules {
    fn default() -> Self {
        Self {
            // What one killed sidecar can keep in limbo for a day: small beside a balance that matters.
            lease_max: Credit::from_nanos(5_000_000_000),
            // Ten sidecars can come at once before the share of each has to shrink.
            lease_parts: 10,
            // An unchanged account costs one sync a minute.
            ttl: Duration::from_secs(60),
            // Short enough to matter near zero, long enough to survive two failed rounds of 2 s.
            ttl_scarce: Duration::from_secs(10),
            // Two periods of 5 s at two requests a second.
            scarce_requests: 20,
            // 2,000 prompt and 400 generated tokens of the dearest model on the list.
            request_typical: Credit::from_nanos(12_000_000),
            // Clocks drift by far less than 1 % of a minute.
            grace: Duration::from_secs(2),
            // A network may be cut off for a night and a working day.
            limbo: Duration::from_hours(24),
            // A weekend, and three times the limbo.
            tombstones: Duration::from_hours(72),
            // One round of every holder.
            starving: Duration::from_secs(2),
            // A person hardly notices it, and rights come back from others within a few of them.
            next_sync_scarce: Duration::from_millis(500),
            // Only new credit helps, which has to be seen within two seconds.
            next_sync_blocked: Duration::from_secs(1),
            // Changed terms take effect within two seconds, the round included, where seven sidecars or fewer use the account.
            next_sync_healthy: Duration::from_millis(1_500),
            // A twelfth of a lease's life.
            next_sync_max: Duration::from_secs(5),
            // 1,000 syncs a second of one account: 4 % of what one key can bear.
            sync_spacing: Duration::from_millis(1),
            // Five calls a second, however many share the account, up to where the longest wait is the shorter one.
            sync_spacing_healthy: Duration::from_millis(200),
            // Bounds a call, and still ends silent sessions faster than they can come.
            reap_max: 4,
            // 4,096 records of some 80 bytes make 330 kB, which is the most to read and write for one sync.
            sessions_max: 4_096,
            // A year to compare with.
            months_kept: 12,
            // A warning in time, and the fact.
            thresholds: vec![80, 100],
            // 1,000 generated tokens of a model in the middle of the list.
            dust: Credit::from_nanos(1_200_000),
            // A hiccup, an outage, a person who has to act.
            top_up_waits: vec![Duration::from_mins(1), Duration::from_mins(5), Duration::from_mins(30)],
            tiers: Vec::new(),
        }
    }
}

/// How tokens are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateRules {
    /// How long lent tokens live, counted by the asker from the sending of its request.
    pub chunk_life: Duration,
    /// How long they live where all sessions together hold no more than the limit brings in a [`RateRules::chunk_life`].
    pub chunk_life_small: Duration,
    /// How long after its grant the unused part of a chunk may come back in full; then it counts as used.
    pub chunk_settle: Duration,
    /// How long after its death the unused part of a small chunk counts as out, and may come back in full; then it has drained.
    pub small_settle: Duration,
    /// Sessions heard of within this share a bucket's room.
    pub heard_within: Duration,
    /// A session that is silent for so long is forgotten.
    pub session_keep: Duration,
    /// Sessions remembered for one group; the one silent for longest goes first.
    pub sessions_max: usize,
    /// Ended minutes that wait for an adaptive step.
    pub minutes_max: usize,
}

impl Default for RateRules {
    fn default() -> Self {
        Self {
            // What is lent counts against the limit a second late at most.
            chunk_life: Duration::from_secs(1),
            // How much is out counts, not for how long: an account below its limits asks up to ten times less often.
            chunk_life_small: Duration::from_secs(10),
            // The chunk's life, and as long again for the next request of its session.
            chunk_settle: Duration::from_secs(2),
            // A chunk is given back when it dies; the store hears of it later where it is behind, or was away for a moment.
            small_settle: Duration::from_mins(1),
            // A session in use asks once in a chunk's life; one of its requests may be lost.
            heard_within: Duration::from_secs(2),
            // Long after its last chunk died; coming back costs no more than what it did in between.
            session_keep: Duration::from_hours(1),
            // As many as an account may have; some 100 bytes each.
            sessions_max: 4_096,
            // Every round offers the step again, so more than one waits only when nobody can propose.
            minutes_max: 8,
        }
    }
}

impl RateRules {
    /// How many ordinary lives a small chunk lasts, and so how much more of the demand it covers at most.
    pub(crate) fn small_lives(&self) -> u64 {
        let lives = self.chunk_life_small.as_nanos().checked_div(self.chunk_life.as_nanos()).unwrap_or(1);
        u64::try_from(lives).unwrap_or(u64::MAX)
    }
}
