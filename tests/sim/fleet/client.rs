//! Requests of a fleet's clients: asked once, waiting for the pool as the gate does, run, and settled where they were asked.

use std::time::Duration;

use tollgate::decision::{Ask, Credit, Denial, Prompt, RequestId, ServiceTier, Usage};
use tollgate::ledger::{Admitted, Allowance, Answer, Checked, Verdict};

use super::plan::{MODEL, USD};
use super::run::{Event, Fleet};

/// The longest that a check waits for the pool.
const POOL_WAIT: Duration = Duration::from_millis(50);

/// Emergency credit of one account, and of one sidecar.
pub const ALLOWANCE: Allowance = Allowance { account: Credit::from_nanos(USD), sidecar: Credit::from_nanos(100 * USD) };

/// The model's list price in pico-USD per token of prompt and of output, written out so that costs are reckoned apart.
const PRICE: [i64; 2] = [3_000_000, 15_000_000];

pub struct Request {
    account: usize,
    sidecar: usize,
    /// The session that runs it.
    life: usize,
    id: RequestId,
    prompt: u64,
    out_max: u64,
    generates: u64,
    lasts: Duration,
    hold: i64,
    /// When it stops waiting for the pool.
    until: Option<Duration>,
    /// The pool was heard while it waited.
    heard: bool,
    answered: bool,
}

impl Request {
    fn cost(&self, generated: u64) -> i64 {
        let pico = |tokens: u64, price: i64| i64::try_from(tokens).expect("a few thousand") * price;
        (pico(self.prompt, PRICE[0]) + pico(generated, PRICE[1]) + 999) / 1_000
    }

    fn ask<'a>(&self, account: &'a str) -> Ask<'a> {
        Ask {
            account,
            user: None,
            model: MODEL,
            service_tier: ServiceTier::Standard,
            prompt: Prompt::Tokens(self.prompt),
            cached_tokens_hint: None,
            max_tokens: Some(self.out_max),
            n: 1,
            request_id: self.id,
            deadline: None,
            capped: false,
        }
    }
}

impl Fleet {
    /// The next ask, somewhere: 1.5 to 2.5 thousand prompt tokens and 200 to 600 generated ones, 1.2 cents on average.
    pub fn arrive(&mut self) {
        let gap = 2_000_000 / self.asks_per_second();
        self.queue.put(self.at + Duration::from_micros(self.rng.between(0, gap)), Event::Arrive);
        let (account, sidecar) = self.draw_place();
        let out_max = self.rng.between(200, 600);
        let overruns = self.plan.trouble.overruns && self.rng.chance(5);
        let lasts_max = u64::try_from(self.plan.lasts_max.as_millis()).expect("some seconds");
        self.requests.push(Request {
            account,
            sidecar,
            life: usize::MAX,
            id: RequestId { digest: u128::from(self.rng.draw()), attempt: 0 },
            prompt: self.rng.between(1_500, 2_500),
            out_max,
            generates: if overruns { out_max * 2 } else { self.rng.between(out_max / 4, out_max) },
            lasts: Duration::from_millis(self.rng.between(lasts_max / 4, lasts_max)),
            hold: 0,
            until: None,
            heard: false,
            answered: false,
        });
        self.tallies[account].now.asked += 1;
        self.ask(self.requests.len() - 1);
    }

    /// The whale is everywhere, and in chaos more so on some sidecars than on others.
    fn draw_place(&mut self) -> (usize, usize) {
        let count = self.sidecars.len();
        if self.plan.tail > 0 && self.rng.chance(167) {
            let tail = self.rng.magnitude(1, self.plan.tail as u64);
            let account = usize::try_from(tail).expect("some thousands");
            return (account, (account * 7_919 + self.rng.index(3)) % count);
        }
        let skewed = self.plan.trouble.every.is_some() && self.rng.chance(500);
        if skewed {
            let rank = self.rng.magnitude(1, count as u64);
            return (0, usize::try_from(rank - 1).expect("some thousands"));
        }
        (0, self.rng.index(count))
    }

    fn ask(&mut self, request: usize) {
        let asked = &self.requests[request];
        let sidecar = &self.sidecars[asked.sidecar];
        if !sidecar.up || sidecar.leaving {
            self.requests[request].answered = true;
            return;
        }
        let name = &self.names[asked.account];
        let now = sidecar.clock.at(self.at);
        match sidecar.ledger.check(&asked.ask(name), now) {
            Checked::Answered(answer) => self.take_answer(request, &answer, 0),
            Checked::Unknown if sidecar.ledger.want(name, now) => self.wait(request),
            Checked::Unknown => self.give_up_waiting(request),
            Checked::Short(_) => self.wait(request),
        }
    }

    fn wait(&mut self, request: usize) {
        let asked = &mut self.requests[request];
        let (sidecar, account) = (asked.sidecar, asked.account);
        if asked.until.is_none() {
            asked.until = Some(self.at + POOL_WAIT);
            self.queue.put(self.at + POOL_WAIT, Event::Late { request });
        }
        self.sidecars[sidecar].waiting.push((request, account));
        self.nudge(sidecar);
    }

    pub fn ask_those_who_wait(&mut self, sidecar: usize, account: usize) {
        let waiting = std::mem::take(&mut self.sidecars[sidecar].waiting);
        let (ours, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, theirs)| *theirs == account);
        self.sidecars[sidecar].waiting = others;
        for (request, _) in ours {
            self.requests[request].heard = true;
            self.ask(request);
        }
    }

    /// Its time to wait is over: others were faster, or the failure policy answers.
    pub fn give_up_waiting(&mut self, request: usize) {
        let asked = &mut self.requests[request];
        if std::mem::replace(&mut asked.answered, true) {
            return;
        }
        let (place, account) = (asked.sidecar, asked.account);
        self.sidecars[place].waiting.retain(|(waits, _)| *waits != request);
        let asked = &self.requests[request];
        if asked.heard {
            self.tallies[account].deny("outrun");
        } else {
            let (ledger, now) = (&self.sidecars[place].ledger, self.now_at(place));
            let before = ledger.totals(now).emergency;
            let answer = ledger.check_alone(&asked.ask(&self.names[account]), ALLOWANCE, now);
            let lent = ledger.totals(now).emergency.minus(before).nanos();
            self.sidecars[place].trust(account, lent);
            self.take_answer(request, &answer, lent);
        }
    }

    fn take_answer(&mut self, request: usize, answer: &Answer, alone: i64) {
        self.requests[request].answered = true;
        match answer.verdict {
            Verdict::Admitted(admitted) => self.start(request, &admitted, alone),
            Verdict::Denied(Denial { reason, .. }) => self.tallies[self.requests[request].account].deny(reason.name()),
        }
    }

    fn start(&mut self, request: usize, admitted: &Admitted, alone: i64) {
        let asked = &mut self.requests[request];
        asked.hold = asked.cost(asked.out_max);
        assert_eq!(admitted.cost.nanos(), asked.hold, "a hold covers all that was asked for");
        asked.life = self.sidecars[asked.sidecar].life;
        let tally = &mut self.tallies[asked.account];
        tally.promise(asked.hold, alone, self.at);
        let with_pool = asked.until.is_none() || asked.heard;
        if asked.account == 0 && with_pool {
            tally.requests.take(1, self.plan.requests_per_minute(), self.at);
            tally.prompt.take(asked.prompt, self.plan.prompt_per_minute(), self.at);
        }
        let (account, lasts) = (asked.account, asked.lasts);
        self.queue.put(self.at + lasts, Event::Finish { request });
        self.check_contract(account);
    }

    /// What it generated is spent, whether or not its sidecar still lives to book it.
    pub fn finish(&mut self, request: usize) {
        let asked = &self.requests[request];
        let cost = asked.cost(asked.generates);
        if self.is_current(asked.sidecar, asked.life) {
            let usage = Usage { prompt: asked.prompt, cached: 0, generated: asked.generates };
            let now = self.now_at(asked.sidecar);
            let ledger = &self.sidecars[asked.sidecar].ledger;
            let ended = ledger.settle(&self.names[asked.account], asked.id, usage, None, now);
            let ended = ended.expect("its hold lives for ten minutes");
            assert_eq!(ended.cost.nanos(), cost, "booked as it is reckoned here");
        }
        let (account, hold) = (asked.account, asked.hold);
        self.tallies[account].spend(hold, cost);
        self.check_contract(account);
    }
}
