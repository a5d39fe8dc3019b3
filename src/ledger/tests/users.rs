//! Users with a spend cap. Requests of 1000+500 cost $0.005 at most; prices as in `scripts.rs`.

use std::sync::Arc;

use super::world::{ACCOUNT, World, check};
use crate::decision::Credit;
use crate::decision::users::UserCaps;
use crate::ledger::hold::Hold;
use crate::pool::message::UserCap;
use crate::pool::{Pool, SessionId, SyncRequest, pool_of_user};

impl World {
    pub(super) fn change_caps(&mut self, change: impl FnOnce(&mut UserCaps)) {
        change(self.terms.user_caps.get_or_insert_default());
    }

    /// Another sidecar spends for a user, as far as the pool lets it.
    pub(super) fn elsewhere(&mut self, user: &str, amount: Credit) -> String {
        let name: Arc<str> = pool_of_user(ACCOUNT, user).into();
        let pool =
            self.users.entry(Arc::clone(&name)).or_insert_with(|| Pool::of_user(name, &self.rules, self.now.unix));
        let session = SessionId { node: "other".into(), run: 9 };
        let limit = self.terms.user_caps.as_ref().and_then(|caps| caps.in_force(user)).unwrap_or(Credit::MAX);
        let cap = Some(UserCap { limit, reclaim_mode: self.terms.reclaim_mode });
        let quiet = SyncRequest { terms_known: self.versions, cap, ..hello(self.elsewhere_seq) };
        let asks = SyncRequest { want: amount, need: amount, used: self.spent_elsewhere, ..quiet };
        let granted = pool.sync(&session, &asks, &self.rules, self.now.unix).unwrap().granted;
        self.elsewhere_seq += 2;
        let rights = granted.minus(self.spent_elsewhere);
        if rights < amount {
            return format!("lent {rights}");
        }
        self.spent_elsewhere = self.spent_elsewhere.plus(amount);
        let tells = SyncRequest { seq: asks.seq + 1, used: self.spent_elsewhere, ..quiet };
        pool.sync(&session, &tells, &self.rules, self.now.unix).unwrap();
        String::new()
    }

    pub(super) fn user_sums(&self, user: &str) -> String {
        let Some(pool) = self.users.get(pool_of_user(ACCOUNT, user).as_str()) else { return "unknown".into() };
        let summary = pool.summary(self.now.unix);
        format!("used {} leased {} month {} {}", summary.used, summary.leased, summary.month, summary.month_used)
    }

    /// Holds add up to what their users hold.
    pub(super) fn audit_users(&self) {
        let shard = self.ledger.shard_of(ACCOUNT);
        for (index, user) in shard.accounts.iter().filter(|(_, account)| account.is_user()) {
            let is_theirs = |hold: &&Hold| hold.user.is_some_and(|place| place.index() == index);
            let open: Vec<_> = shard.holds.all_open().map(|(_, hold)| hold).filter(is_theirs).collect();
            let held = open.iter().fold(Credit::ZERO, |sum, hold| sum.plus(hold.cost));
            assert_eq!((held, open.len()), (user.lease.held, usize::try_from(user.open).unwrap()));
        }
    }
}

/// The first words of another session.
fn hello(seq: u64) -> SyncRequest {
    SyncRequest { generation: 1, seq, ..SyncRequest::default() }
}

#[test]
fn a_user_needs_rights_of_the_account_and_of_the_cap() {
    check(
        "pay 10
         terms cap=0.02
         serve r0 1000+500 => admitted $0.005 out 500
         user alice => unknown
         ask r1 1000+500 user=alice => short user $0.005 tokens [1000, 1000, 500]
         round => alice sync rates 1
         ask r1 1000+500 user=alice => admitted $0.005 out 500
         ask r1 1000+500 user=alice => admitted $0.005 out 500 again
         ask r1 1000+500 user=bob => denied invalid_request
         counts => accounts 1 open 2 ended 0
         settle r1 1000/0/200 user=alice => settled $0.0032
         wait 2s
         round
         user alice => used $0.0032 leased $0.0018 month 2026-10 $0.0032
         pool => used $0.0032 leased $0.165 month 2026-10 $0.0032",
    );
}

#[test]
fn the_cap_is_spent_to_the_last_request_and_no_further() {
    check(
        "pay 10
         terms cap=0.02
         serve r0 1+1
         serve r1 1000+500 user=alice => admitted $0.005 out 500
         serve r2 1000+500 user=alice => admitted $0.005 out 500
         serve r3 1000+500 user=alice => admitted $0.005 out 500
         serve r4 1000+500 user=alice => admitted $0.005 out 500
         serve r5 1000+500 user=alice => denied in_flight wait 1s
         serve r6 1000+500 user=bob => admitted $0.005 out 500
         serve r7 1000+500 => admitted $0.005 out 500
         settle r1 1000/0/500 => settled $0.005
         settle r2 1000/0/500 => settled $0.005
         settle r3 1000/0/500 => settled $0.005
         settle r4 1000/0/0 => settled $0.002
         wait 2s
         serve r8 1000+500 user=alice => denied user_limit
         serve r9 1000+166 user=alice => admitted $0.002996 out 166
         settle r9 1000/0/166 => settled $0.002996
         wait 2s
         round
         user alice => used $0.019996 leased $0.00 month 2026-10 $0.019996",
    );
}

#[test]
fn others_spend_of_the_same_cap() {
    check(
        "pay 10
         terms cap=0.02
         serve r0 1+1
         serve r1 1000+500 user=alice => admitted $0.005 out 500
         elsewhere alice 0.0149
         serve r2 1000+500 user=alice => denied in_flight wait 1s
         elsewhere alice 0.0002 => lent $0.00
         release r1
         serve r3 500+100 user=alice => admitted $0.0016 out 100
         wait 4s
         round
         elsewhere alice 0.0035
         elsewhere alice 0.0001 => lent $0.00",
    );
}

#[test]
fn caps_of_groups_and_overrides_are_in_force_at_once() {
    check(
        "pay 10
         terms cap=0.01 group=0.005:alice,carol
         serve r0 1+1
         serve r1 1000+500 user=alice => admitted $0.005 out 500
         settle r1 1000/0/500
         serve r2 1000+500 user=alice => denied user_limit
         serve r3 1000+500 user=carol => admitted $0.005 out 500
         serve r4 1000+500 user=bob => admitted $0.005 out 500
         terms alice=0.012
         touch
         round
         serve r5 1000+500 user=alice => admitted $0.005 out 500
         terms alice=0
         touch
         round
         serve r6 1+1 user=alice => denied user_limit
         settle r5 1000/0/500 => settled $0.005
         serve r7 1000+500 user=bob => admitted $0.005 out 500
         wait 2s
         round
         user alice => used $0.01 leased $0.00 month 2026-10 $0.01",
    );
}

#[test]
fn a_lowered_cap_takes_back_what_was_lent_under_the_higher_one() {
    check(
        "pay 10
         terms cap=1
         serve r0 1+1
         serve r1 1000+500 user=alice => admitted $0.005 out 500
         settle r1 1000/0/500
         wait 2s
         round
         user alice => used $0.005 leased $0.095 month 2026-10 $0.005
         terms cap=0.011
         touch
         round
         ask r2 1000+500 user=alice => short user $0.005 tokens [1000, 1000, 500]
         round
         ask r2 1000+500 user=alice => admitted $0.005 out 500
         serve r3 1000+500 user=alice => denied in_flight wait 1s
         user alice => used $0.005 leased $0.005 month 2026-10 $0.005",
    );
}

#[test]
fn a_cap_that_is_removed_frees_at_once() {
    check(
        "pay 10
         terms cap=0.005
         serve r0 1+1
         serve r1 1000+500 user=alice
         serve r2 1000+500 user=alice => denied in_flight wait 1s
         terms cap=none
         touch
         round
         serve r2 1000+500 user=alice => admitted $0.005 out 500
         extend r1 1000 => short user $0.006 tokens [0, 0, 1000]
         round
         extend r1 1000 => granted 1500
         settle r1 1000/0/1500 => settled $0.011
         release r2
         wait 4s
         round
         user alice => used $0.011 leased $0.192 month 2026-10 $0.011",
    );
}

#[test]
fn a_new_month_begins_at_nothing_and_a_request_counts_where_it_was_admitted() {
    check(
        "pay 10
         terms cap=0.01
         serve r0 1+1
         serve r1 1000+500 user=alice => admitted $0.005 out 500
         serve r2 1000+500 user=alice => admitted $0.005 out 500
         serve r3 1000+500 user=alice => denied in_flight wait 1s
         wait 11s
         serve r3 1000+500 user=alice => denied in_flight wait 1s
         settle r1 1000/0/500
         settle r2 1000/0/500
         wait 2s
         serve r4 1000+500 user=alice => admitted $0.005 out 500
         serve r5 1000+500 user=alice => admitted $0.005 out 500
         wait 2s
         round
         user alice => used $0.01 leased $0.01 month 2026-11 $0.00",
    );
}

#[test]
fn extensions_overruns_and_late_settles_count_for_the_user() {
    check(
        "pay 10
         terms cap=0.02
         serve r0 1+1
         serve r1 1000+500 user=alice life=5s
         extend r1 500 => short user $0.003 tokens [0, 0, 500]
         round
         extend r1 500 => granted 1000
         extend r1 5000 => refused user_limit
         wait 6s
         sweep
         settle r1 1000/0/1500 => settled $0.011 over $0.003
         book r0b 100/0/0 user=alice => settled $0.0002 over $0.0002
         serve r2 1000+500 user=alice => admitted $0.005 out 500
         settle r2 1000/0/1000 => settled $0.008 over $0.003
         wait 2s
         round
         user alice => used $0.0192 leased $0.00 month 2026-10 $0.0192",
    );
}

#[test]
fn an_explanation_looks_at_the_cap_and_touches_nothing() {
    check(
        "pay 10
         terms cap=0.004
         serve r0 1+1
         settle r0 1/0/1
         explain r1 1000+500 user=alice => denied user_limit",
    );
    check(
        "pay 10
         terms cap=0.006
         serve r0 1+1
         explain r1 1000+500 user=alice => admitted $0.005 out 500
         counts => accounts 1 open 1 ended 0
         user alice => unknown",
    );
}

#[test]
fn without_a_store_a_cap_yields_as_the_failure_policy_says() {
    let script = |policy: &str, outcome: &str| {
        check(&format!(
            "pay 10
             terms cap=1 {policy}
             serve r0 1+1
             alone r1 1000+500 user=alice => {outcome}"
        ));
    };
    script("cap=1", "denied unavailable wait 1s");
    script("policy=allowance", "admitted $0.005 out 500");
    script("policy=open", "admitted $0.005 out 500");
}

#[test]
fn everything_is_given_back_with_bye() {
    check(
        "pay 10
         terms cap=1
         serve r0 1+1
         serve r1 1000+500 user=alice
         settle r1 1000/0/500
         serve r2 1000+500 user=alice
         bye
         user alice => used $0.005 leased $0.00 month 2026-10 $0.005
         counts => accounts 1 open 0 ended 3 expired 2",
    );
}
