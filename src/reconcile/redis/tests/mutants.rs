//! The comparison finds what it is for: scripts that differ from the law in one place are told apart from it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::call::World;
use super::server::Server;

/// Calls within which a difference has to show.
const CALLS: u64 = 4_000;

/// Worlds in one of which it has to.
const WORLDS: u64 = 8;

/// What stands in the scripts, and what a slip would make of it.
const MUTANTS: &[(&str, &str)] = &[
    ("record[RECLAIMED] + rest, stage", "record[RECLAIMED], stage"),
    ("max(old[SPENT], q.used)", "q.used"),
    ("add(a, USED, news.spent)", "add(a, USED, q.used)"),
    ("q.seq <= old[SEQ]", "q.seq < old[SEQ]"),
    ("if visit.generations then make_way(visit) end", ""),
    ("least < 0 or money >= COUNTER_MAX", "least < 0 or money > COUNTER_MAX"),
    ("least < 0 or", ""),
    ("#text ~= REQUEST_BYTES", "#text < REQUEST_BYTES"),
    ("a[NOW] + ttl * 3 / 4", "a[NOW] + ttl"),
    ("if visit.is_renewed then", "if false then"),
    ("a[NOW] = max(a[NOW], time)", "a[NOW] = time"),
    ("- a[LEASED + 1] - margin", "- a[LEASED + 1]"),
    ("visit.holders * 2", "visit.holders"),
    ("a[NOW] - LIMBO - GRACE", "a[NOW] - GRACE"),
    ("a[DUE_AT] = min(a[DUE_AT], due)", ""),
    ("late = min(max(0,", "late = max(max(0,"),
    ("less(lent, 0, flow(limit_of(state, metric), CHUNK_SETTLE))", "less(lent, 0, 0, 0)"),
    ("limit * whole + minutes * rest + (parts - partly) / PARTS, partly", "floor(limit * millis / PARTS), 0"),
    ("if passed == 0 then", "if passed < 5 then"),
    ("ended[before] = ended[last]", ""),
    ("state[VERSION] = state[VERSION] + 1", ""),
    ("add(a[STRAGGLED], LATE_USED, nanos)", ""),
    ("since + LATE_WAIT <= a[NOW]", "since + LATE_WAIT * 30 <= a[NOW]"),
    ("a[STRAGGLED][LATE_MONTH] ~= month then", "false then"),
    ("if string.find(account, '/', 1, true) then return end\n  local lines", "local lines"),
    ("if a[MONTH_USED] ~= 0 or a[MONTH_USED + 1] ~= 0 then", "if true then"),
    ("normal(before - totals[15], before_nanos - totals[16])", "before, before_nanos"),
    ("normal(before - totals[15], before_nanos - totals[16])", "0, 0"),
    ("a[USED] - a[GIVEN]", "a[USED] - a[CREDITS]"),
    ("own[1] == 0 or is_less(", "is_less("),
    ("a[TIER] = to\n  bound_limit(a)", "a[TIER] = to"),
    ("pack({unpack(totals, 1, 8)})", "a[LOTS]"),
    ("then rearm_balance_alert(a) end", "then a[IS_LOW] = 0 end"),
    ("a[RETRY_AT] = a[NOW] + wait", "a[RETRY_AT] = a[NOW]"),
    ("if version < a[TERMS_VERSION] then return end", ""),
    ("if a[RETURNS] ~= returns then a[DUE_AT] = 0 end", ""),
    ("a[LINE], a[LIMIT_KIND] = USD, PAUSES", "a[LINE], a[LIMIT_KIND] = USD, 0"),
    ("if string.find(account, '/', 1, true) then return end", ""),
    ("if state[RESERVED] then state[RESERVED][COVERED] = 0 end", ""),
    ("(rest > 0 and 1 or 0)", "0"),
    ("for _, sum in ipairs({USED, RETIRED, MONTH_USED})", "for _, sum in ipairs({USED, MONTH_USED})"),
    ("math.ceil(tokens % 1024 * parts / 1024)", "0"),
    ("now < other[A_UNTIL] + SMALL_SETTLE", "now < other[A_UNTIL]"),
    ("borrower[UNTIL] + SMALL_SETTLE <= now", "false"),
    ("times = max(times, 1)", ""),
    ("table.insert(own, number % 1000)", "table.insert(own, number % 100)"),
];

#[test]
fn a_slip_in_a_script_is_found() {
    let server = Server::start();
    let is_missed = |(index, (right, slip)): (usize, &(&'static str, &'static str))| {
        // Not every world has the rules in which it matters.
        let mut seeds = (0..WORLDS).map(|world| 1_000_000 + WORLDS * u64::try_from(index).unwrap() + world);
        (!seeds.any(|seed| is_found(&server, seed, right, slip))).then_some(*right)
    };
    let missed: Vec<&str> = MUTANTS.iter().enumerate().filter_map(is_missed).collect();
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

fn is_found(server: &Server, seed: u64, right: &str, slip: &str) -> bool {
    let mut world = World::new(&server.url(), seed);
    assert!(world.mutate(right, slip), "{right:?} is not in the scripts");
    let ran = catch_unwind(AssertUnwindSafe(|| {
        while world.calls < CALLS {
            world.step();
        }
        world.finish();
    }));
    ran.is_err()
}
