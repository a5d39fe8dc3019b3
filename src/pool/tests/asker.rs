//! A session that keeps the rules: it spends only rights of a live lease and takes only the newest reply.

use super::*;
use crate::decision::Month;
use crate::pool::message::{Refusal, SessionId, SyncReply, SyncRequest};

#[derive(Clone, Debug)]
pub struct Asker {
    pub id: SessionId,
    pub said: SyncRequest,
    pub granted: Credit,
    pub reclaimed: Credit,
    pub lease_end: UnixMs,
    pub heard: Option<UnixMs>,
    pub replies: u32,
}

impl Asker {
    pub fn new(run: u128) -> Self {
        let said = SyncRequest { month: Month::of(START), ..SyncRequest::default() };
        let id = SessionId { node: "node".into(), run };
        let (granted, reclaimed) = (Credit::ZERO, Credit::ZERO);
        Self { id, said, granted, reclaimed, lease_end: UnixMs(0), heard: None, replies: 0 }
    }

    pub fn rights(&self) -> Credit {
        self.granted.minus(self.said.used).minus(self.said.returned).minus(self.reclaimed)
    }

    /// Spends up to `amount` of the rights of a live lease.
    pub fn spend(&mut self, amount: Credit, now: UnixMs) -> Credit {
        let rights = if now < self.lease_end { self.rights().at_least_zero() } else { Credit::ZERO };
        let spent = amount.min(rights);
        self.said.used = self.said.used.plus(spent);
        spent
    }

    pub fn give_back(&mut self, amount: Credit) {
        let returned = amount.min(self.rights().at_least_zero());
        self.said.returned = self.said.returned.plus(returned);
    }

    pub fn turn_month(&mut self, month: Month) {
        if self.said.month < month {
            (self.said.month, self.said.used_before) = (month, self.said.used);
        }
    }

    /// The next request, with current values.
    pub fn ask(&mut self, want: Credit, need: Credit, now: UnixMs) -> SyncRequest {
        self.said = SyncRequest {
            seq: self.said.seq + 1,
            granted_known: self.granted,
            reclaimed_known: self.reclaimed,
            want,
            need,
            silence: self.heard.map(|heard| Duration::from_millis(now.0.saturating_sub(heard.0))),
            ..self.said
        };
        self.said
    }

    pub fn bye(&mut self, now: UnixMs) -> SyncRequest {
        SyncRequest { bye: true, ..self.ask(Credit::ZERO, Credit::ZERO, now) }
    }

    pub fn declare(&mut self, now: UnixMs) -> SyncRequest {
        SyncRequest { declare: true, ..self.ask(Credit::ZERO, Credit::ZERO, now) }
    }

    /// Takes a reply to a request sent at `sent`, if it answers the newest request.
    pub fn hear(&mut self, reply: &SyncReply, sent: UnixMs) {
        if (reply.generation, reply.seq) != (self.said.generation, self.said.seq) {
            return;
        }
        (self.granted, self.reclaimed) = (reply.granted, reply.reclaimed);
        self.lease_end = UnixMs(sent.0 + reply.ttl.as_millis() as u64);
        self.heard = Some(sent);
        self.replies += 1;
        self.turn_month(reply.month);
    }

    /// A new generation: everything from zero.
    pub fn reopen(&mut self) {
        let fresh = Self::new(self.id.run);
        let generation = self.said.generation + 1;
        *self = Self { said: SyncRequest { generation, month: self.said.month, ..fresh.said }, ..fresh };
    }

    /// Asks and hears, with nothing lost between.
    pub fn borrow(&mut self, pool: &mut Pool, want: Credit, need: Credit, now: UnixMs) -> SyncReply {
        self.try_borrow(pool, want, need, now).unwrap()
    }

    pub fn try_borrow(
        &mut self,
        pool: &mut Pool,
        want: Credit,
        need: Credit,
        now: UnixMs,
    ) -> Result<SyncReply, Refusal> {
        let request = self.ask(want, need, now);
        let reply = pool.sync(&self.id, &request, &rules(), now)?;
        self.hear(&reply, now);
        Ok(reply)
    }

    /// As [`Self::borrow`], of a pool that has rules of its own.
    pub fn borrow_by(&mut self, pool: &mut Pool, most: Credit, rules: &PoolRules, now: UnixMs) {
        let request = self.ask(most, most, now);
        let reply = pool.sync(&self.id, &request, rules, now).unwrap();
        self.hear(&reply, now);
    }
}
