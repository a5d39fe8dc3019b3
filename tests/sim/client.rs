//! Requests: what clients and inference servers do, and what it truly costs.

use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Time;
use tollgate::decision::{Ask, Prompt, RequestId, ServiceTier, Usage};
use tollgate::ledger::{Ended, WithoutHold};

use crate::faults::Profile;
use crate::rng::Rng;

/// Models in use, with a service tier and its list price in pico-USD per token (prompt, cached, generated).
///
/// Written out here, so that costs are reckoned apart from the code under test.
const OFFERS: [(&str, ServiceTier, [i64; 3]); 5] = [
    ("glm-5.3-flash", ServiceTier::Standard, [150_000, 30_000, 500_000]),
    ("glm-5.3-flash", ServiceTier::Priority, [187_500, 37_500, 625_000]),
    ("gpt-oss-120b", ServiceTier::Standard, [150_000, 15_000, 600_000]),
    ("kimi-k3", ServiceTier::Fast, [4_500_000, 450_000, 22_500_000]),
    ("kimi-k3", ServiceTier::Batch, [1_500_000, 150_000, 7_500_000]),
];

/// How a request comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Settles,
    Releases,
    /// Nobody says anything any more: what was reported last is what was used.
    Vanishes,
}

/// One request, planned before it is asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub account: usize,
    /// Whose cap it counts for: the place among the accounts, and the name.
    pub user: Option<(usize, Arc<str>)>,
    pub node: usize,
    pub id: RequestId,
    offer: usize,
    /// Prompt tokens that are there, and how many of them the ask admits to.
    prompt: u64,
    prompt_asked: u64,
    cached: u64,
    max_tokens: Option<u64>,
    n: u32,
    capped: bool,
    deadline: Option<Duration>,
    /// What it generates if nothing stops it.
    pub generates: u64,
    /// Generates beyond what was admitted.
    pub overruns: bool,
    pub extends: bool,
    pub finish: Finish,
    pub lasts: Duration,
    pub reports: u64,
    pub run: Option<Run>,
    /// How often it asked the pool, while it waits.
    pub tries: u32,
}

/// A request that was admitted, as it truly is.
#[derive(Clone, Debug)]
pub struct Run {
    /// The session that admitted it, by its place in the world.
    pub life: usize,
    pub admitted_at: Duration,
    pub out_max: u64,
    pub extensions: u32,
    /// Generated so far.
    pub generated: u64,
    /// Generated as last reported; `None` before there was a report.
    pub reported: Option<u64>,
    /// When the hold ends without a sign of life, on the node's clock.
    pub ends: Time,
    pub ended: Option<Ended>,
    /// The hold's time may have passed at a living sidecar: it covers what was reported, and no more.
    pub lapsed: bool,
    /// Its sidecar is gone.
    pub orphaned: bool,
    /// Nothing more is produced.
    pub over: bool,
    /// The session that booked it in place of its own, which is gone.
    pub booked_by: Option<usize>,
    /// True cost so far, in nano-USD.
    pub spent: i64,
    /// The most by which `spent` was above what the hold covered.
    pub under: i64,
}

impl Request {
    pub fn draw(rng: &mut Rng, profile: &Profile, account: usize, node: usize) -> Self {
        let offer = rng.index(OFFERS.len());
        let prompt = rng.magnitude(50, 4_000);
        let max_tokens = (!profile.overruns || rng.chance(700)).then(|| rng.magnitude(1, 600));
        let overruns = profile.overruns && rng.chance(150);
        let underestimates = profile.overruns && rng.chance(100);
        Self {
            account,
            user: None,
            node,
            id: RequestId { digest: u128::from(rng.draw()) << 64 | u128::from(rng.draw()), attempt: 0 },
            offer,
            prompt,
            prompt_asked: if underestimates { prompt / 2 } else { prompt },
            cached: if rng.chance(300) { rng.between(0, prompt) } else { 0 },
            max_tokens,
            n: if rng.chance(100) { 3 } else { 1 },
            capped: rng.chance(100),
            deadline: profile.hold_life_short.filter(|_| rng.chance(500)),
            generates: rng.magnitude(1, 900),
            overruns,
            extends: rng.chance(250),
            finish: profile.finish(rng),
            lasts: Duration::from_millis(rng.magnitude(1, 40_000)),
            reports: rng.between(0, 3),
            run: None,
            tries: 0,
        }
    }

    /// A request that costs all of `left`, or as much as one request can; `None` where nothing is that cheap.
    pub fn for_what_is_left(rng: &mut Rng, profile: &Profile, account: usize, node: usize, left: i64) -> Option<Self> {
        let prompt = 10;
        let [prompt_price, _, generated_price] = OFFERS[0].2;
        let most = (left * 1_000 - tokens(prompt) * prompt_price) / generated_price;
        let generates = u64::try_from(most).ok()?.min(60_000);
        let request = Self::draw(rng, profile, account, node);
        (generates > 0).then(|| Self {
            offer: 0,
            prompt,
            prompt_asked: prompt,
            cached: 0,
            max_tokens: Some(generates),
            n: 1,
            capped: false,
            deadline: None,
            generates,
            overruns: false,
            finish: Finish::Settles,
            lasts: Duration::from_secs(1),
            reports: 0,
            ..request
        })
    }

    pub fn ask<'a>(&'a self, account: &'a str) -> Ask<'a> {
        let (model, service_tier, _) = OFFERS[self.offer];
        Ask {
            account,
            user: self.user_name(),
            model,
            service_tier,
            prompt: Prompt::Tokens(self.prompt_asked),
            cached_tokens_hint: (self.cached > 0).then_some(self.cached.min(self.prompt_asked)),
            max_tokens: self.max_tokens,
            n: self.n,
            request_id: self.id,
            deadline: self.deadline,
            capped: self.capped,
        }
    }

    fn user_name(&self) -> Option<&str> {
        self.user.as_ref().map(|(_, name)| &**name)
    }

    /// As its own sidecar is told, where the hold may be forgotten.
    pub fn without_own_hold(&self) -> WithoutHold<'_> {
        WithoutHold { user: self.user_name(), ..self.without_hold() }
    }

    pub fn without_hold(&self) -> WithoutHold<'static> {
        let (model, service_tier, _) = OFFERS[self.offer];
        WithoutHold { model, service_tier, user: None }
    }

    pub fn usage(&self, generated: u64) -> Usage {
        Usage { prompt: self.prompt, cached: self.cached, generated }
    }

    /// The cost of its prompt and so many generated tokens, in nano-USD, rounded up once.
    pub fn cost(&self, generated: u64) -> i64 {
        let [_, cached_price, _] = self.price();
        rounded_up(self.pico(self.prompt - self.cached, generated) + tokens(self.cached) * cached_price)
    }

    /// What a hold for so many generated tokens covers: the prompt as it was asked, nothing cached.
    pub fn hold(&self, out_max: u64) -> i64 {
        rounded_up(self.pico(self.prompt_asked, out_max))
    }

    /// What it takes of the account's requests per minute.
    pub fn completions(&self) -> u64 {
        u64::from(self.n)
    }

    pub fn run(&self) -> &Run {
        self.run.as_ref().expect("only admitted requests run")
    }

    pub fn run_mut(&mut self) -> &mut Run {
        self.run.as_mut().expect("only admitted requests run")
    }

    /// What it generated once `part` of `whole` of its time has passed.
    pub fn generated_at(&self, part: u64, whole: u64) -> u64 {
        let run = self.run();
        let wish = self.generates * part / whole;
        let limit = if self.overruns { u64::MAX } else { run.out_max };
        wish.min(limit).max(run.generated)
    }

    /// Tokens came out: what they cost is spent, whether or not anybody is told.
    pub fn produce(&mut self, generated: u64) {
        let spent = self.cost(generated);
        self.run_mut().generated = generated;
        self.run_mut().spent = spent;
        self.reckon_under();
    }

    /// The hold's time passed: what it covered can be promised to others from now on.
    pub fn lapse(&mut self) {
        self.run_mut().lapsed = true;
        self.reckon_under();
    }

    /// What its session must have booked, as things stand.
    pub fn booked(&self) -> i64 {
        let run = self.run();
        match (run.ended, run.lapsed) {
            (Some(ended), _) => ended.cost.nanos(),
            (None, true) => run.reported.map_or(0, |generated| self.cost(generated)),
            (None, false) => 0,
        }
    }

    /// What was spent, or may be yet on its hold.
    pub fn promised(&self) -> i64 {
        let Some(run) = &self.run else { return 0 };
        let hold_is_open = run.ended.is_none() && !run.lapsed && !(run.orphaned && run.over);
        if hold_is_open { run.spent.max(self.hold(run.out_max)) } else { run.spent }
    }

    fn reckon_under(&mut self) {
        let run = self.run();
        let hold = self.hold(run.out_max);
        let covered = if run.lapsed { self.booked().min(hold) } else { hold };
        let under = run.under.max(run.spent - covered);
        self.run_mut().under = under;
    }

    fn price(&self) -> [i64; 3] {
        OFFERS[self.offer].2
    }

    fn pico(&self, uncached: u64, generated: u64) -> i64 {
        let [prompt, _, generated_price] = self.price();
        tokens(uncached) * prompt + tokens(generated) * generated_price
    }
}

fn tokens(count: u64) -> i64 {
    i64::try_from(count).expect("a few thousand tokens")
}

fn rounded_up(pico: i64) -> i64 {
    (pico + 999) / 1_000
}
