//! What operators may ask for, what they are told where they may not, and what is done where they may.

use std::sync::Arc;
use std::time::Duration;

use super::{Accounts, AccountsError};
use crate::clock::Clock;
use crate::decision::Credit;
use crate::decision::terms::{Mode, Suspension, Terms, Tier, TopUpTerms};
use crate::reconcile::bench::{catalogue, ledger, runtime};
use crate::reconcile::embedded::Embedded;
use crate::reconcile::keys::{KeySettings, Keys};
use crate::reconcile::store::{CreditKind, Papers, Purchase, Rules, StoreError};
use crate::reconcile::{RoundSettings, Rounds};

fn with_accounts(test: impl AsyncFnOnce(Accounts)) {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = Rules::default();
    rules.pool.tiers = catalogue().tiers.clone();
    let store = Embedded::open(&folder.path().join("store.redb"), rules, || Clock.now()).unwrap();
    let (store, ledger): (Arc<Embedded>, _) = (Arc::new(store), Arc::new(ledger()));
    let rounds = Arc::new(Rounds::new(ledger.clone(), store.clone(), Clock, RoundSettings::default()));
    let keys = Arc::new(Keys::new(store.clone(), Clock, KeySettings::default()));
    runtime().block_on(test(Accounts { store, catalogue: catalogue(), ledger, rounds, keys, clock: Clock }));
}

fn usd(dollars: i64) -> Credit {
    Credit::from_nanos(dollars * 1_000_000_000)
}

fn postpaid(monthly_limit: Option<Credit>) -> Terms {
    Terms {
        mode: Mode::Postpaid,
        payment_method: true,
        billing_profile: true,
        credit_line: usd(100),
        monthly_limit,
        ..Terms::default()
    }
}

fn top_up(minimum: i64, amount: i64, monthly_cap: Option<i64>) -> Terms {
    let top_up = TopUpTerms { minimum: usd(minimum), amount: usd(amount), monthly_cap: monthly_cap.map(usd) };
    Terms { top_up: Some(top_up), ..Terms::default() }
}

fn custom(model: &str) -> Terms {
    Terms { custom_limits: [(model.into(), [1; 3])].into(), ..Terms::default() }
}

/// The fields that are found at fault, in order.
fn fields<T>(result: Result<T, AccountsError>) -> Vec<&'static str> {
    match result {
        Ok(_) => Vec::new(),
        Err(AccountsError::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn terms_are_checked_field_by_field() {
    let line = |mode, credit_line| Terms { mode, credit_line, ..Terms::default() };
    let limit = |nanos| Terms { monthly_limit: Some(Credit::from_nanos(nanos)), ..Terms::default() };
    let cases: &[(Terms, &[&str])] = &[
        (Terms::default(), &[]),
        (limit(0), &[]),
        (limit(5_000_000_000), &[]),
        (limit(5_500_000_000), &["terms.monthly_limit"]),
        (limit(-1_000_000_000), &["terms.monthly_limit"]),
        (postpaid(Some(usd(50))), &[]),
        (postpaid(Some(usd(51))), &["terms.monthly_limit"]),
        (Terms { tier_override: Some(Tier::Two), ..postpaid(Some(usd(500))) }, &[]),
        (Terms { tier_override: Some(Tier::Unlimited), ..postpaid(Some(usd(1_000_000))) }, &[]),
        (line(Mode::Prepaid, usd(1)), &["terms.credit_line"]),
        (line(Mode::Contract, usd(1)), &[]),
        (line(Mode::Contract, usd(-1)), &["terms.credit_line"]),
        (line(Mode::Contract, Credit::MAX.plus(usd(1))), &["terms.credit_line"]),
        (top_up(0, 20, None), &[]),
        (top_up(-1, 0, None), &["terms.top_up.amount", "terms.top_up.minimum"]),
        (top_up(5, 20, Some(19)), &["terms.top_up.monthly_cap"]),
        (custom("kimi-k3"), &[]),
        (custom("kimi-k3:fast"), &[]),
        (custom("kimi-k4"), &["terms.custom_limits"]),
    ];
    with_accounts(async |accounts| {
        for (number, (terms, expected)) in cases.iter().enumerate() {
            let created = accounts.create(&format!("account-{number}"), terms.clone(), false).await;
            assert_eq!(fields(created), *expected, "{terms:?}");
        }
    });
}

#[test]
fn names_are_plain_and_short() {
    let long = "a".repeat(64);
    with_accounts(async |accounts| {
        for (name, is_fine) in
            [("a", true), ("A.b_c-9", true), (&*long, true), ("", false), ("a b", false), ("ä", false), ("a/b", false)]
        {
            assert_eq!(fields(accounts.create(name, Terms::default(), false).await).is_empty(), is_fine, "{name:?}");
        }
        let longer = accounts.create(&"a".repeat(65), Terms::default(), false).await;
        assert_eq!(fields(longer), ["account"]);
    });
}

#[test]
fn all_faults_are_told_at_once_with_what_to_write() {
    with_accounts(async |accounts| {
        let error = accounts.create("a b", top_up(-1, 0, None), false).await.unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert_eq!(lines[0], "account: must have 1 to 64 characters of A-Z a-z 0-9 . _ -");
    });
}

#[test]
fn starter_credit_is_given_once_and_is_promotional() {
    with_accounts(async |accounts| {
        let record = accounts.create("acme", Terms::default(), true).await.unwrap();
        assert_eq!((record.credits_promotional, record.credits_purchased), (usd(1), usd(0)));
        let again = accounts.create("acme", Terms::default(), true).await;
        assert!(matches!(again, Err(AccountsError::Store(StoreError::AccountExists(_)))));
        assert_eq!(accounts.get("acme").await.unwrap().balance, usd(1));
    });
}

#[test]
fn a_postpaid_account_without_a_limit_gets_its_tiers_and_may_raise_it_when_it_has_paid() {
    with_accounts(async |accounts| {
        let record = accounts.create("acme", postpaid(None), false).await.unwrap();
        assert_eq!((record.terms.monthly_limit, record.month_limit), (None, Some(usd(50))));
        let raised = postpaid(Some(usd(500)));
        assert_eq!(fields(accounts.configure("acme", 1, raised.clone()).await), ["terms.monthly_limit"]);
        let purchase = Purchase {
            account: "acme".into(),
            id: "1".into(),
            amount: usd(50),
            kind: CreditKind::Purchased,
            papers: Papers::default(),
        };
        accounts.add_credits(purchase.clone()).await.unwrap();
        let record = accounts.configure("acme", 1, raised.clone()).await.unwrap();
        assert_eq!((record.terms_version, record.terms), (2, raised.clone()));

        // A refund takes the tier away: what was agreed on stays, and everything else can still be changed.
        let refund = |id: &str| Papers { refund_of: id.into(), ..Papers::default() };
        let refund = Purchase { id: "2".into(), kind: CreditKind::Refund, papers: refund("1"), ..purchase };
        assert_eq!(accounts.add_credits(refund).await.unwrap().month_limit, Some(usd(50)));
        for (terms, refused) in [
            (Terms { suspension: Suspension::Abuse, ..raised.clone() }, None),
            (Terms { mode: Mode::Contract, ..raised.clone() }, None),
            (raised.clone(), Some("terms.monthly_limit")),
            (postpaid(Some(usd(499))), Some("terms.monthly_limit")),
            (postpaid(Some(usd(50))), None),
        ] {
            let version = accounts.get("acme").await.unwrap().terms_version;
            assert_eq!(
                fields(accounts.configure("acme", version, terms.clone()).await),
                Vec::from_iter(refused),
                "{terms:?}"
            );
        }
    });
}

#[test]
fn purchases_have_a_name_and_an_amount() {
    with_accounts(async |accounts| {
        accounts.create("acme", Terms::default(), false).await.unwrap();
        let purchase = |id: &str, dollars| Purchase {
            account: "acme".into(),
            id: id.into(),
            amount: usd(dollars),
            kind: CreditKind::Purchased,
            papers: Papers::default(),
        };
        assert_eq!(fields(accounts.add_credits(purchase("", 0)).await), ["purchase_id", "amount"]);
        assert_eq!(fields(accounts.add_credits(purchase("a b", 1)).await), ["purchase_id"]);
        assert_eq!(fields(accounts.add_credits(purchase(&"a".repeat(129), -1)).await), ["purchase_id", "amount"]);
        assert_eq!(accounts.add_credits(purchase("ch_1:x/2", 1)).await.unwrap().balance, usd(1));
        let other = |kind, dollars, refund_of: &str, note: &str| Purchase {
            kind,
            papers: Papers { refund_of: refund_of.into(), note: note.into(), ..Papers::default() },
            ..purchase("other", dollars)
        };
        for (refused, named) in [
            (other(CreditKind::Adjustment, 0, "", "why"), &["amount"][..]),
            (other(CreditKind::Adjustment, -1, "", ""), &["note"]),
            (other(CreditKind::Adjustment, -1, "ch_1:x/2", "a\nb"), &["refund_of", "note"]),
            (other(CreditKind::Refund, 1, "", ""), &["refund_of"]),
            (other(CreditKind::Refund, -1, "ch_1:x/2", &"a".repeat(501)), &["amount", "note"]),
            (other(CreditKind::Refund, 1, "ch 1", ""), &["refund_of"]),
            (other(CreditKind::Refund, 1, &"a".repeat(129), ""), &["refund_of"]),
        ] {
            assert_eq!(fields(accounts.add_credits(refused).await), named);
        }
        let adjusted =
            |id: &str, dollars| Purchase { id: id.into(), ..other(CreditKind::Adjustment, dollars, "", "why") };
        accounts.add_credits(adjusted("down", -600_000_000)).await.unwrap();
        let more = accounts.add_credits(adjusted("more", -600_000_000)).await.unwrap_err().to_string();
        assert!(more.contains("between -$1000000000.00 and $1000000000.00"), "{more}");
    });
}

#[test]
fn no_two_keys_are_alike_and_labels_are_plain() {
    with_accounts(async |accounts| {
        accounts.create("acme", Terms::default(), false).await.unwrap();
        let first = accounts.create_key("acme", "laptop").await.unwrap();
        let second = accounts.create_key("acme", "laptop").await.unwrap();
        assert_ne!(first.key, second.key);
        let mut listed: Vec<_> = accounts.keys("acme").await.unwrap();
        listed.sort_by_key(|key| key.id != first.record.id);
        assert_eq!(listed, [first.record, second.record]);
        assert_eq!(fields(accounts.create_key("acme", "a\nb").await), ["label"]);
        assert_eq!(fields(accounts.create_key("acme", &"x".repeat(129)).await), ["label"]);
    });
}

#[test]
fn a_change_is_said_in_the_next_round_without_a_tick() {
    with_accounts(async |accounts| {
        accounts.create("acme", Terms::default(), false).await.unwrap();
        let nudged = accounts.rounds.nudged.notified();
        tokio::time::timeout(Duration::from_secs(20), nudged).await.unwrap();
    });
}
