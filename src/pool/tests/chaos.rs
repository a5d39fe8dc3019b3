//! Sessions and a pool with everything that can go wrong between them.

use proptest::prelude::*;

use super::*;
use crate::decision::Month;
use crate::decision::terms::Mode;
use crate::pool::message::{Refusal, SyncReply, SyncRequest};
use crate::pool::session::Record;

#[derive(Clone, Debug)]
enum Step {
    Ask {
        who: usize,
        want: i64,
        need: i64,
        declare: bool,
    },
    Spend {
        who: usize,
        amount: i64,
    },
    GiveBack {
        who: usize,
        amount: i64,
    },
    Bye {
        who: usize,
    },
    /// A new session in the place of one that is gone for good.
    Kill {
        who: usize,
    },
    /// A request arrives; `again` leaves a copy under way.
    Arrive {
        which: usize,
        again: bool,
    },
    Hear {
        which: usize,
    },
    LoseRequest {
        which: usize,
    },
    LoseReply {
        which: usize,
    },
    Wait {
        seconds: u64,
    },
    Credit {
        amount: i64,
    },
    Configure {
        reclaim_mode: ReclaimMode,
        line: i64,
        limit: Option<i64>,
    },
    DeclineTopUp,
    Remember,
    RollBack,
}

fn step(faults: bool) -> impl Strategy<Value = Step> {
    let (who, which, amount) = (0..4usize, any::<prop::sample::Index>(), 0..40i64);
    let which = which.prop_map(|index| index.index(1 << 20));
    let mode = prop::sample::select(vec![ReclaimMode::Limbo, ReclaimMode::Return]);
    let ask = (who.clone(), amount.clone(), amount.clone(), prop::bool::weighted(0.1));
    let often = prop_oneof![
        6 => ask.prop_map(|(who, a, b, declare)| Step::Ask { who, want: a.max(b), need: a.min(b), declare }),
        6 => (which.clone(), any::<bool>()).prop_map(|(which, again)| Step::Arrive { which, again }),
        5 => which.clone().prop_map(|which| Step::Hear { which }),
        5 => (who.clone(), amount.clone()).prop_map(|(who, amount)| Step::Spend { who, amount }),
        2 => (who.clone(), amount.clone()).prop_map(|(who, amount)| Step::GiveBack { who, amount }),
        1 => who.clone().prop_map(|who| Step::Bye { who }),
        1 => which.clone().prop_map(|which| Step::LoseRequest { which }),
        1 => which.prop_map(|which| Step::LoseReply { which }),
        1 => amount.clone().prop_map(|amount| Step::Credit { amount }),
        1 => (0..40u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::DeclineTopUp),
    ];
    let rare = prop_oneof![
        3 => prop::sample::select(vec![70, hours(25), hours(40), hours(80), hours(24 * 20)])
            .prop_map(|seconds| Step::Wait { seconds }),
        1 => who.prop_map(|who| Step::Kill { who }),
        2 => (mode, 0..60i64, prop::option::of(0..200i64))
            .prop_map(|(reclaim_mode, line, limit)| Step::Configure { reclaim_mode, line, limit }),
        1 => Just(Step::Remember),
        1 => Just(Step::RollBack),
    ];
    prop_oneof![10 => often, if faults { 1 } else { 0 } => rare]
}

/// No message is under way for longer than half a tombstone's life, and no rollback reaches further back.
const UNDER_WAY_MAX_MS: u64 = 36 * 3_600_000;

struct World {
    pool: Pool,
    remembered: Option<Pool>,
    rolled_back: bool,
    askers: Vec<Asker>,
    closing: Vec<bool>,
    requests: Vec<(usize, Asker, SyncRequest, UnixMs)>,
    replies: Vec<(usize, SyncReply, UnixMs)>,
    now: UnixMs,
    next_run: u128,
    version: u64,
    purchased: Credit,
    line: Credit,
    spent: Credit,
}

impl World {
    fn new() -> Self {
        let top_up = crate::decision::terms::TopUpTerms { minimum: nanos(20), amount: nanos(30), monthly_cap: None };
        let terms = Terms { payment_method: true, top_up: Some(top_up), ..Terms::default() };
        let mut pool = Pool::new("acme".into(), terms, &rules(), START);
        pool.credit(1, Credit::ZERO, nanos(100), &rules(), START).unwrap();
        Self {
            pool,
            remembered: None,
            rolled_back: false,
            askers: (0..4).map(Asker::new).collect(),
            closing: vec![false; 4],
            requests: Vec::new(),
            replies: Vec::new(),
            now: START,
            next_run: 100,
            version: 1,
            purchased: nanos(100),
            line: Credit::ZERO,
            spent: Credit::ZERO,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Ask { who, want, need, declare } => self.ask(who, nanos(want), nanos(need), declare),
            Step::Spend { who, amount } if !self.closing[who] => {
                self.askers[who].turn_month(Month::of(self.now));
                let spent = self.askers[who].spend(nanos(amount), self.now);
                self.spent = self.spent.plus(spent);
            }
            Step::GiveBack { who, amount } if !self.closing[who] => self.askers[who].give_back(nanos(amount)),
            Step::Spend { .. } | Step::GiveBack { .. } => {}
            Step::Bye { who } => {
                self.closing[who] = true;
                self.ask(who, Credit::ZERO, Credit::ZERO, false);
            }
            Step::Kill { who } => self.replace(who),
            Step::Arrive { which, again } => self.arrive(which, again),
            Step::Hear { which } => self.hear(which),
            Step::LoseRequest { which } => drop(take(&mut self.requests, which)),
            Step::LoseReply { which } => drop(take(&mut self.replies, which)),
            Step::Wait { seconds } => self.now = UnixMs(self.now.0 + seconds * 1_000),
            Step::Credit { amount } => {
                (self.version, self.purchased) = (self.version + 1, self.purchased.plus(nanos(amount)));
                self.pool.credit(self.version, Credit::ZERO, self.purchased, &rules(), self.now).unwrap();
            }
            Step::Configure { reclaim_mode, line, limit } => {
                // A line only grows here, so that what was lent on it stays covered.
                self.line = self.line.max(nanos(line));
                let monthly_limit = limit.map(nanos);
                let old = (*self.pool.terms).clone();
                let terms = Terms { mode: Mode::Postpaid, reclaim_mode, credit_line: self.line, monthly_limit, ..old };
                self.pool.configure(self.pool.terms_version + 1, terms, &rules(), self.now);
            }
            Step::DeclineTopUp => {
                if let Some(key) = self.pool.summary(self.now).topup_pending {
                    self.pool.top_up_failed(&key, &rules(), self.now);
                }
            }
            Step::Remember => self.remembered = Some(self.pool.clone()),
            Step::RollBack => self.roll_back(),
        }
    }

    fn ask(&mut self, who: usize, want: Credit, need: Credit, declare: bool) {
        let (now, bye) = (self.now, self.closing[who]);
        let request = match (bye, declare) {
            (true, _) => self.askers[who].bye(now),
            (false, true) => self.askers[who].declare(now),
            (false, false) => self.askers[who].ask(want, need, now),
        };
        self.requests.push((who, self.askers[who].clone(), request, now));
    }

    fn replace(&mut self, who: usize) {
        self.askers[who] = Asker::new(self.next_run);
        self.closing[who] = false;
        self.next_run += 1;
    }

    fn arrive(&mut self, which: usize, again: bool) {
        let Some((who, asker, request, sent)) = take(&mut self.requests, which) else { return };
        if UNDER_WAY_MAX_MS < self.now.0 - sent.0 {
            return;
        }
        let before = self.pool.clone();
        match self.pool.sync(&asker.id, &request, &rules(), self.now) {
            Ok(reply) => {
                self.check_grant(&before, &asker, &request, &reply);
                self.replies.push((who, reply, sent));
            }
            Err(refusal) => {
                assert_eq!(self.pool, before, "a refusal changes nothing");
                assert_eq!(refusal, Refusal::NoSuchSession);
                self.refused(who, &asker, &request);
            }
        }
        if again {
            self.requests.push((who, asker, request, sent));
        }
    }

    /// A grant leaves `used + leased <= K`.
    fn check_grant(&self, before: &Pool, asker: &Asker, request: &SyncRequest, reply: &SyncReply) {
        let key = (asker.id.clone(), request.generation);
        let record = before.sessions.get(&key).copied().unwrap_or_default();
        let merged = if record.seq < request.seq { record.merge(request).record } else { Record { ..record } };
        if merged.granted < reply.granted {
            let audit = audited(&self.pool);
            assert!(audit.used.plus(audit.leased) <= audit.credits_and_line);
            assert!(!request.declare && !request.bye);
        }
    }

    fn refused(&mut self, who: usize, asker: &Asker, request: &SyncRequest) {
        let said = &self.askers[who].said;
        if self.askers[who].id == asker.id && (said.generation, said.seq) == (request.generation, request.seq) {
            self.askers[who].reopen();
            self.closing[who] = false;
        }
    }

    fn hear(&mut self, which: usize) {
        let Some((who, reply, sent)) = take(&mut self.replies, which) else { return };
        let asker = &mut self.askers[who];
        let is_newest = (reply.generation, reply.seq) == (asker.said.generation, asker.said.seq);
        asker.hear(&reply, sent);
        if is_newest && self.closing[who] && asker.said.bye {
            asker.reopen();
            self.closing[who] = false;
        }
    }

    /// Not where it forgets that a session came back from the dead: its tombstone could then end before it speaks again,
    /// which is the one way to count usage twice. It takes a day of silence, a return and a rollback in a row.
    fn roll_back(&mut self) {
        let came_back = |pool: &Pool| {
            let ended = pool.sessions.iter().filter(|(_, record)| !record.is_open());
            ended.map(|(key, _)| key).any(|key| self.pool.sessions.get(key).is_some_and(Record::is_open))
        };
        let recent = |pool: &Pool| self.now.0 - pool.now.0 <= UNDER_WAY_MAX_MS;
        if let Some(pool) = self.remembered.clone().filter(|pool| recent(pool) && !came_back(pool)) {
            (self.pool, self.rolled_back) = (pool, true);
            self.pool.credit(self.version, Credit::ZERO, self.purchased, &rules(), self.now).unwrap();
        }
    }

    fn check(&self) {
        let audit = audited(&self.pool);
        let month_sum = self.pool.months.past.iter().fold(self.pool.months.used, |sum, (_, used)| sum.plus(*used));
        let sums = self.pool.entries.iter().fold(Sums::default(), |sums, entry| sums.with(entry));
        assert_eq!(sums.drift(self.pool.history_sums()), None);
        assert!(audit.used <= self.spent, "nothing is counted twice");
        assert!(self.pool.months.past.len() == rules().months_kept || month_sum == audit.used, "months make up all");
        if !self.rolled_back {
            let bound = self.purchased.plus(self.line).plus(self.pool.oddities.reaped);
            assert!(self.spent <= bound, "{:?} spent of {bound:?}", self.spent);
        }
    }

    /// Everybody closes, and nothing is lost.
    fn finish(&mut self) {
        for who in 0..self.askers.len() {
            let bye = self.askers[who].bye(self.now);
            let id = self.askers[who].id.clone();
            self.pool.sync(&id, &bye, &rules(), self.now).unwrap();
        }
    }
}

fn nanos(amount: i64) -> Credit {
    Credit::from_nanos(amount * 1_000)
}

fn take<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.swap_remove(which % list.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_books_stay_true_whatever_happens(steps in prop::collection::vec(step(true), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check();
        }
    }

    #[test]
    fn without_reclaim_and_rollback_all_is_counted_and_nothing_overspent(
        steps in prop::collection::vec(step(false), 1..250),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check();
            prop_assert!(world.spent <= world.purchased);
        }
        world.finish();
        prop_assert_eq!((world.pool.used, world.pool.leased), (world.spent, Credit::ZERO));
        prop_assert_eq!(world.pool.oddities, Oddities::default());
    }

    /// The same pool, told twice, is the same pool.
    #[test]
    fn repeating_every_message_changes_nothing(steps in prop::collection::vec(step(false), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            let mut again = world.pool.clone();
            for (_, asker, request, _) in &world.requests {
                if again.sessions.get(&(asker.id.clone(), request.generation)).is_some_and(|r| request.seq <= r.seq) {
                    again.tick(world.now, &rules());
                    let before = again.clone();
                    drop(again.sync(&asker.id, request, &rules(), world.now));
                    prop_assert_eq!(&again.sessions, &before.sessions);
                    prop_assert_eq!((again.used, again.leased, again.ops), (before.used, before.leased, before.ops));
                }
            }
        }
    }

    #[test]
    fn merging_is_idempotent_and_commutative(
        counters in prop::collection::vec(prop::array::uniform4(0..1_000i64), 2..6),
        order in any::<prop::sample::Index>(),
    ) {
        let requests: Vec<SyncRequest> = counters.iter().map(|[used, returned, granted, reclaimed]| SyncRequest {
            used: nanos(*used),
            returned: nanos(*returned),
            granted_known: nanos(*granted),
            reclaimed_known: nanos(*reclaimed),
            ..Asker::new(1).said
        }).collect();
        let merge_all = |requests: &[SyncRequest]| {
            requests.iter().fold(Record::default(), |record, request| record.merge(request).record)
        };
        let mut turned = requests.clone();
        turned.rotate_left(order.index(requests.len()));
        turned.reverse();
        let once = merge_all(&requests);
        prop_assert_eq!(once, merge_all(&turned));
        prop_assert_eq!(once, requests.iter().fold(once, |record, request| record.merge(request).record));
        prop_assert!(once.outstanding() >= Credit::ZERO);
    }

    /// Any numbers at all: no panic, and a refusal or true books.
    #[test]
    fn any_request_is_taken_or_refused(
        requests in prop::collection::vec(any_request(), 1..20),
        moments in prop::collection::vec(any::<u64>(), 20),
    ) {
        let mut pool = pool("10");
        for (request, now) in requests.iter().zip(moments) {
            let before = pool.clone();
            if pool.sync(&Asker::new(u128::from(now % 3)).id, request, &rules(), UnixMs(now)).is_err() {
                prop_assert_eq!(&pool, &before);
            }
            prop_assert!(pool.audit().is_ok());
        }
    }
}

fn any_request() -> impl Strategy<Value = SyncRequest> {
    let edges = prop_oneof![
        0..1_000_000_000i64,
        (1i64 << 50) - 3..(1 << 50) + 1,
        (1i64 << 52) - 3..(1 << 52) + 1,
        -2..2i64,
        any::<i64>()
    ];
    let amounts = prop::array::uniform7(edges.prop_map(Credit::from_nanos));
    let silence = prop::option::of(any::<u64>().prop_map(Duration::from_millis));
    (amounts, 0..3u32, 0..6u64, any::<u32>(), silence, any::<[bool; 2]>()).prop_map(
        |(amounts, generation, seq, month, silence, [declare, bye])| {
            let [used, returned, granted_known, reclaimed_known, want, need, used_before] = amounts;
            SyncRequest {
                generation,
                seq,
                used,
                returned,
                granted_known,
                reclaimed_known,
                want: want.max(need),
                need: want.min(need),
                month: Month::from_yyyymm(month),
                used_before: used_before.min(used),
                terms_known: 0,
                silence,
                declare,
                bye,
                cap: None,
            }
        },
    )
}
