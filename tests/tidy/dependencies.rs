//! Holds what Cargo.lock brings in to the licences, sources and bans of deny.toml.

use std::process::Command;

use serde_json::Value;

/// What of deny.toml is looked at here.
#[derive(serde::Deserialize)]
struct Deny {
    licenses: Licenses,
    sources: Sources,
    bans: Bans,
}

#[derive(serde::Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(serde::Deserialize)]
struct Ban {
    name: String,
}

#[test]
fn dependencies_are_allowed() {
    let deny: Deny = toml::from_str(include_str!("../../deny.toml")).unwrap();
    let packages = packages();
    assert!(packages.len() > 50, "only {} packages were found", packages.len());
    let faults: Vec<String> = packages.iter().filter_map(|package| fault(package, &deny)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_dependency_can_be_refused() {
    let deny: Deny = toml::from_str(include_str!("../../deny.toml")).unwrap();
    let index = "registry+https://github.com/rust-lang/crates.io-index";
    for (name, license, source, refused) in [
        ("a", "MIT", index, false),
        ("a", "MIT/GPL-3.0", index, false),
        ("a", "(MIT OR GPL-3.0) AND Zlib", index, false),
        ("a", "MIT AND GPL-3.0", index, true),
        ("a", "(MIT AND GPL-3.0) OR GPL-2.0", index, true),
        ("a", "", index, true),
        ("a", "MIT", "git+https://example.com/a", true),
        ("openssl", "MIT", index, true),
    ] {
        let package = serde_json::json!({"name": name, "license": license, "source": source});
        assert_eq!(fault(&package, &deny).is_some(), refused, "{package}");
    }
}

/// Every package that is built for this machine, as cargo tells it.
fn packages() -> Vec<Value> {
    let host = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .output()
        .expect("cargo built this and is still there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = std::mem::take(&mut metadata["packages"]);
    serde_json::from_value(packages).expect("packages are a list")
}

fn fault(package: &Value, deny: &Deny) -> Option<String> {
    let text = |field: &str| package[field].as_str().unwrap_or("");
    let (name, license, source) = (text("name"), text("license"), text("source"));
    if deny.bans.deny.iter().any(|ban| ban.name == name) {
        return Some(format!("{name} is banned"));
    }
    let registry = source.strip_prefix("registry+").unwrap_or(source);
    if !source.is_empty() && !deny.sources.allow_registry.iter().any(|allowed| allowed == registry) {
        return Some(format!("{name} comes from {source}"));
    }
    (!permits(license, &deny.licenses.allow)).then(|| format!("{name} has the licence {license:?}"))
}

/// Whether an SPDX expression can be satisfied with the allowed licences.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let every = |terms: &str| outside_parentheses(terms, " AND ").into_iter().all(|term| permits_term(term, allowed));
    outside_parentheses(&expression.replace('/', " OR "), " OR ").into_iter().any(every)
}

fn permits_term(term: &str, allowed: &[String]) -> bool {
    match term.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => permits(inner, allowed),
        None => allowed.iter().any(|license| license == term),
    }
}

/// The parts between separators that are in no parentheses.
fn outside_parentheses<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (index, _) in text.match_indices(separator) {
        let before = &text[begin..index];
        if before.matches('(').count() == before.matches(')').count() {
            parts.push(before.trim());
            begin = index + separator.len();
        }
    }
    parts.push(text[begin..].trim());
    parts
}
