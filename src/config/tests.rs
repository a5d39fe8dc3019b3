//! What settings come to, and what is said of wrong ones.

use std::io::Write as _;

use super::layers::is_service_link;
use super::table::SETTINGS;
use super::*;

/// Loads a file's text, environment variables and flags; the flags are `path=text`.
fn load_from(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Settings, Faults> {
    let mut on_disk = tempfile::Builder::new().prefix("tollgate").suffix(".toml").tempfile().unwrap();
    on_disk.write_all(file.as_bytes()).unwrap();
    let flag = |flag: &&str| {
        let (path, text) = flag.split_once('=').unwrap();
        (SETTINGS.iter().find(|setting| setting.path == path).unwrap(), text.to_owned())
    };
    load(Sources {
        file: Some(on_disk.path().to_owned()),
        environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        flags: Flags(flags.iter().map(flag).collect()),
        demo: false,
    })
}

const STORE: &str = "store = \"/tmp/tollgate.redb\"\n";

/// The faults of a file that is right but for `lines`, as they are printed.
fn check_faults(lines: &str, variables: &[(&str, &str)], flags: &[&str], expected: &[&str]) {
    let faults = load_from(&format!("{STORE}{lines}"), variables, flags).expect_err(lines).to_string();
    for part in expected {
        assert!(faults.contains(part), "{lines:?} {variables:?} {flags:?}: no {part:?} in\n{faults}");
    }
    assert_eq!(faults.lines().count(), expected.len(), "{lines:?}:\n{faults}");
}

#[test]
fn later_sources_win() {
    let file = format!("{STORE}listen = \"127.0.0.1:1\"\ndrain = \"1s\"\nhold.life = \"2s\"\n");
    let variables = [("TOLLGATE_LISTEN", "127.0.0.1:2"), ("TOLLGATE_DRAIN", "2s"), ("TOLLGATE_STORE", "")];
    let settings = load_from(&file, &variables, &["listen=127.0.0.1:3"]).unwrap();
    assert_eq!(settings.listeners.requests.port(), 3);
    assert_eq!(settings.drain, Duration::from_secs(2));
    assert_eq!(settings.ledger.hold_life, Duration::from_secs(2));
    assert!(matches!(settings.store, Some(StoreAt::File(path)) if path.ends_with("tollgate.redb")));
    assert_eq!(settings.listeners.http.port(), 7302);
}

#[test]
fn the_defaults_are_whole_but_for_the_store() {
    let sources = |demo| Sources { file: None, environment: Vec::new(), flags: Flags::default(), demo };
    assert_eq!(load(sources(true)).unwrap().gate.pool_wait, Duration::from_secs(2));
    let faults = load(sources(false)).unwrap_err();
    assert_eq!(faults.0.len(), 1, "{faults}");
    assert!(faults.to_string().starts_with("store: is missing; name the file"), "{faults}");
}

#[test]
fn the_demo_is_as_patient_as_it_is_told() {
    let flag = (SETTINGS.iter().find(|setting| setting.path == "check.pool_wait").unwrap(), "50ms".to_owned());
    let sources = Sources { file: None, environment: Vec::new(), flags: Flags(vec![flag]), demo: true };
    assert_eq!(load(sources).unwrap().gate.pool_wait, Duration::from_millis(50));
}

#[test]
fn a_store_is_a_file_or_a_server() {
    let load = |store: &str| load_from(&format!("store = {store:?}"), &[], &[]);
    assert!(matches!(load("store").unwrap().store, Some(StoreAt::File(_))));
    let settings = load("redis://:secret@localhost:7000/2").unwrap();
    let Some(StoreAt::Server { prefix, .. }) = &settings.store else { panic!("{settings:?}") };
    assert_eq!(prefix, "tollgate");
    assert!(!format!("{settings:?}").contains("secret"));
    for right in ["rediss://localhost", "redis+cluster://:secret@one:1,two:2", "redis+sentinel://one,two:2/main/1"] {
        let settings = load(right).unwrap();
        assert!(matches!(settings.store, Some(StoreAt::Server { .. })) && !format!("{settings:?}").contains("secret"));
    }
    for wrong in [
        "redis://",
        "redis://one,two",
        "redis+cluster://one/3",
        "redis+sentinel://one",
        "redis+other://one",
        "http://localhost",
        "redis://:secret@localhost:port",
    ] {
        let faults = load(wrong).expect_err(wrong).to_string();
        assert!(faults.contains("store: is no address of a server") && !faults.contains("secret"), "{faults}");
    }
}

/// Lines of the file, variables, flags, and what the faults say, one for each line of them.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

#[test]
fn every_fault_is_told_with_its_place_and_remedy() {
    let cases: [Case; 19] = [
        ("cashier.alerts_url = \"https://alerts.example\"", &[], &[], &["cashier.secret: is missing; make one with"]),
        (
            "cashier.payment_url = \"http://pay.example\"\ncashier.secret = \"short\"",
            &[],
            &[],
            &["cashier.payment_url: is plain http to another machine", "cashier.secret: is shorter than 32 characters"],
        ),
        ("cashier.timeout = \"1h\"", &[], &[], &["cashier.timeout: is \"1h\"; write a duration"]),
        ("liste = 1", &[], &[], &["liste: is not known here; remove it or choose one of: "]),
        ("listen = \"here\"", &[], &[], &["listen: is \"here\"; write IP:PORT"]),
        ("accounts = 3", &[], &[], &["accounts: is 3; write a table", "accounts.allow_remote: is missing"]),
        ("listen_accounts = \"0.0.0.0:7301\"", &[], &[], &["listen_accounts: is not loopback"]),
        ("listen_http = \"127.0.0.1:7300\"", &[], &[], &["listen_http: is 127.0.0.1:7300, as listen is"]),
        ("identity.api_key = false", &[], &[], &["identity.api_key: is false, and nothing else says who asks"]),
        ("identity.metadata = \"sub\"", &[], &[], &["identity.metadata: is \"sub\"; write NAMESPACE:FIELD"]),
        ("emergency.account = \"-1\"", &[], &[], &["emergency.account: is -1; write at least 0"]),
        ("hold.life = \"2h\"", &[], &[], &["hold.life: is longer than hold.life_max"]),
        ("catalogue = \"/no/such.toml\"", &[], &[], &["catalogue: /no/such.toml cannot be read"]),
        ("log.level = \"loud\"", &[], &[], &["log.level: is \"loud\"; write one of: off, error, warn"]),
        ("log.level = \"tollgate=debug, info\"", &[], &[], &["log.level: is \"tollgate=debug, info\""]),
        ("log.level = \"info,tollgate=loud\"", &[], &[], &["log.level: is \"info,tollgate=loud\""]),
        ("", &[("TOLLGATE_LISTNE", "x")], &[], &["TOLLGATE_LISTNE: names no setting"]),
        ("", &[("TOLLGATE_WORKERS", "many")], &["drain=soon"], &["workers: is \"many\"", "(from --drain)"]),
        ("a = ", &[], &[], &[", line 2: "]),
    ];
    for (lines, variables, flags, expected) in cases {
        check_faults(lines, variables, flags, expected);
    }
}

#[test]
fn webhooks_share_a_secret_that_is_shown_nowhere() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let (new, old) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    writeln!(file, "{new}\n{old}").unwrap();
    let url = "cashier.payment_url = \"https://pay.example/secret-path\"";
    let from_file = format!("{STORE}{url}\ncashier.secret_file = {:?}", file.path());
    let both = format!("{new} {old}");
    let from_file = load_from(&from_file, &[], &[]).unwrap().cashier.unwrap();
    let from_variable = load_from(&format!("{STORE}{url}"), &[("TOLLGATE_CASHIER_SECRET", &both)], &[]).unwrap();
    let shown = format!("{from_variable:?}");
    assert_eq!(from_file.secrets, from_variable.cashier.unwrap().secrets);
    assert!(!shown.contains(new) && !shown.contains("secret-path"), "{shown}");
    assert!(load_from(STORE, &[], &[]).unwrap().cashier.is_none());
}

#[test]
fn variables_of_kubernetes_are_not_ours() {
    let variables = [
        ("TOLLGATE_PORT", "tcp://10.0.0.1:7300"),
        ("TOLLGATE_PORT_7300_TCP_ADDR", "10.0.0.1"),
        ("TOLLGATE_ACCOUNTS_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    assert!(load_from(STORE, &variables, &[]).is_ok());
    for setting in SETTINGS {
        assert!(!is_service_link(&setting.variable()), "{} could never be set", setting.variable());
    }
}

#[test]
fn flags_and_variables_name_one_setting_each() {
    for (index, setting) in SETTINGS.iter().enumerate() {
        for other in &SETTINGS[..index] {
            assert_ne!(setting.flag(), other.flag());
            assert_ne!(setting.variable(), other.variable());
        }
    }
}

#[test]
fn the_readme_lists_every_setting() {
    let readme = include_str!("../../README.md");
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let line = readme.lines().find(|line| line.starts_with(&format!("| `{}` |", setting.path)));
        let line = line.unwrap_or_else(|| panic!("README.md has no line for {}", setting.path));
        assert!(line.contains(&default), "README.md names another default for {}: {line}", setting.path);
    }
}
