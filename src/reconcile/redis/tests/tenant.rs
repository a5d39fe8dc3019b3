//! Sessions that borrow tokens, mostly by the rules.

use super::dice::Dice;
use crate::decision::Credit;
use crate::decision::reserved::RESERVED_MAX;
use crate::pool::Refusal;
use crate::pool::message::{Group, RateReply, RateRequest};

/// One session of one group.
#[derive(Clone, Debug)]
pub struct Tenant {
    said: RateRequest,
    granted: [u64; 3],
}

impl Tenant {
    pub fn new(group: Group) -> Self {
        let none = [0; 3];
        let said = RateRequest {
            group,
            generation: 0,
            seq: 0,
            granted_known: none,
            debt: none,
            returned: none,
            used: none,
            priced: Credit::ZERO,
            at_hand: none,
            want: none,
            need: none,
            seed: [6_000, 1_000_000, 7],
            burst_seconds: 60,
        };
        Self { said, granted: none }
    }

    pub fn group(&self) -> Group {
        self.said.group.clone()
    }

    /// The next thing it says.
    pub fn ask(&mut self, dice: &mut Dice) -> RateRequest {
        self.said.granted_known = self.granted;
        for metric in 0..3 {
            let scale = self.said.seed[metric] / 4;
            let mut some = |most: u64| if dice.once_in(2) { dice.below(most + 1) } else { 0 };
            let said = &mut self.said;
            said.debt[metric] += some(scale / 4);
            let taken = said.granted_known[metric] + said.debt[metric];
            said.returned[metric] += some(taken.saturating_sub(said.returned[metric]).min(scale));
            said.used[metric] += some(scale);
            said.at_hand[metric] = some(scale);
            said.want[metric] = some(scale);
            said.need[metric] = some(said.want[metric]);
        }
        if dice.once_in(3) {
            let cost = *dice.one(&[0, 1, 999, 33_000_000, 1 << 33, 1 << 39]);
            self.said.priced = self.said.priced.plus(Credit::from_nanos(cost + dice.amount(1 + cost)));
            self.said.priced = self.said.priced.min(RESERVED_MAX.minus(Credit::from_nanos(1)));
        }
        self.said.seq += if dice.once_in(15) { 0 } else { 1 + dice.below(2) };
        if dice.once_in(40) {
            self.said.burst_seconds = *dice.one(&[1, 60, 30, 3_600]);
        }
        if dice.once_in(12) { self.mischief(dice) } else { self.said.clone() }
    }

    /// What no session should say, or not now.
    fn mischief(&self, dice: &mut Dice) -> RateRequest {
        let mut request = self.said.clone();
        let odd = *dice.one(&[0, 1, 1 << 46, (1 << 46) - 1, 1 << 50, (1 << 40) + 12_345, u64::MAX]);
        let metric = usize::try_from(dice.below(3)).unwrap();
        match dice.below(13) {
            0 => request.granted_known[metric] = odd,
            1 => request.debt[metric] = odd,
            2 => request.returned[metric] = odd,
            3 => request.used[metric] = odd,
            4 => request.at_hand[metric] = odd,
            5 => request.want[metric] = odd,
            6 => request.need[metric] = odd,
            7 => request.seed[metric] = odd,
            8 => request.generation = request.generation.wrapping_add(2).wrapping_sub(dice.below(4) as u32),
            9 => request.seq = request.seq.saturating_sub(dice.below(3)),
            10 => request.priced = Credit::from_nanos(i64::try_from(odd).unwrap_or(i64::MAX)),
            11 => request.burst_seconds = *dice.one(&[0, 3_601, u32::MAX]),
            _ => request.seq += 1 << dice.below(40),
        }
        request
    }

    /// Takes what it is told, where it is not lost on the way.
    pub fn hear(&mut self, dice: &mut Dice, answer: &Result<RateReply, Refusal>) {
        match answer {
            Ok(reply) if (reply.seq, reply.generation) == (self.said.seq, self.said.generation) => {
                if !dice.once_in(6) {
                    self.granted = reply.granted;
                }
            }
            Err(Refusal::NoSuchSession) => self.reopen(),
            Ok(_) | Err(_) => {}
        }
        if dice.once_in(60) {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        let generation = self.said.generation.saturating_add(1);
        *self = Self::new(self.group());
        self.said.generation = generation;
    }
}
