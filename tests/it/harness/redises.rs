//! Many Redis servers: a cluster, a master with a replica and sentinels, and one behind TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{Program, run};
use super::redis::{Redis, ask};
use super::{eventually, free_port, tool};

/// Slots of a cluster.
const SLOTS: usize = 16_384;
const SHARDS: usize = 3;

/// Three masters with one replica each: server `n` and server `n + 3` are shard `n`.
pub struct Cluster {
    pub servers: Vec<Redis>,
}

impl Cluster {
    pub async fn start() -> Self {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..2 * SHARDS {
            let bus = free_port().to_string();
            let settings = "--cluster-enabled yes --cluster-node-timeout 1000 --cluster-require-full-coverage no \
                            --cluster-replica-validity-factor 0 --repl-diskless-sync-delay 0 --cluster-port";
            let args: Vec<&str> = settings.split_whitespace().chain([bus.as_str()]).collect();
            servers.push(Redis::with(&args).await);
            buses.push(bus);
        }
        let cluster = Self { servers };
        cluster.join(&buses).await;
        cluster
    }

    async fn join(&self, buses: &[String]) {
        let (first, others) = self.servers.split_first().expect("there are servers");
        for (number, server) in self.servers.iter().enumerate() {
            let _: () = server.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await;
            if number < SHARDS {
                let (begin, end) = (number * SLOTS / SHARDS, (number + 1) * SLOTS / SHARDS - 1);
                let _: () = server.ask(&format!("CLUSTER ADDSLOTSRANGE {begin} {end}")).await;
            }
        }
        for (server, bus) in others.iter().zip(&buses[1..]) {
            let _: () = first.ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port)).await;
        }
        for (number, server) in self.servers.iter().enumerate().skip(SHARDS) {
            let master: String = self.servers[number - SHARDS].ask("CLUSTER MYID").await;
            let replicate = format!("CLUSTER REPLICATE {master}");
            eventually("a replica", async || ask::<()>(server.port, &replicate).await.ok()).await;
        }
        for server in &self.servers {
            eventually("a whole cluster", async || {
                let info: String = server.ask("CLUSTER INFO").await;
                let nodes: String = server.ask("CLUSTER NODES").await;
                let all = nodes.matches("slave").count() == SHARDS && !nodes.contains("handshake");
                (info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384") && all)
                    .then_some(())
            })
            .await;
        }
        for master in &self.servers[..SHARDS] {
            eventually("a replica in line", async || {
                let info: String = master.ask("INFO replication").await;
                info.contains("state=online").then_some(())
            })
            .await;
        }
    }

    pub fn url(&self) -> String {
        let places: Vec<String> = self.servers[..SHARDS].iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis+cluster://{}", places.join(","))
    }

    /// The slot that an account's keys are in.
    pub async fn slot(&self, account: &str) -> usize {
        let bucket: usize = self.servers[1].ask(&format!("CLUSTER KEYSLOT {account}")).await;
        self.servers[1].ask(&format!("CLUSTER KEYSLOT {}", bucket % 1_024)).await
    }

    /// The shard that an account is in while slots are as at the start.
    pub async fn shard(&self, account: &str) -> usize {
        let slot = self.slot(account).await;
        (0..SHARDS).rfind(|shard| shard * SLOTS / SHARDS <= slot).expect("every slot is somewhere")
    }
}

/// A master, its replica, and three sentinels that watch them.
pub struct Watched {
    pub master: Redis,
    pub replica: Redis,
    sentinels: Vec<(u16, Program)>,
    _folder: tempfile::TempDir,
}

impl Watched {
    pub async fn start() -> Self {
        let master = Redis::with(&["--repl-diskless-sync-delay", "0"]).await;
        let port = master.port.to_string();
        let replica = Redis::with(&["--replicaof", "127.0.0.1", &port]).await;
        eventually("a replica in line", async || {
            let info: String = master.ask("INFO replication").await;
            info.contains("state=online").then_some(())
        })
        .await;
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let sentinels = (0..3).map(|_| sentinel(folder.path(), &port)).collect();
        let watched = Self { master, replica, sentinels, _folder: folder };
        for (sentinel, _) in &watched.sentinels {
            eventually("sentinels that know each other", async || {
                let about: std::collections::HashMap<String, String> =
                    ask(*sentinel, "SENTINEL MASTER main").await.ok()?;
                (about["num-other-sentinels"] == "2" && about["num-slaves"] == "1").then_some(())
            })
            .await;
        }
        watched
    }

    /// From now on servers show keys to the user `tollgate` with [`SECRET`] alone, and sentinels want [`OF_SENTINELS`].
    pub async fn guard(&self) {
        for server in [&self.master, &self.replica] {
            let _: () = server.ask(&format!("ACL SETUSER tollgate {USER}")).await;
            let _: () = server.ask("ACL SETUSER default resetkeys").await;
        }
        let known = format!("SENTINEL CONFIG SET sentinel-pass {OF_SENTINELS}");
        let wanted = format!("ACL SETUSER default resetpass >{OF_SENTINELS}");
        for command in [known, wanted] {
            for (sentinel, _) in &self.sentinels {
                let () = ask(*sentinel, &command).await.unwrap_or_else(|error| panic!("{command}: {error}"));
            }
        }
    }

    pub fn url(&self) -> String {
        let places: Vec<String> = self.sentinels.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/main", places.join(","))
    }
}

fn sentinel(folder: &Path, master: &str) -> (u16, Program) {
    let port = free_port();
    let folder = folder.join(port.to_string());
    fs::create_dir(&folder).expect("the folder is writable");
    let settings = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
        folder.display()
    );
    fs::write(folder.join("sentinel.conf"), settings).expect("the folder is writable");
    let mut command = Command::new(tool("bin/redis-server"));
    (port, Program::start(command.arg(folder.join("sentinel.conf")).arg("--sentinel"), &folder))
}

/// A server that speaks TLS alone, wants certificates of its clients, and knows one user.
pub struct Guarded {
    pub port: u16,
    _program: Program,
    folder: tempfile::TempDir,
}

/// The user's password.
pub const SECRET: &str = "a-very-secret-word";
/// The password of sentinels.
pub const OF_SENTINELS: &str = "another-secret-word";
/// What the user may do, and its password.
pub const USER: &str = "on >a-very-secret-word ~tollgate:* &tollgate:* +@all -@dangerous";

impl Guarded {
    pub async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("there is a temporary folder"), free_port());
        certificates(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let settings = format!(
            "port 0\ntls-port {port}\nbind 127.0.0.1\nsave \"\"\ndir {}\ntls-cert-file {}\ntls-key-file {}\n\
             tls-ca-cert-file {}\ntls-auth-clients yes\nuser default off\n\
             user tollgate {USER}\n",
            folder.path().display(),
            at("server.pem"),
            at("server.key"),
            at("ca.pem"),
        );
        fs::write(folder.path().join("redis.conf"), settings).expect("the folder is writable");
        let mut command = Command::new(tool("bin/redis-server"));
        let program = Program::start(command.arg(folder.path().join("redis.conf")), folder.path());
        eventually("a Redis server", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { port, _program: program, folder }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// An authority, a server's certificate for this machine, and a client's.
pub fn certificates(folder: &Path) {
    let key = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("{key} -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("the folder is writable");
    for name in ["server", "client"] {
        openssl(folder, &format!("{key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names";
        openssl(folder, &format!("{sign} -in {name}.csr -out {name}.pem"));
    }
}

fn openssl(folder: &Path, command: &str) {
    let (code, _, said) = run(Command::new("openssl").current_dir(folder).args(command.split(' ')));
    assert_eq!(code, 0, "openssl {command}: {said}");
}
