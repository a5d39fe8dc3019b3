//! What a sidecar's loop does, and what the network makes of it: collect, send, answer, apply.

use std::sync::Arc;
use std::time::Duration;

use tollgate::pool::{Message, Reply, account_of};

use crate::event::{Event, Packet, in_a_line};
use crate::truth::{Check, ensure};
use crate::world::World;

/// How many messages a round takes at most.
const ROUND_MAX: usize = 4;
/// How long a round waits for the store.
const ROUND_WAIT: Duration = Duration::from_millis(500);

impl World {
    pub fn round(&mut self, node: usize, life: usize, turn: Option<u64>) -> Check {
        let overtaken = turn.is_some_and(|turn| turn != self.nodes[node].rounds);
        if overtaken || !self.is_current(node, life) {
            return Ok(());
        }
        let now = self.now_at(node);
        self.nodes[node].ledger.sweep(now);
        let messages = self.nodes[node].ledger.collect(now, ROUND_MAX);
        for message in messages {
            self.send(node, message)?;
        }
        if turn.is_some() {
            self.put_round(node);
            self.check_totals(node)?;
        }
        Ok(())
    }

    /// Puts a message on its way, whatever becomes of it.
    pub fn send(&mut self, node: usize, message: Message) -> Check {
        let (life, sent) = (self.nodes[node].life, self.now_at(node));
        let account = self.account_of(&message.account);
        if let Some(sync) = &message.sync {
            let truth = &mut self.accounts[account].truth;
            truth.hear(life, sync, account, &self.requests)?;
        }
        self.packets += 1;
        let number = self.packets;
        self.nodes[node].in_flight.insert(number, Arc::clone(&message.account));
        let packet = Packet { number, node, life, message: Arc::new(message), sent };
        self.note(|| format!("sends {packet:?}"));
        if self.nodes[node].reaches_store() {
            for delay in self.weather.travel(&mut self.rng) {
                self.queue.put(self.at + delay, Event::ToStore(packet.clone()));
            }
        }
        self.queue.put(self.at + ROUND_WAIT, Event::GiveUpRound { node, life, number });
        Ok(())
    }

    pub fn reach_store(&mut self, packet: Packet) -> Check {
        let (reply, answered) = (self.exchange(&packet)?, self.at);
        if self.nodes[packet.node].hears_store() {
            for delay in self.weather.travel(&mut self.rng) {
                self.queue.put(self.at + delay, Event::FromStore(packet.clone(), Box::new(reply.clone()), answered));
            }
        }
        Ok(())
    }

    /// The store takes a message, and the books are kept beside it.
    pub fn exchange(&mut self, packet: &Packet) -> Result<Reply, String> {
        let place = self.account_of(&packet.message.account);
        let now = self.store.now(self.at);
        let name = Arc::clone(&packet.message.account);
        let reaped_before = self.store.pool(&name).summary(now).oddities.reaped;
        let reply = self.store.exchange(&packet.message, self.at);
        let summary = self.store.pool(&name).summary(now);
        self.note(|| format!("store answers packet {}: {}", packet.number, in_a_line(&reply)));
        let (Some(sync), Some(answer)) = (&packet.message.sync, &reply.sync) else { return Ok(reply) };
        let Ok(answer) = answer else {
            self.seen.count("refused");
            return Ok(reply);
        };
        let truth = &mut self.accounts[place].truth;
        truth.books.tick(now.0);
        truth.turn_month(self.at, summary.month);
        let reaped = summary.oddities.reaped.minus(reaped_before).nanos();
        let asker = (packet.life, sync.generation);
        let taken = truth.reap(reaped, summary.terms.reclaim_mode, asker, self.at, place, &self.requests);
        let accepted = truth.accept(packet.life, &packet.message.session, sync, answer);
        if self.books_count {
            taken.and(accepted)?;
        }
        if reaped > 0 {
            self.seen.count("reclaimed");
        }
        Ok(reply)
    }

    pub fn hear_store(&mut self, packet: &Packet, reply: Reply, answered: Duration) -> Check {
        let node = packet.node;
        if !self.is_current(node, packet.life) {
            return Ok(());
        }
        let in_time = self.nodes[node].in_flight.remove(&packet.number).is_some();
        self.seen.count(if in_time { "replies in time" } else { "replies late or twice" });
        // A refusal names no request: nobody can tell whether a late one means the message in flight now.
        if !in_time && names_no_request(&reply) {
            return Ok(());
        }
        let now = self.now_at(node);
        let sent = self.store.saboteur.sent(packet.sent, now);
        let taken = matches!(reply.sync, Some(Ok(_)));
        self.nodes[node].ledger.apply(vec![reply], sent, now);
        if taken && in_time {
            self.store.saboteur.acknowledged(&packet.message);
        }
        let place = self.account_of(&packet.message.account);
        self.accounts[place].truth.heard(packet.life, answered);
        self.ask_those_who_wait(node, self.account_of(account_of(&packet.message.account)))
    }

    pub fn give_up_round(&mut self, node: usize, life: usize, number: u64) {
        if !self.is_current(node, life) {
            return;
        }
        if let Some(account) = self.nodes[node].in_flight.remove(&number) {
            self.seen.count("rounds given up");
            let now = self.now_at(node);
            self.nodes[node].ledger.failed(&[account], now);
        }
    }

    pub fn account_of(&self, name: &str) -> usize {
        self.accounts.iter().position(|account| &*account.name == name).expect("only our accounts are used")
    }

    /// What the sidecar says it holds is what its running requests hold.
    fn check_totals(&mut self, node: usize) -> Check {
        let life = self.nodes[node].life;
        let totals = self.nodes[node].ledger.totals(self.now_at(node));
        let ours = || self.requests.iter().filter(|request| request.run.as_ref().is_some_and(|run| run.life == life));
        let open = ours().filter(|request| request.run().ended.is_none());
        let (mut least, mut most, mut extensions) = (0, 0, 0);
        for request in open {
            let (run, hold) = (request.run(), request.hold(request.run().out_max));
            least += if run.lapsed { 0 } else { hold };
            most += hold;
            extensions += i64::from(run.extensions);
        }
        let held = totals.held.nanos();
        let said = || format!("session {life} holds {held}, its requests {least} to {most}");
        ensure(least <= held && held <= most + extensions, said)?;
        ensure(totals.leased_free.nanos() >= 0, || format!("session {life} has {} free", totals.leased_free))
    }
}

fn names_no_request(reply: &Reply) -> bool {
    matches!(reply.sync, Some(Err(_))) || reply.rates.iter().any(Result::is_err)
}
