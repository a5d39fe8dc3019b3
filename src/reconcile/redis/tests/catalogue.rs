//! Another catalogue is felt where credits or terms change.

use super::super::Redis;
use super::super::address::Address;
use super::super::connection::Connection;
use super::super::scripts::CLOCK;
use super::call::PATIENCE;
use super::server::Server;
use crate::decision::Credit;
use crate::decision::catalogue::TierRule;
use crate::decision::terms::{Mode, Terms, Tier};
use crate::reconcile::store::{CreditKind, Papers, Purchase, Rules, Store};

fn usd(dollars: i64) -> Credit {
    Credit::from_nanos(dollars * 1_000_000_000)
}

/// A store whose one tier allows a postpaid account so much a month.
fn store(server: &Server, most: Credit) -> Redis {
    let mut rules = Rules::default();
    let (tier, needs) = (Tier::None, Some(Credit::ZERO));
    rules.pool.tiers =
        vec![TierRule { tier, needs, needs_billing: false, monthly_limit_max: Some(most), ceiling_percent: None }];
    let connection = Connection::to(&Address::parse(&server.url()).unwrap(), PATIENCE).unwrap();
    Redis::with_clock(connection, "tollgate", &rules, CLOCK)
}

#[tokio::test]
async fn another_limit_of_the_same_tier_is_felt_when_credits_change() {
    let server = Server::start();
    let (old, new) = (store(&server, usd(50)), store(&server, usd(70)));
    let terms = Terms { mode: Mode::Postpaid, credit_line: usd(1_000), ..Terms::default() };
    let made = old.create_account("acme".into(), terms).await.unwrap();
    let gift = Purchase {
        account: "acme".into(),
        id: "gift".into(),
        amount: usd(1),
        kind: CreditKind::Promotional,
        papers: Papers::default(),
    };
    let credited = new.add_credits(gift).await.unwrap();
    assert_eq!((made.month_limit, credited.month_limit), (Some(usd(50)), Some(usd(70))));
}
