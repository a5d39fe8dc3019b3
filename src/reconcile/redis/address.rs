//! Where a store's servers are, and as whom they are asked.

use std::fmt;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, TlsCertificates,
};

/// The port of sentinels where a URL names none.
const SENTINEL_PORT: u16 = 26_379;
const SERVER_PORT: u16 = 6_379;

/// What a URL does not say, or should not: secrets and certificates.
#[derive(Clone, Default)]
pub struct Access {
    /// These win over what the URL says.
    pub user: Option<String>,
    pub password: Option<String>,
    /// What sentinels want; they are asked without, and never with the servers' password.
    pub sentinel_password: Option<String>,
    /// PEM of whom to trust instead of what the system trusts.
    pub ca: Option<Vec<u8>>,
    /// PEM of a certificate and its key, for servers that want one of their clients.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A server, a cluster of them, or a master that sentinels name.
#[derive(Clone)]
pub struct Address {
    pub(super) kind: Kind,
    /// Servers of a cluster to begin with, or sentinels.
    pub(super) places: Vec<Place>,
    server: ConnectionInfo,
    sentinel: ConnectionInfo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    Cluster,
    Sentinel { master: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The servers, without scheme and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.places.iter().map(Place::to_string).collect();
        f.write_str(&places.join(", "))
    }
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.kind, self.places)
    }
}

impl Address {
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `redis+cluster://…HOST:PORT,HOST:PORT`, or
    /// `redis+sentinel://…HOST:PORT,HOST:PORT/MASTER[/DATABASE]`; with `rediss` over TLS. Or why it is none.
    pub fn parse(url: &str) -> Result<Self, RedisError> {
        Self::parse_with(url, &Access::default())
    }

    /// As [`Address::parse`], with what the URL does not say.
    pub fn parse_with(url: &str, access: &Access) -> Result<Self, RedisError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["redis", "rediss"].contains(&base) {
            return Err(invalid("its scheme is not known"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        let (kind, database) = match kind {
            "" if !hosts.contains(',') => (Kind::One, path),
            "cluster" if path.is_empty() || path == "0" => (Kind::Cluster, ""),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(invalid("it does not name the master"));
                }
                (Kind::Sentinel { master: master.to_owned() }, database)
            }
            _ => return Err(invalid("only +cluster and +sentinel have many servers, and a cluster has one database")),
        };
        let port = if matches!(kind, Kind::Sentinel { .. }) { SENTINEL_PORT } else { SERVER_PORT };
        let one = |user: &str, host: &str, path: &str| format!("{base}://{user}{host}/{path}").into_connection_info();
        let places: Result<Vec<Place>, RedisError> =
            hosts.split(',').map(|host| place(one("", &with_port(host, port), "")?.addr())).collect();
        let places = places?;
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        let first = with_port(hosts.split(',').next().unwrap_or_default(), port);
        let server = identified(secured(one(&user, &first, database)?, access)?, access);
        let sentinel = secured(one("", &first, "")?, access)?;
        let sentinel = match &access.sentinel_password {
            Some(password) => with_password(sentinel, None, Some(password)),
            None => sentinel,
        };
        Ok(Self { kind, places, server, sentinel })
    }

    /// How to reach the server at `place`.
    pub(super) fn server(&self, place: &Place) -> ConnectionInfo {
        moved(&self.server, place)
    }

    pub(super) fn sentinel(&self, place: &Place) -> ConnectionInfo {
        moved(&self.sentinel, place)
    }
}

fn invalid(why: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, why).into()
}

fn with_port(host: &str, port: u16) -> String {
    let after_brackets = host.rsplit(']').next().unwrap_or(host);
    if after_brackets.contains(':') { host.to_owned() } else { format!("{host}:{port}") }
}

fn place(addr: &ConnectionAddr) -> Result<Place, RedisError> {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if !host.is_empty() => {
            Ok(Place { host: host.clone(), port: *port })
        }
        _ => Err(invalid("it names no host")),
    }
}

/// With the certificates, where it is over TLS.
fn secured(server: ConnectionInfo, access: &Access) -> Result<ConnectionInfo, RedisError> {
    let is_plain = !matches!(server.addr(), ConnectionAddr::TcpTls { .. });
    if access.ca.is_none() && access.client.is_none() {
        return Ok(server);
    }
    if is_plain {
        return Err(invalid("certificates are for TLS: write rediss instead of redis"));
    }
    let client = access.client.clone();
    let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates = TlsCertificates { client_tls, root_cert: access.ca.clone() };
    Ok(Client::build_with_tls(server, certificates)?.get_connection_info().clone())
}

fn identified(server: ConnectionInfo, access: &Access) -> ConnectionInfo {
    with_password(server, access.user.as_deref(), access.password.as_deref())
}

fn with_password(server: ConnectionInfo, user: Option<&str>, password: Option<&str>) -> ConnectionInfo {
    let mut settings = server.redis_settings().clone();
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    server.set_redis_settings(settings)
}

fn moved(server: &ConnectionInfo, place: &Place) -> ConnectionInfo {
    let Place { host, port } = place.clone();
    let addr = match server.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    server.clone().set_addr(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a URL comes to: its kind and places, and as whom a server is asked.
    fn check(url: &str, kind: Kind, places: &[(&str, u16)], user: Option<&str>, database: i64) {
        let address = Address::parse(url).unwrap();
        let expected: Vec<Place> =
            places.iter().map(|(host, port)| Place { host: (*host).to_owned(), port: *port }).collect();
        assert_eq!((&address.kind, &address.places), (&kind, &expected), "{url}");
        let elsewhere = address.server(&Place { host: "elsewhere".into(), port: 9 });
        assert_eq!(elsewhere.redis_settings().username(), user, "{url}");
        assert_eq!(elsewhere.redis_settings().db(), database, "{url}");
        let is_secure = matches!(elsewhere.addr(), ConnectionAddr::TcpTls { insecure: false, .. });
        assert_eq!(is_secure, url.starts_with("rediss"), "{url}");
        assert_eq!(
            address.sentinel(&expected[0]).redis_settings().password(),
            None,
            "sentinels get no server's secret"
        );
        assert!(!format!("{address:?}").contains("secret"));
    }

    #[test]
    fn urls_name_servers_of_every_kind() {
        check("redis://one", Kind::One, &[("one", 6_379)], None, 0);
        check("redis://me:secret@one:7/3", Kind::One, &[("one", 7)], Some("me"), 3);
        check("rediss://me:secret@one", Kind::One, &[("one", 6_379)], Some("me"), 0);
        check("redis+cluster://one:1,two", Kind::Cluster, &[("one", 1), ("two", 6_379)], None, 0);
        check("rediss+cluster://me:secret@one:1,two:2/", Kind::Cluster, &[("one", 1), ("two", 2)], Some("me"), 0);
        let main = || Kind::Sentinel { master: "main".into() };
        check("redis+sentinel://me:secret@one,two:2/main", main(), &[("one", 26_379), ("two", 2)], Some("me"), 0);
        check("rediss+sentinel://one/main/4", main(), &[("one", 26_379)], None, 4);
    }
}
