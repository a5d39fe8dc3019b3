//! What an audit of a file looks at, and what it finds.

use std::collections::BTreeSet;

use super::{Bench, done};
use crate::decision::terms::Terms;
use crate::reconcile::embedded::audit;
use crate::reconcile::embedded::audit::Walk;
use crate::reconcile::embedded::file::HISTORY;
use crate::reconcile::embedded::records::encode;
use crate::reconcile::store::{Audited, Page, Store as _};

#[test]
fn an_audit_finds_a_history_that_does_not_make_up_the_balance() {
    for (number, wrong) in [(1, "the history has 0 lines of 1"), (2, "the history has 2 lines of 1")] {
        let bench = Bench::new();
        let store = bench.with_credit();
        let page = Page { newest_first: false, after: None, max: 9 };
        let mut line = done(store.history("acme".into(), page)).unwrap().entries.remove(0);
        let slipped: Result<(), _> = store.inner.change(|state, database, now| {
            let time = state.time(now);
            state.commit(database, time, &BTreeSet::new(), |write| {
                let mut table = write.open_table(HISTORY).unwrap();
                line.number = number;
                let before = table.remove(("acme", number)).unwrap().is_some();
                if !before {
                    table.insert(("acme", number), encode(&line).as_slice()).unwrap();
                }
                Ok(())
            })
        });
        slipped.unwrap();
        drop(store);
        assert_eq!(audit(&bench.path()).unwrap().drifted, [("acme".into(), wrong.into())]);
    }
}

/// Each account once, however few are looked at in one transaction.
#[test]
fn an_audit_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let store = bench.open().unwrap();
    // The third is a user of the second.
    for name in ["a", "b", "b/c", "d", "e"] {
        done(store.create_account(name.into(), Terms::default())).unwrap();
    }
    for max in 1..7 {
        let mut walk = Walk::default();
        while store.inner.look_up(|database| walk.go_on(database, max)).unwrap() {}
        assert_eq!(walk.found, Audited { accounts: 4, users: 1, drifted: vec![] }, "{max} at once");
    }
    assert_eq!(done(store.audit()).unwrap().accounts, 4);
}
