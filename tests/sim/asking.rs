//! What clients ask a sidecar, how they wait for the pool, and that asking twice is asking once.

use std::sync::Arc;
use std::time::Duration;

use tollgate::ledger::{Admitted, Checked, Verdict};

use crate::client::{Finish, Run};
use crate::event::{Change, Event, Step};
use crate::truth::{Check, ensure};
use crate::world::World;

/// How often a waiting ask asks the pool before it gives up.
const TRIES_MAX: u32 = 3;

impl World {
    pub fn client(&mut self, request: usize, step: Step) -> Check {
        let node = self.requests[request].node;
        let gone = |run: &Run| run.orphaned || !self.is_current(node, run.life);
        if let Step::SettleElsewhere { last } = step {
            return self.settle_elsewhere(request, last);
        }
        if self.requests[request].run.as_ref().is_some_and(gone) {
            return Ok(());
        }
        match step {
            Step::Ask => self.ask(request),
            Step::AskAgain => self.ask_again(request),
            Step::Insist { until } => self.insist_on(request, until),
            Step::Report { part } => self.report(request, part),
            Step::Extend { last } => self.extend(request, last),
            Step::Finish => self.finish(request),
            Step::FinishAgain => self.finish_again(request),
            Step::GiveUp | Step::SettleElsewhere { .. } => {
                self.nodes[node].waiting.retain(|waits| *waits != request);
                Ok(())
            }
        }
    }

    pub fn put_step(&mut self, request: usize, after: Duration, step: Step) {
        self.queue.put(self.at + after, Event::Client { request, step });
    }

    pub fn ask(&mut self, request: usize) -> Check {
        let asked = &self.requests[request];
        let (node, name) = (asked.node, Arc::clone(&self.accounts[asked.account].name));
        if !self.nodes[node].up || self.nodes[node].leaving || asked.run.is_some() {
            return Ok(());
        }
        let now = self.now_at(node);
        let checked = self.nodes[node].ledger.check(&asked.ask(&name), now);
        self.note(|| format!("request {request} at node {node} for {name}: {}", answer_in_a_line(&checked)));
        match checked {
            Checked::Answered(answer) => match answer.verdict {
                Verdict::Admitted(admitted) => self.start(request, &admitted),
                Verdict::Denied(denial) => {
                    self.seen.count(denial.reason.name());
                    Ok(())
                }
            },
            Checked::Unknown => {
                if self.nodes[node].ledger.want(&name, now) {
                    self.wait_for_pool(request);
                }
                Ok(())
            }
            Checked::Short(_) => {
                self.wait_for_pool(request);
                Ok(())
            }
        }
    }

    /// Wakes the loop, and asks again when the store was heard.
    fn wait_for_pool(&mut self, request: usize) {
        let asked = &mut self.requests[request];
        asked.tries += 1;
        let node = asked.node;
        if asked.tries > TRIES_MAX {
            self.seen.count("waited in vain");
            return;
        }
        self.nodes[node].waiting.push(request);
        let life = self.nodes[node].life;
        self.queue.put(self.at + Duration::from_micros(200), Event::Round { node, life, turn: None });
        self.put_step(request, Duration::from_secs(1), Step::GiveUp);
    }

    pub fn ask_those_who_wait(&mut self, node: usize, account: usize) -> Check {
        let waiting = std::mem::take(&mut self.nodes[node].waiting);
        let (ours, others) = waiting.into_iter().partition(|waits| self.requests[*waits].account == account);
        self.nodes[node].waiting = others;
        let ours: Vec<usize> = ours;
        ours.into_iter().try_for_each(|request| self.ask(request))
    }

    fn start(&mut self, request: usize, admitted: &Admitted) -> Check {
        let node = self.requests[request].node;
        let life = self.nodes[node].life;
        let asked = &mut self.requests[request];
        let hold = asked.hold(admitted.out_max);
        ensure(admitted.cost.nanos() == hold, || format!("request {request} holds {}, not {hold}", admitted.cost))?;
        ensure(!admitted.repeated, || format!("request {request} was never admitted before"))?;
        self.accounts[asked.account].truth.check_admission(life)?;
        asked.run = Some(Run {
            life,
            admitted_at: self.at,
            out_max: admitted.out_max,
            extensions: 0,
            generated: 0,
            reported: None,
            ends: self.nodes[node].clock.at(self.at).time.after(admitted.life),
            ended: None,
            lapsed: false,
            orphaned: false,
            over: false,
            booked_by: None,
            spent: 0,
            under: 0,
        });
        self.seen.count("admitted");
        if self.profile.tight_rates && self.books_count {
            let account = self.requests[request].account;
            self.accounts[account].truth.check_requests_rate(account, self.at, &self.requests)?;
        }
        self.plan(request);
        Ok(())
    }

    /// Lays out what the client will do.
    fn plan(&mut self, request: usize) {
        let asked = &self.requests[request];
        let (lasts, reports, extends) = (asked.lasts, asked.reports, asked.extends);
        if asked.finish != Finish::Releases {
            for part in 1..=reports {
                let after = lasts * u32::try_from(part).expect("few") / 4;
                self.put_step(request, after, Step::Report { part });
            }
            if extends {
                self.put_step(request, lasts * 2 / 3, Step::Extend { last: false });
            }
        }
        self.put_step(request, lasts, Step::Finish);
        if self.rng.chance(200) {
            let after = Duration::from_millis(self.rng.magnitude(1, 60_000));
            self.put_step(request, after, Step::AskAgain);
        }
    }

    /// The same ask has the same answer while its hold is known; another one under its name is refused.
    fn ask_again(&mut self, request: usize) -> Check {
        let asked = &self.requests[request];
        let (run, node) = (asked.run(), asked.node);
        let name = &self.accounts[asked.account].name;
        if run.ended.is_some() || run.lapsed {
            return Ok(());
        }
        let now = self.now_at(node);
        let mut ask = asked.ask(name);
        let differs = self.rng.chance(300);
        if differs {
            ask.n += 1;
        }
        let checked = self.nodes[node].ledger.check(&ask, now);
        let Checked::Answered(answer) = checked else { return Err(format!("asked again: {checked:?}")) };
        self.seen.count("asked again");
        match answer.verdict {
            Verdict::Admitted(again) => ensure(!differs && again.repeated, || format!("admitted again: {again:?}")),
            Verdict::Denied(denial) => ensure(differs && denial.invalid.is_some(), || format!("denied: {denial:?}")),
        }
    }
    pub fn put_change(&mut self, after: Duration, change: Change) {
        self.queue.put(self.at + after, Event::Change(change));
    }
}

fn answer_in_a_line(checked: &Checked) -> String {
    match checked {
        Checked::Answered(answer) => match &answer.verdict {
            Verdict::Admitted(admitted) => format!("{admitted:?}"),
            Verdict::Denied(denial) => format!("{:?} {:?}", denial.reason, denial.amounts),
        },
        Checked::Unknown | Checked::Short(_) => format!("{checked:?}"),
    }
}
