//! The rules no compiler checks: who may import whom, sizes, reasons, and words that docs must not forget.
//!
//! Each rule carries trees that break it, and must object to every one of them: a rule that cannot fail is a defect.

mod code;
mod dependencies;
mod protos;
mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Paths from the root of the repository, with what is in the files.
type Tree = BTreeMap<String, String>;

struct Rule {
    says: &'static str,
    faults: fn(&Tree) -> Vec<String>,
    /// Trees of one or more files, each of which breaks this rule.
    breaches: &'static [&'static [(&'static str, &'static str)]],
}

const RULES: &[Rule] = &[
    Rule {
        says: "a room imports only the rooms it may",
        faults: rules::arrows,
        breaches: &[
            &[("src/decision/rate.rs", "//! Doc.\nuse crate::ledger::Ledger;\n")],
            &[("src/decision/mod.rs", "//! Doc.\nfn a() { crate::telemetry::start(); }\n")],
            &[("src/ledger/mod.rs", "//! Doc.\nuse crate::{clock::Now, reconcile::store};\n")],
            &[("src/pool/mod.rs", "//! Doc.\nuse super::gate::Gate;\n")],
            &[("src/transport/mod.rs", "//! Doc.\nuse crate::reconcile::Rounds;\n")],
            &[("src/gate.rs", "//! Doc.\nuse crate::config::Config;\n")],
            &[("src/telemetry.rs", "//! Doc.\nuse crate::clock::Clock;\n")],
            &[("src/newcomer.rs", "//! Doc.\n")],
        ],
    },
    Rule {
        says: "a room that decides knows no runtime, wire, log or metric",
        faults: rules::outsiders,
        breaches: &[
            &[("src/decision/mod.rs", "//! Doc.\nuse tokio::time::Instant;\n")],
            &[("src/ledger/mod.rs", "//! Doc.\nfn a() { tracing::info!(\"hello\"); }\n")],
            &[("src/pool/mod.rs", "//! Doc.\n#[derive(prost::Message)]\nstruct A;\n")],
            &[("src/gate.rs", "//! Doc.\nuse tonic::Status;\n")],
            &[("src/reconcile/mod.rs", "//! Doc.\nuse axum::Router;\n")],
        ],
    },
    Rule {
        says: "only clock.rs reads a clock, only main and config read the environment",
        faults: rules::ambient,
        breaches: &[
            &[("src/gate.rs", "//! Doc.\nfn a() { std::time::SystemTime::now(); }\n")],
            &[("src/gate.rs", "//! Doc.\nfn a() { time::UtcDateTime::now(); }\n")],
            &[("src/gate.rs", "//! Doc.\nfn a() { std::env::vars(); }\n")],
        ],
    },
    Rule {
        says: "a file begins with a sentence that says what it is for",
        faults: rules::first_lines,
        breaches: &[
            &[("src/gate.rs", "use std::fmt;\n")],
            &[("tests/it/main.rs", "\n//! Late.\n")],
            &[("tests/run", "#!/usr/bin/env bash\nset -e\n")],
        ],
    },
    Rule {
        says: "a file has at most 500 lines",
        faults: rules::file_sizes,
        breaches: &[&[("src/gate.rs", "//! Doc.\n@500")]],
    },
    Rule {
        says: "a function has at most 70 lines, the median in src under 10",
        faults: rules::function_sizes,
        breaches: &[
            &[("tests/it/main.rs", "//! Doc.\nfn a() {\n@71}\n")],
            &[("src/gate.rs", "//! Doc.\nfn a() {\n@8}\n")],
        ],
    },
    Rule {
        says: "nothing is left for later",
        faults: rules::leftovers,
        breaches: &[
            &[("src/gate.rs", concat!("//! Doc.\n// TO", "DO: later\n"))],
            &[("src/gate.rs", concat!("//! Doc.\nfn a() { to", "do!() }\n"))],
            &[("tests/it/main.rs", concat!("//! Doc.\nfn a() { unimpl", "emented!() }\n"))],
            &[("tests/it/main.rs", concat!("//! Doc.\n#[ig", "nore]\nfn a() {}\n"))],
            &[("src/gate.rs", concat!("//! Doc.\nfn a() { db", "g!(1); }\n"))],
        ],
    },
    Rule {
        says: "a test waits for something, never for time",
        faults: rules::sleeps,
        breaches: &[
            &[("tests/it/main.rs", concat!("//! Doc.\nfn a() { std::thread::sle", "ep(d); }\n"))],
            &[("src/ledger/tests.rs", concat!("//! Doc.\nasync fn a() { tokio::time::sle", "ep(d).await; }\n"))],
        ],
    },
    Rule {
        says: "every dependency and lint has its reason beside it",
        faults: rules::reasons,
        breaches: &[
            &[("Cargo.toml", "[dependencies]\nbytes = \"1\"\n")],
            &[("Cargo.toml", "[dev-dependencies]\nbytes = \"1\" #\n")],
            &[("Cargo.toml", "[lints.rust]\nunsafe_code = \"forbid\"\n")],
            &[("Cargo.toml", "[package]\nname = \"tollgate\"\n")],
        ],
    },
    Rule {
        says: "README names every setting, metric and reason",
        faults: rules::unmentioned,
        breaches: &[
            &[SOME_METRIC, SOME_REASON, SOME_SETTING, ("README.md", "`denied` `listen`")],
            &[SOME_METRIC, SOME_REASON, SOME_SETTING, ("README.md", "`tollgate_a_total` `listen`")],
            &[SOME_METRIC, SOME_REASON, SOME_SETTING, ("README.md", "`tollgate_a_total` `denied`")],
            &[SOME_METRIC, SOME_REASON, SOME_SETTING],
            &[SOME_METRIC, SOME_REASON, ("README.md", "`tollgate_a_total` `denied` `listen`")],
        ],
    },
    Rule {
        says: "everything in our protos is explained",
        faults: protos::undocumented,
        breaches: &[
            &[("proto/tollgate/v1/a.proto", "// Doc.\n\nmessage A {}\n")],
            &[("proto/tollgate/v1/a.proto", "// Doc.\n\n// B.\nmessage B {\n  string a = 1;\n}\n")],
            &[("proto/tollgate/v1/a.proto", "// Doc.\n\n// B.\nmessage B {\n  // Required.\n  A a = 1;\n}\n")],
            &[("proto/tollgate/v1/a.proto", "// Doc.\n\n// B.\nenum B {\n  A = 0;\n}\n")],
            &[("proto/tollgate/v1/a.proto", "// Doc.\n\n// B.\nservice B {\n  rpc A(A) returns (A);\n}\n")],
        ],
    },
    Rule {
        says: "the docs that every reader looks for are there",
        faults: rules::documents,
        breaches: &[
            &[("README.md", "x"), ("ARCHITECTURE.md", "x")],
            &[("README.md", ""), ("ARCHITECTURE.md", "x"), ("CHANGELOG.md", "x")],
        ],
    },
];

const SOME_METRIC: (&str, &str) = ("src/telemetry.rs", "//! Doc.\nconst A: &str = \"tollgate_a_total\";\n");
const SOME_REASON: (&str, &str) =
    ("src/decision/reason.rs", "//! Doc.\nfn a() { match b { Self::Denied => \"denied\", } }\n");
const SOME_SETTING: (&str, &str) = ("src/config/table.rs", "//! Doc.\nsetting(\"listen\", ADDRESS, \"\", \"\"),\n");

#[test]
fn the_tree_is_tidy() {
    let tree = tree();
    let faults: Vec<String> = RULES
        .iter()
        .flat_map(|rule| (rule.faults)(&tree).into_iter().map(|fault| format!("{}: {fault}", rule.says)))
        .collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for rule in RULES {
        for breach in rule.breaches {
            let tree = breach.iter().map(|(path, text)| ((*path).to_owned(), unfold(text))).collect();
            assert!(!(rule.faults)(&tree).is_empty(), "{:?} lets this pass: {breach:?}", rule.says);
        }
        assert!(!rule.breaches.is_empty(), "{:?} shows no breach", rule.says);
    }
}

/// Writes `@70` out as 70 lines.
fn unfold(text: &str) -> String {
    let Some((before, after)) = text.split_once('@') else { return text.to_owned() };
    let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let lines = after[..digits].parse().expect("a number of lines");
    format!("{before}{}{}", "    b();\n".repeat(lines), &after[digits..])
}

/// Every file of the repository that a person wrote as code.
fn tree() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Tree::new();
    for name in ["src", "tests", "proto", "examples", ".ci"] {
        gather(root, &root.join(name), &mut tree);
    }
    for name in ["Cargo.toml", "build.rs", "README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        if let Ok(text) = fs::read_to_string(root.join(name)) {
            tree.insert(name.to_owned(), text);
        }
    }
    tree
}

fn gather(root: &Path, folder: &Path, tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("the tree is readable").path()) {
        if path.is_dir() {
            gather(root, &path, tree);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(root).expect("it was found below the root");
            tree.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}
