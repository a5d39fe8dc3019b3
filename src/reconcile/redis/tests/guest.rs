//! Sessions that mostly keep the rules, and sometimes do what no session should.

use std::time::Duration;

use super::dice::Dice;
use crate::clock::UnixMs;
use crate::decision::{Credit, Month};
use crate::pool::{Refusal, SessionId, SyncReply, SyncRequest};

const COUNTER_MAX: i64 = 1 << 50;

/// One session of one account.
#[derive(Clone, Debug)]
pub struct Guest {
    pub id: SessionId,
    said: SyncRequest,
    heard: Option<UnixMs>,
    granted: i64,
    reclaimed: i64,
}

fn credit(nanos: i64) -> Credit {
    Credit::from_nanos(nanos)
}

impl Guest {
    pub fn new(id: SessionId) -> Self {
        let said = SyncRequest::default();
        Self { id, said, heard: None, granted: 0, reclaimed: 0 }
    }

    /// The next thing it says, amounts up to `scale`.
    pub fn ask(&mut self, dice: &mut Dice, scale: i64, now: UnixMs) -> SyncRequest {
        self.spend(dice, scale);
        if dice.once_in(4) {
            self.turn_month(Month::of(now));
        }
        let want = dice.amount(scale);
        self.said = SyncRequest {
            seq: self.said.seq + if dice.once_in(20) { 0 } else { 1 + dice.below(2) },
            granted_known: credit(self.granted),
            reclaimed_known: credit(self.reclaimed),
            want: credit(want),
            need: credit(dice.amount(want)),
            terms_known: dice.below(4),
            silence: self.heard.map(|heard| Duration::from_millis(now.0.saturating_sub(heard.0))),
            declare: dice.once_in(12),
            bye: dice.once_in(25),
            ..self.said
        };
        if dice.once_in(10) { self.mischief(dice, scale) } else { self.said }
    }

    /// Spends and gives back, mostly no more than it may.
    fn spend(&mut self, dice: &mut Dice, scale: i64) {
        let SyncRequest { used, returned, .. } = self.said;
        let rights = self.granted - used.nanos() - returned.nanos() - self.reclaimed;
        let most = if dice.once_in(15) { scale } else { rights.max(0) };
        let spent = dice.amount(most).min(COUNTER_MAX - 1 - used.nanos());
        self.said.used = used.plus(credit(spent));
        if dice.once_in(4) {
            let back = dice.amount((rights - spent).max(0)).min(COUNTER_MAX - 1 - returned.nanos());
            self.said.returned = returned.plus(credit(back));
        }
    }

    fn turn_month(&mut self, month: Month) {
        if self.said.month < month {
            (self.said.month, self.said.used_before) = (month, self.said.used);
        }
    }

    /// What no session should say, or not now.
    fn mischief(&self, dice: &mut Dice, scale: i64) -> SyncRequest {
        let mut request = self.said;
        let odd = *dice.one(&[-1, 0, 1, scale, COUNTER_MAX - 1, COUNTER_MAX, 1 << 52, (1 << 52) - 1, i64::MAX]);
        match dice.below(12) {
            0 => request.used = credit(odd),
            1 => request.returned = credit(odd),
            2 => request.granted_known = credit(odd),
            3 => request.reclaimed_known = credit(odd),
            4 => request.want = credit(odd),
            5 => request.need = credit(odd),
            6 => request.used_before = credit(odd),
            7 => request.month = Month::from_yyyymm(*dice.one(&[0, 1, 197_001, 202_611, 202_612, 203_001, 999_912])),
            8 => request.generation = request.generation.wrapping_add(2).wrapping_sub(dice.below(4) as u32),
            9 => request.seq = request.seq.saturating_sub(dice.below(3)),
            10 => request.silence = Some(Duration::from_secs(dice.below(400_000))),
            _ => request.seq += 1 << dice.below(40),
        }
        request
    }

    /// Takes what it is told, where it is not lost on the way.
    pub fn hear(&mut self, dice: &mut Dice, asked: &SyncRequest, answer: &Result<SyncReply, Refusal>, now: UnixMs) {
        match answer {
            Ok(reply) if reply.seq == self.said.seq && reply.generation == self.said.generation => {
                if dice.once_in(6) {
                    return;
                }
                (self.granted, self.reclaimed) = (reply.granted.nanos(), reply.reclaimed.nanos());
                self.heard = Some(now);
                self.turn_month(reply.month);
                if asked.bye {
                    self.reopen();
                }
            }
            Ok(_) | Err(Refusal::Malformed(_) | Refusal::NoSuchAccount | Refusal::Unreadable) => {}
            Err(Refusal::NoSuchSession | Refusal::Superseded | Refusal::Crowded) => {
                if dice.once_in(2) {
                    self.reopen();
                }
            }
        }
    }

    fn reopen(&mut self) {
        let generation = self.said.generation.saturating_add(1);
        let fresh = Self::new(self.id.clone());
        *self = Self { said: SyncRequest { generation, month: self.said.month, ..fresh.said }, ..fresh };
    }
}
