//! What all sessions take together in any window, however many they are and whatever gets lost.

use proptest::prelude::*;

use super::rates::blank;
use super::*;
use crate::pool::message::{RateReply, RateRequest, SessionId};
use crate::pool::when::later;

const PER_MINUTE: u64 = 600;

#[derive(Clone, Debug)]
struct Turn {
    who: usize,
    millis: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Use(u64),
    Ask { want: u64, need: u64, gives_up: bool },
    Arrive { again: bool },
    Hear,
    LoseReply,
}

/// A session that keeps the rules: it uses only live chunks of its newest reply, and gives the rest back.
struct Borrower {
    id: SessionId,
    said: RateRequest,
    chunks: Vec<(u64, UnixMs)>,
    request: Option<(RateRequest, UnixMs)>,
    reply: Option<(RateReply, UnixMs)>,
}

impl Borrower {
    fn new(run: u128) -> Self {
        let id = SessionId { node: "node".into(), run };
        Self { id, said: blank(0), chunks: Vec::new(), request: None, reply: None }
    }

    fn live(&mut self, now: UnixMs) -> u64 {
        let dead: u64 = self.chunks.iter().filter(|(_, dies)| *dies <= now).map(|(left, _)| left).sum();
        self.chunks.retain(|(_, dies)| now < *dies);
        self.said.returned[0] += dead;
        self.chunks.iter().map(|(left, _)| left).sum()
    }

    fn take(&mut self, wanted: u64, now: UnixMs) -> u64 {
        let taken = wanted.min(self.live(now));
        let mut rest = taken;
        for (left, _) in &mut self.chunks {
            let part = rest.min(*left);
            (*left, rest) = (*left - part, rest - part);
        }
        taken
    }

    fn ask(&mut self, want: u64, need: u64, gives_up: bool, now: UnixMs) {
        let live = self.live(now);
        if gives_up {
            self.said.returned[0] += self.chunks.drain(..).map(|(left, _)| left).sum::<u64>();
        }
        self.said.at_hand[0] = if gives_up { 0 } else { live };
        self.said.seq += 1;
        (self.said.want[0], self.said.need[0]) = (want.max(need), need);
        self.request = Some((self.said.clone(), now));
        self.reply = None;
    }

    fn hear(&mut self) {
        let Some((reply, sent)) = self.reply.take() else { return };
        if reply.seq == self.said.seq {
            self.said.granted_known = reply.granted;
            self.chunks.push((reply.fresh[0], later(sent, reply.chunk_life)));
        }
    }
}

fn run(turns: &[Turn], sessions: usize) -> Vec<(UnixMs, u64)> {
    let mut pool = RatePool::seeded(&blank(0), START).unwrap();
    let mut askers: Vec<Borrower> = (0..sessions).map(|run| Borrower::new(run as u128)).collect();
    let (mut now, mut taken) = (START, Vec::new());
    for turn in turns {
        now = UnixMs(now.0 + turn.millis);
        let asker = &mut askers[turn.who % sessions];
        match turn.what {
            What::Use(tokens) => taken.push((now, asker.take(tokens, now))),
            What::Ask { want, need, gives_up } => asker.ask(want, need, gives_up, now),
            What::Arrive { again } => {
                let Some((request, sent)) = asker.request.clone() else { continue };
                let reply = pool.sync(&asker.id, &request, &RateRules::default(), now).unwrap();
                asker.reply.get_or_insert((reply, sent));
                asker.request = asker.request.take().filter(|_| again);
            }
            What::Hear => asker.hear(),
            What::LoseReply => asker.reply = None,
        }
    }
    taken.retain(|(_, tokens)| *tokens > 0);
    taken
}

/// Tokens above `capacity + limit x window` in the worst window, in milliseconds of the limit.
fn worst_excess_millis(taken: &[(UnixMs, u64)]) -> u64 {
    let mut worst = 0;
    for (start, (from, _)) in taken.iter().enumerate() {
        let mut sum = 0;
        for (to, tokens) in &taken[start..] {
            sum += tokens;
            let covered = (PER_MINUTE * 60_000 + PER_MINUTE * (to.0 - from.0)) / 60_000;
            worst = worst.max(sum.saturating_sub(covered) * 60_000 / PER_MINUTE);
        }
    }
    worst
}

fn turn() -> impl Strategy<Value = Turn> {
    let what = prop_oneof![
        4 => prop_oneof![Just(u64::MAX), 0..100u64].prop_map(What::Use),
        4 => (prop_oneof![Just(1_000), 0..200u64], prop_oneof![3 => Just(0), 1 => 0..300u64], any::<bool>())
            .prop_map(|(want, need, gives_up)| What::Ask { want, need, gives_up }),
        5 => prop::bool::weighted(0.2).prop_map(|again| What::Arrive { again }),
        5 => Just(What::Hear),
        1 => Just(What::LoseReply),
    ];
    let millis = prop_oneof![30 => Just(0), 30 => 0..300u64, 10 => 900..2_100u64, 1 => 9_000..15_000u64];
    (0..30usize, millis, what).prop_map(|(who, millis, what)| Turn { who, millis, what })
}

/// A session asks, is answered, hears.
fn borrow(who: usize, want: u64, millis: u64) -> [Turn; 3] {
    exchange(who, What::Ask { want, need: 0, gives_up: false }, millis)
}

/// A session asks for what it cannot do with less of, and uses whatever it has then.
fn borrow_and_use(who: usize, need: u64, millis: u64) -> impl Iterator<Item = Turn> {
    let turns = exchange(who, What::Ask { want: need, need, gives_up: false }, millis);
    turns.into_iter().chain([Turn { who, millis: 0, what: What::Use(u64::MAX) }])
}

fn exchange(who: usize, ask: What, millis: u64) -> [Turn; 3] {
    [(ask, millis), (What::Arrive { again: false }, 0), (What::Hear, 0)].map(|(what, millis)| Turn {
        who,
        millis,
        what,
    })
}

#[test]
fn sessions_that_borrow_and_return_in_turn_cannot_empty_the_bucket_under_each_other() {
    for sessions in [2, 5, 20] {
        let mut turns = Vec::new();
        for round in 0..40 * sessions {
            turns.extend(borrow(round, 1_000, 1_000 / sessions as u64));
        }
        turns.extend((0..sessions).map(|who| Turn { who, millis: 0, what: What::Use(u64::MAX) }));
        for who in 0..40 * sessions {
            turns.extend(borrow(who, 1_000, 0));
            turns.push(Turn { who, millis: 0, what: What::Use(u64::MAX) });
        }
        let taken = run(&turns, sessions);
        assert!(taken.iter().map(|(_, tokens)| tokens).sum::<u64>() > 300);
        assert!(worst_excess_millis(&taken) <= 3_000, "{sessions}: {}", worst_excess_millis(&taken));
    }
}

#[test]
fn small_chunks_that_come_back_late_are_out_until_they_do() {
    let silent = 5;
    for gap in [9_000, 11_000, 14_000, 75_000] {
        let mut turns: Vec<Turn> = (0..silent).flat_map(|who| borrow(who, 1, gap)).collect();
        turns.extend(borrow_and_use(silent, 600, 11_000));
        turns.extend((0..silent).flat_map(|who| borrow_and_use(who, 10, 0)));
        let taken = run(&turns, silent + 1);
        assert!(worst_excess_millis(&taken) <= 3_000, "{gap}: {}", worst_excess_millis(&taken));
    }
}

#[test]
fn a_saturated_bucket_serves_its_limit() {
    for sessions in [1, 10, 100] {
        let mut turns = Vec::new();
        for round in 0..120 * sessions {
            turns.extend(borrow(round, 1_000, if round % sessions == 0 { 1_000 } else { 0 }));
            turns.push(Turn { who: round, millis: 0, what: What::Use(u64::MAX) });
        }
        let all: u64 = run(&turns, sessions).iter().map(|(_, tokens)| tokens).sum();
        let most = PER_MINUTE + PER_MINUTE * 2;
        assert!(most * 80 / 100 <= all && all <= most + 10, "{sessions}: {all} of {most}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_window_takes_more_than_capacity_and_limit(
        turns in prop::collection::vec(turn(), 1..400),
        sessions in 1..30usize,
    ) {
        let excess = worst_excess_millis(&run(&turns, sessions));
        prop_assert!(excess <= 3_000, "{} ms of the limit", excess);
    }

    /// Any numbers at all: no panic, and a refusal that changes nothing.
    #[test]
    fn any_rate_request_is_taken_or_refused(
        numbers in prop::collection::vec(prop::array::uniform8(prop_oneof![0..1_000u64, any::<u64>()]), 1..20),
    ) {
        let mut pool = RatePool::seeded(&blank(0), START).unwrap();
        for [seq, granted, debt, returned, used, want, need, now] in numbers {
            let three = |number: u64| [number, number / 2, 0];
            let request = RateRequest {
                generation: u32::try_from(seq % 3).unwrap(),
                granted_known: three(granted),
                debt: three(debt),
                returned: three(returned),
                used: three(used),
                want: three(want.max(need)),
                need: three(want.min(need)),
                ..blank(seq)
            };
            let before = pool.clone();
            let id = SessionId { node: "node".into(), run: u128::from(used % 2) };
            if pool.sync(&id, &request, &RateRules::default(), UnixMs(now)).is_err() {
                prop_assert_eq!(&pool, &before);
            }
        }
    }
}
