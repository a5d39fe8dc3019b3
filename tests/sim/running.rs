//! What becomes of admitted requests: reports, extensions, and one end, told twice or to another sidecar.

use std::sync::Arc;
use std::time::Duration;

use tollgate::ledger::{End, Ended, Extended, HoldError};

use crate::client::Finish;
use crate::event::{Event, Step};
use crate::truth::{Check, ensure};
use crate::world::World;

impl World {
    pub fn report(&mut self, request: usize, part: u64) -> Check {
        if self.requests[request].run().over {
            return Ok(());
        }
        let generated = self.requests[request].generated_at(part, 4);
        self.requests[request].produce(generated);
        self.tell_progress(request, generated)
    }

    fn tell_progress(&mut self, request: usize, generated: u64) -> Check {
        let asked = &self.requests[request];
        let (node, usage) = (asked.node, asked.usage(generated));
        let now = self.now_at(node);
        let told = self.nodes[node].ledger.report(&self.accounts[asked.account].name, asked.id, usage, now);
        self.note(|| format!("request {request} reports {usage:?}: {told:?}"));
        let run = self.requests[request].run_mut();
        match told {
            Ok(life) => {
                run.reported = Some(generated);
                run.ends = now.time.after(life);
                Ok(())
            }
            Err(HoldError::Ended(ended)) => {
                ensure(run.lapsed && ended.end == End::Expired, || format!("request {request} ended: {ended:?}"))
            }
            Err(fault) => Err(format!("request {request} cannot report: {fault}")),
        }
    }

    pub fn extend(&mut self, request: usize, last: bool) -> Check {
        let asked = &self.requests[request];
        if asked.generates <= asked.run().out_max || asked.run().ended.is_some() {
            return Ok(());
        }
        let (node, more) = (asked.node, asked.generates - asked.run().out_max);
        let now = self.now_at(node);
        let extended = self.nodes[node].ledger.extend(&self.accounts[asked.account].name, asked.id, more, now);
        self.note(|| format!("request {request} extends by {more}: {extended:?}"));
        let life = self.nodes[node].life;
        let run = self.requests[request].run_mut();
        match extended {
            Ok(Extended::Granted { out_max }) => {
                ensure(out_max == run.out_max + more, || format!("request {request} extended to {out_max}"))?;
                self.accounts[self.requests[request].account].truth.check_admission(life)?;
                let run = self.requests[request].run_mut();
                run.out_max = out_max;
                run.extensions += 1;
                self.seen.count("extended");
            }
            Ok(Extended::Short(_)) if !last => {
                self.queue.put(self.at, Event::Round { node, life, turn: None });
                self.put_step(request, Duration::from_millis(50), Step::Extend { last: true });
            }
            Ok(Extended::Short(_) | Extended::Refused(_)) => self.seen.count("extension refused"),
            Err(HoldError::Ended(_)) if run.lapsed => {}
            Err(fault) => return Err(format!("request {request} cannot extend: {fault}")),
        }
        Ok(())
    }

    pub fn finish(&mut self, request: usize) -> Check {
        let generated = match self.requests[request].finish {
            Finish::Releases => return self.release(request),
            Finish::Settles => self.requests[request].generated_at(1, 1),
            Finish::Vanishes => self.requests[request].run().reported.unwrap_or(0),
        };
        if self.requests[request].finish == Finish::Vanishes {
            self.seen.count("vanished");
            self.requests[request].run_mut().over = true;
            return Ok(());
        }
        self.requests[request].produce(generated);
        self.requests[request].run_mut().over = true;
        let cost = self.requests[request].cost(generated);
        let ended = self.settle(request)?;
        ensure(ended.cost.nanos() == cost, || format!("request {request} cost {cost}: {ended:?}"))?;
        ensure(!ended.repeated && ended.end == End::Settled, || format!("request {request} settled: {ended:?}"))?;
        let run = self.requests[request].run_mut();
        let lapsed = run.lapsed;
        run.ended = Some(ended);
        self.seen.count(if lapsed { "settled late" } else { "settled" });
        if ended.overrun.is_positive() {
            self.seen.count("overrun");
        }
        self.put_again(request);
        Ok(())
    }

    fn settle(&mut self, request: usize) -> Result<Ended, String> {
        let asked = &self.requests[request];
        let (node, usage) = (asked.node, asked.usage(asked.run().generated));
        let now = self.now_at(node);
        let name = &self.accounts[asked.account].name;
        let fallback = self.rng.chance(500).then(|| asked.without_own_hold());
        let ended = self.nodes[node].ledger.settle(name, asked.id, usage, fallback, now);
        self.note(|| format!("request {request} settles {usage:?}: {ended:?}"));
        ended.map_err(|fault| format!("request {request} cannot settle: {fault}"))
    }

    fn release(&mut self, request: usize) -> Check {
        let asked = &self.requests[request];
        let (node, name) = (asked.node, &self.accounts[asked.account].name);
        let ended = self.nodes[node].ledger.release(name, asked.id, self.now_at(node));
        self.note(|| format!("request {request} releases: {ended:?}"));
        let ended = ended.map_err(|fault| format!("request {request} cannot release: {fault}"))?;
        let run = self.requests[request].run_mut();
        let fits = ended.end == End::Released && !ended.repeated || ended.end == End::Expired && run.lapsed;
        ensure(fits && ended.cost.nanos() == 0, || format!("request {request} released: {ended:?}"))?;
        run.ended = Some(ended);
        run.over = true;
        self.seen.count("released");
        self.put_again(request);
        Ok(())
    }

    fn put_again(&mut self, request: usize) {
        if self.rng.chance(250) {
            let after = Duration::from_millis(self.rng.magnitude(1, 600_000));
            self.put_step(request, after, Step::FinishAgain);
        }
    }

    /// A repeated settle or release has the first result, and changes nothing.
    pub fn finish_again(&mut self, request: usize) -> Check {
        let asked = &self.requests[request];
        let first = asked.run().ended.expect("it came to an end before");
        let now = self.now_at(asked.node);
        let (ledger, name) = (&self.nodes[asked.node].ledger, &self.accounts[asked.account].name);
        let again = if asked.finish == Finish::Releases {
            ledger.release(name, asked.id, now)
        } else {
            ledger.settle(name, asked.id, asked.usage(asked.run().generated + 1), None, now)
        };
        self.seen.count("finished again");
        let same = Ok(Ended { repeated: true, ..first });
        ensure(again == same, || format!("request {request} ended as {first:?}, and again as {again:?}"))
    }

    /// A dead sidecar's request is settled at another one, which has no hold of it.
    pub fn settle_elsewhere(&mut self, request: usize, last: bool) -> Check {
        let Some(node) = (0..self.nodes.len()).find(|node| self.nodes[*node].up && !self.nodes[*node].leaving) else {
            return Ok(());
        };
        let now = self.now_at(node);
        let asked = &self.requests[request];
        let name = Arc::clone(&self.accounts[asked.account].name);
        let (usage, cost) = (asked.usage(asked.run().generated), asked.run().spent);
        let ended = self.nodes[node].ledger.settle(&name, asked.id, usage, Some(asked.without_hold()), now);
        self.note(|| format!("request {request} settles at node {node}: {ended:?}"));
        match ended {
            Ok(ended) => {
                ensure(ended.cost.nanos() == cost, || format!("request {request} cost {cost}: {ended:?}"))?;
                self.requests[request].run_mut().booked_by = Some(self.nodes[node].life);
                self.seen.count("settled elsewhere");
                Ok(())
            }
            Err(HoldError::UnknownAccount) => {
                if !last && self.nodes[node].ledger.want(&name, now) {
                    self.put_step(request, Duration::from_secs(2), Step::SettleElsewhere { last: true });
                }
                Ok(())
            }
            Err(fault) => Err(format!("request {request} cannot settle elsewhere: {fault}")),
        }
    }

    /// A sidecar is gone: its requests run on at the inference server, and nobody books them here.
    pub fn orphan(&mut self, life: usize) {
        for request in 0..self.requests.len() {
            let asked = &self.requests[request];
            if !asked.run.as_ref().is_some_and(|run| run.life == life && run.ended.is_none()) {
                continue;
            }
            if asked.run().over {
                self.requests[request].run_mut().orphaned = true;
                continue;
            }
            let part = self.rng.between(0, 4);
            let generated = self.requests[request].generated_at(part, 4);
            let settles = self.requests[request].finish == Finish::Settles && !self.requests[request].run().lapsed;
            self.requests[request].produce(generated);
            let run = self.requests[request].run_mut();
            (run.orphaned, run.over) = (true, true);
            self.seen.count("orphaned");
            if settles && self.rng.chance(300) {
                let after = Duration::from_millis(self.rng.magnitude(1, 60_000));
                self.put_step(request, after, Step::SettleElsewhere { last: false });
            }
        }
    }
}
