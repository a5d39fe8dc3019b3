//! The rules: each takes the tree and says what is wrong with it.

use super::Tree;
use super::code::{code_only, functions, imports, words};

/// Rooms of `src`, each with what it may import. `crate::` paths are matched by their beginning.
const ARROWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("telemetry", &[]),
    ("fields", &[]),
    ("decision", &["clock", "fields"]),
    ("pool", &["decision", "clock"]),
    ("ledger", &["pool", "decision", "clock"]),
    ("reconcile", &["pool", "ledger", "decision", "clock", "telemetry"]),
    ("cashier", &["reconcile::outbox", "reconcile::store", "pool::message", "decision", "clock", "telemetry"]),
    ("gate", &["reconcile", "ledger", "pool::SessionId", "decision", "clock", "telemetry"]),
    (
        "transport",
        &[
            "gate",
            "reconcile::accounts",
            "reconcile::keys",
            "reconcile::store",
            "ledger",
            "decision",
            "clock",
            "telemetry",
        ],
    ),
    ("config", &["transport", "cashier::settings", "gate", "reconcile", "ledger", "decision", "telemetry", "fields"]),
    ("cli", &["transport", "reconcile", "decision", "clock"]),
    ("lib", &[]),
    ("main", &[]),
    ("serve", &["background", "print"]),
];

pub fn arrows(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    // A test may stand on the real thing, whatever room that is in.
    for (path, text) in tree.iter().filter(|(path, _)| path.starts_with("src/") && !is_test(path)) {
        let room = room_of(path);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{path}: room {room:?} is in no picture; give it a line in ARROWS"));
            continue;
        };
        for import in imports(path, &code_only(text)) {
            let inside = import == room || import.starts_with(&format!("{room}::"));
            let may = allowed.iter().any(|door| import == *door || import.starts_with(&format!("{door}::")));
            if !inside && !may {
                faults.push(format!("{path}: {room} may not use crate::{import}"));
            }
        }
    }
    faults
}

/// `src/ledger/hold.rs` is in room `ledger`.
fn room_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// Crates that some rooms must not know.
const OUTSIDERS: &[(&[&str], &[&str])] = &[
    (
        &["decision", "pool", "ledger"],
        &["tokio", "redis", "redb", "prost", "tracing", "metrics", "tonic", "axum", "rustix", "getrandom"],
    ),
    (
        &["clock", "fields", "telemetry", "gate", "cashier", "reconcile", "config"],
        &["tonic", "prost", "axum", "tonic_prost"],
    ),
    (&["gate", "cashier", "transport", "cli", "config"], &["redis", "redb"]),
];

pub fn outsiders(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| path.starts_with("src/") && !is_test(path)) {
        let code = code_only(text);
        for (_, crates) in OUTSIDERS.iter().filter(|(rooms, _)| rooms.contains(&room_of(path))) {
            let known = crates.iter().filter(|name| words(&code).any(|word| word.split("::").next() == Some(**name)));
            faults.extend(known.map(|name| format!("{path}: names the crate {name}")));
        }
    }
    faults
}

pub fn ambient(tree: &Tree) -> Vec<String> {
    let banned = [
        "SystemTime::now",
        "UtcDateTime::now",
        "OffsetDateTime::now_utc",
        "env::var",
        "env::vars",
        "env::vars_os",
        "env::var_os",
    ];
    let mut faults = Vec::new();
    // A test may be told by its environment how long to go on.
    for (path, text) in tree.iter().filter(|(path, _)| path.starts_with("src/") && !is_test(path)) {
        if matches!(room_of(path), "clock" | "main" | "serve" | "config") {
            continue;
        }
        let code = code_only(text);
        let used = banned.iter().filter(|banned| words(&code).any(|word| word.ends_with(**banned)));
        faults.extend(used.map(|used| format!("{path}: {used}")));
    }
    faults
}

pub fn first_lines(tree: &Tree) -> Vec<String> {
    let sentence = |line: &str, mark: &str| line.strip_prefix(mark).is_some_and(|rest| rest.trim().len() > 10);
    let missing = |(path, text): &(&String, &String)| {
        let mut lines = text.lines();
        match lines.next().unwrap_or("") {
            shebang if shebang.starts_with("#!/") => !sentence(lines.next().unwrap_or(""), "# "),
            line if path.ends_with(".rs") => !sentence(line, "//! "),
            line if path.ends_with(".proto") => !sentence(line, "// "),
            _ => false,
        }
    };
    tree.iter().filter(missing).map(|(path, _)| path.clone()).collect()
}

pub fn file_sizes(tree: &Tree) -> Vec<String> {
    let sizes = tree.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(path, text)| (path, text.lines().count()));
    sizes.filter(|(_, lines)| *lines > 500).map(|(path, lines)| format!("{path}: {lines} lines")).collect()
}

pub fn function_sizes(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sizes = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with(".rs")) {
        for (line, size) in functions(&code_only(text)) {
            // The signature and the last brace are not counted; clippy does not count them either.
            if size > 72 {
                faults.push(format!("{path}:{line}: {size} lines"));
            }
            if path.starts_with("src/") && !is_test(path) {
                sizes.push(size);
            }
        }
    }
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0);
    if median >= 10 {
        faults.push(format!("src: the median function has {median} lines"));
    }
    faults
}

pub fn leftovers(tree: &Tree) -> Vec<String> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
        concat!("db", "g!("),
        concat!("#[ig", "nore]"),
    ];
    let mut faults = Vec::new();
    for (path, text) in tree {
        for (index, line) in text.lines().enumerate() {
            let left = marks.iter().filter(|mark| line.contains(**mark));
            faults.extend(left.map(|mark| format!("{path}:{}: {mark}", index + 1)));
        }
    }
    faults
}

pub fn sleeps(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| waits(path)) {
        for (index, line) in code_only(text).lines().enumerate() {
            if line.contains("sleep(") || line.contains("sleep_until(") || line.contains("park_timeout(") {
                faults.push(format!("{path}:{}: wait for a condition instead", index + 1));
            }
        }
    }
    faults
}

/// A benchmark measures time and may wait for it.
fn waits(path: &str) -> bool {
    is_test(path) && path.ends_with(".rs") && !path.starts_with("tests/bench/")
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/")
}

pub fn reasons(tree: &Tree) -> Vec<String> {
    let text = tree.get("Cargo.toml").map_or("", String::as_str);
    let mut section = "";
    let mut seen = 0;
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        } else if (section.contains("dependencies") || section.contains("lints")) && line.contains('=') {
            seen += 1;
            let explained = line.rsplit_once(" # ").is_some_and(|(_, reason)| reason.trim().len() > 3);
            if !explained && !line.starts_with("all =") {
                faults.push(format!("Cargo.toml:{}: {line}", index + 1));
            }
        }
    }
    if seen == 0 {
        faults.push("Cargo.toml: no dependency was found; is it still read right?".into());
    }
    faults
}

/// The table of settings.
const SETTINGS: &str = "src/config/table.rs";

pub fn unmentioned(tree: &Tree) -> Vec<String> {
    let readme = tree.get("README.md").map_or("", String::as_str);
    let mut faults = Vec::new();
    for (path, names) in [
        ("src/telemetry.rs", quoted(tree, "src/telemetry.rs", |word| word.starts_with("tollgate_"))),
        ("src/decision/reason.rs", quoted(tree, "src/decision/reason.rs", |_| true)),
        (SETTINGS, settings(tree)),
    ] {
        if names.is_empty() {
            faults.push(format!("{path}: no name was found; is it still read right?"));
        }
        let missing = names.iter().filter(|name| !readme.contains(&format!("`{name}`")));
        faults.extend(missing.map(|name| format!("README.md: `{name}` of {path} is not there")));
    }
    faults
}

/// String literals of a file that are one lower-case word.
fn quoted(tree: &Tree, path: &str, wanted: fn(&str) -> bool) -> Vec<String> {
    let text = tree.get(path).map_or("", String::as_str);
    let word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.split('"').skip(1).step_by(2).filter(word).filter(|word| wanted(word)).map(str::to_owned).collect()
}

/// Paths of settings, from their table.
fn settings(tree: &Tree) -> Vec<String> {
    let text = tree.get(SETTINGS).map_or("", String::as_str);
    let path = |row: &str| row.split('"').next().unwrap_or("").to_owned();
    text.split("setting(\"").skip(1).map(path).collect()
}

pub fn documents(tree: &Tree) -> Vec<String> {
    let missing = |path: &&&str| tree.get(**path).is_none_or(|text| text.trim().is_empty());
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].iter().filter(missing).map(|path| format!("no {path}")).collect()
}
