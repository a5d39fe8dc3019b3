//! Settled tokens by minute, kept until an adaptive step has seen them.

use serde::{Deserialize, Serialize};

use super::each;
use crate::decision::adaptive::Minute;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Minutes {
    current: Minute,
    /// Settled in `current`.
    used: [u64; 3],
    /// Minutes that ended with traffic and wait for a step, oldest first.
    ended: Vec<(Minute, [u64; 3])>,
}

/// What the passing of time came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Same,
    /// A minute without traffic ended.
    Idle,
    /// A minute with traffic ended: there is something to step.
    Busy,
}

impl Minutes {
    pub fn starting(current: Minute) -> Self {
        Self { current, used: [0; 3], ended: Vec::new() }
    }

    pub fn current(&self) -> Minute {
        self.current
    }

    pub fn ended(&self) -> &[(Minute, [u64; 3])] {
        &self.ended
    }

    pub fn add(&mut self, used: [u64; 3]) {
        self.used = each(self.used, used, u64::saturating_add);
    }

    pub fn turn(&mut self, current: Minute, ended_max: usize) -> Turn {
        if current <= self.current {
            return Turn::Same;
        }
        let (minute, used) = (self.current, self.used);
        (self.current, self.used) = (current, [0; 3]);
        if used == [0; 3] {
            return Turn::Idle;
        }
        self.ended.push((minute, used));
        self.merge_last(ended_max);
        Turn::Busy
    }

    pub fn forget_ended(&mut self) {
        self.ended.clear();
    }

    /// Where too many wait, the last stands for the rest with the most of each metric: their sum would look like a minute
    /// that never was, and could raise a limit.
    fn merge_last(&mut self, ended_max: usize) {
        if ended_max < self.ended.len()
            && let Some((minute, used)) = self.ended.pop()
            && let Some(last) = self.ended.last_mut()
        {
            *last = (minute, each(last.1, used, u64::max));
        }
    }
}
