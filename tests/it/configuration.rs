//! Bad configuration stops the start, and every fault is told at once.

use std::fs;

use crate::harness::program::run;
use crate::harness::sidecar::tollgate;

#[test]
fn all_faults_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tollgate.toml");
    let config = "listen = \"nowhere\"\nlissten = 1\nworkers = 0\nhold.life = \"2h\"\nhold.life_max = \"1h\"\n\
                  answer.profile = \"no-such\"\n";
    fs::write(&path, config).unwrap();
    let (code, out, err) = run(tollgate().arg("serve").arg("--config").arg(&path));
    assert_ne!(code, 0, "{out}{err}");
    for word in ["listen", "lissten", "workers", "hold.life", "answer.profile", "store"] {
        let line = err.lines().any(|line| line.contains(word));
        assert!(line, "{word} is not told in:\n{err}");
    }
    assert_eq!(out, "", "faults go to standard error");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn a_bad_catalogue_tells_all_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = fs::read_to_string(crate::harness::root().join("catalogue/fireworks-2026-10.toml")).unwrap();
    let path = folder.path().join("catalogue.toml");
    let broken = shipped.replacen("prompt = \"0.30\"", "prompt = \"-0.30\"", 1).replacen(
        "generated = \"0.60\"",
        "generated = \"cheap\"",
        1,
    );
    assert_ne!(broken, shipped, "the shipped catalogue has these prices");
    fs::write(&path, broken).unwrap();
    let store = folder.path().join("store");
    let mut command = tollgate();
    command.arg("serve").arg("--store").arg(store).arg("--catalogue").arg(&path);
    let (code, _, err) = run(&mut command);
    assert_ne!(code, 0, "{err}");
    assert!(err.contains("standard.prompt: is negative") && err.contains("cheap"), "both faults are told:\n{err}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for (flag, path) in [("--config", "/nowhere/tollgate.toml"), ("--catalogue", "/nowhere/catalogue.toml")] {
        let (code, _, err) = run(tollgate().args(["serve", flag, path]));
        assert_ne!(code, 0, "{err}");
        assert!(err.contains(path), "{err}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = tollgate();
    command.arg("serve").arg("--store").arg(folder.path().join("store")).args(["--listen", &address]);
    let (code, _, err) = run(command.args(["--listen-accounts", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"]));
    assert_ne!(code, 0, "{err}");
    assert!(err.contains(&address), "{err}");
}

#[test]
fn accounts_are_not_offered_to_the_world_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tollgate();
    command.arg("serve").arg("--store").arg(folder.path().join("store")).args(["--listen-accounts", "0.0.0.0:0"]);
    let (code, _, err) = run(&mut command);
    assert_ne!(code, 0, "{err}");
    assert!(err.contains("accounts.allow_remote"), "{err}");
}
