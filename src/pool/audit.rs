//! Whether a pool's sums are what its records say.

use super::account::Pool;
use super::message::SessionId;
use crate::decision::Credit;

/// A pool whose sums are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// `K`: credits in and credit line.
    pub credits_and_line: Credit,
    pub used: Credit,
    pub leased: Credit,
    pub retired: Credit,
    /// Records that are not tombstones.
    pub sessions_open: usize,
    pub tombstones: usize,
}

/// What is wrong with a pool: a bug, or a damaged store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Drift {
    #[error("leased is {kept}, but the records have {summed} outstanding")]
    Leased { kept: Credit, summed: Credit },
    #[error("used is {kept}, but the records and the retired ones make {summed}")]
    Used { kept: Credit, summed: Credit },
    #[error("credits are {kept}, but their kinds come to {summed}")]
    Credits { kept: Credit, summed: Credit },
    #[error("session {session:?}, generation {generation}, has {outstanding} outstanding")]
    Overdrawn { session: SessionId, generation: u32, outstanding: Credit },
    #[error("a session that ended still has {outstanding} outstanding: {session:?}, generation {generation}")]
    EndedWithRights { session: SessionId, generation: u32, outstanding: Credit },
    #[error("the history has {found} lines of {kept}")]
    HistoryLength { kept: u64, found: u64 },
    #[error("credits are {kept}, but the history comes to {summed}")]
    HistoryCredits { kept: Credit, summed: Credit },
    #[error("usage of months that ended is {kept}, but the history comes to {summed}")]
    HistoryUsage { kept: Credit, summed: Credit },
}

impl Pool {
    /// Compares the sums with the records. Reads every record.
    pub fn audit(&self) -> Result<Audit, Drift> {
        let (mut leased, mut used) = (Credit::ZERO, self.retired);
        for ((session, generation), record) in &self.sessions {
            let (session, generation, outstanding) = (session.clone(), *generation, record.outstanding());
            if outstanding < Credit::ZERO {
                return Err(Drift::Overdrawn { session, generation, outstanding });
            }
            if outstanding.is_positive() && !record.is_open() {
                return Err(Drift::EndedWithRights { session, generation, outstanding });
            }
            (leased, used) = (leased.saturating_plus(outstanding), used.saturating_plus(record.used));
        }
        if leased != self.leased {
            return Err(Drift::Leased { kept: self.leased, summed: leased });
        }
        if used != self.used {
            return Err(Drift::Used { kept: self.used, summed: used });
        }
        let sessions_open = self.sessions.values().filter(|record| record.is_open()).count();
        Ok(Audit {
            credits_and_line: self.credits_and_line(),
            used,
            leased,
            retired: self.retired,
            sessions_open,
            tombstones: self.sessions.len().saturating_sub(sessions_open),
        })
    }
}
