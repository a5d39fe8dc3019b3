//! A server that may have forgotten what it lent lends nothing before everything was declared.

use std::time::Duration;

use redis::Client;

use super::super::address::Address;
use super::super::connection::Connection;
use super::super::scripts::CLOCK;
use super::super::{Redis, Rules};
use super::server::Server;
use crate::pool::{PoolRules, RateRules};
use crate::reconcile::store::Store;

/// A loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the server another one, as a failover would, and ends every connection to it.
async fn replace(client: &Client, with_new_history: bool) {
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut commands = redis::pipe();
    if with_new_history {
        commands.cmd("REPLICAOF").arg("127.0.0.1").arg(1).cmd("REPLICAOF").arg("NO").arg("ONE");
    }
    commands.cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
    commands.query_async::<redis::Value>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn rounds_fail_until_a_replaced_server_was_noticed() {
    let server = Server::start();
    let connection = Connection::to(&Address::parse(&server.url()).unwrap(), PATIENCE).unwrap();
    let rules = Rules { pool: PoolRules::default(), rate: RateRules::default() };
    let store = Redis::with_clock(connection, "tollgate", &rules, CLOCK);
    let client = Client::open(server.url()).unwrap();
    store.exchange(Vec::new()).await.unwrap();
    assert!(!store.take_replaced(), "the first server replaces none");

    for (with_new_history, is_replaced) in [(false, false), (true, true)] {
        replace(&client, with_new_history).await;
        // Whatever the lost connection costs is over once others than rounds are answered.
        while store.accounts(None, 1).await.is_err() {}
        assert_eq!(store.exchange(Vec::new()).await.is_err(), is_replaced, "it may have forgotten what it lent");
        assert_eq!(store.exchange(Vec::new()).await.is_err(), is_replaced, "and still may");
        assert_eq!(store.take_replaced(), is_replaced);
        store.exchange(Vec::new()).await.unwrap();
    }
}
