//! Defaults, file, environment and flags, laid over one another into one table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use toml::{Table, Value};

use super::Sources;
use super::table::{SETTINGS, Setting};
use crate::fields::{Fault, Faults, Reader};

/// Where a value came from, by the path of its setting; what is not listed is from the file, or a default.
pub type Origins = BTreeMap<&'static str, String>;

/// Whoever tries the demo on a busy machine, with a slow disk, is to see a decision and not `unavailable`.
const DEMO_PATIENCE: (&str, &str) = ("check.pool_wait", "2s");

/// Every source laid over the ones before it; nothing where the file cannot be read, so that what it may say is not missed.
pub fn layers(sources: &Sources, reader: &Reader) -> Option<(Table, Origins)> {
    let (mut table, mut origins) = (defaults(), Origins::new());
    if sources.demo {
        overlay(&mut table, nested(DEMO_PATIENCE.0, DEMO_PATIENCE.1.into()));
    }
    overlay(&mut table, file(sources.file.as_deref(), reader)?);
    for (setting, text) in environment(&sources.environment, reader) {
        overlay(&mut table, nested(setting.path, setting.value(&text)));
        origins.insert(setting.path, setting.variable());
    }
    for (setting, text) in &sources.flags.0 {
        overlay(&mut table, nested(setting.path, setting.value(text)));
        origins.insert(setting.path, format!("--{}", setting.flag()));
    }
    Some((table, origins))
}

fn defaults() -> Table {
    let mut table = Table::new();
    for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
        overlay(&mut table, nested(setting.path, setting.value(setting.default)));
    }
    table
}

/// The file's table, empty where there is no file; a file that cannot be read or is no TOML is one fault.
fn file(path: Option<&Path>, reader: &Reader) -> Option<Table> {
    let Some(path) = path else { return Some(Table::new()) };
    let unreadable =
        |error| reader.fault(path.display().to_string(), format!("cannot be read ({error}); correct --config"));
    let text = std::fs::read_to_string(path).map_err(unreadable).ok()?;
    let broken = |error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        reader.fault(format!("{}, line {line}", path.display()), format!("{}; correct the TOML here", error.message()));
    };
    text.parse().map_err(broken).ok()
}

/// Settings from the environment. An empty variable says nothing; one that names no setting is a fault, because a name
/// that was misspelt would otherwise go unnoticed.
fn environment(variables: &[(OsString, OsString)], reader: &Reader) -> Vec<(&'static Setting, String)> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TOLLGATE_") && !is_service_link(name)) else {
            continue;
        };
        match (SETTINGS.iter().find(|setting| setting.variable() == name), value.to_str()) {
            (Some(_), Some("")) => {}
            (Some(setting), Some(text)) => found.push((setting, text.to_owned())),
            (Some(_), None) => reader.fault(name, "is not UTF-8; write a text"),
            (None, _) => {
                reader.fault(name, "names no setting; remove it, or see `tollgate serve --help` for the names")
            }
        }
    }
    found
}

/// Variables that Kubernetes sets in every pod for a Service whose name begins with `tollgate`.
pub fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_") || name.contains("_PORT_") || name.ends_with("_PORT")
}

/// `value` under the tables that `path` names.
fn nested(path: &str, value: Value) -> Table {
    let (name, value) = match path.split_once('.') {
        Some((table, rest)) => (table, Value::Table(nested(rest, value))),
        None => (path, value),
    };
    Table::from_iter([(name.to_owned(), value)])
}

/// Lays `above` over `base`: tables merge, everything else is replaced.
fn overlay(base: &mut Table, above: Table) {
    for (name, value) in above {
        match (base.get_mut(&name), value) {
            (Some(Value::Table(base)), Value::Table(above)) => overlay(base, above),
            (_, value) => {
                base.insert(name, value);
            }
        }
    }
}

/// Adds to each fault where its value came from.
pub fn with_origins(Faults(faults): Faults, origins: &Origins) -> Faults {
    let tell = |Fault { path, message }| match origins.get(path.as_str()) {
        Some(origin) => Fault { message: format!("{message} (from {origin})"), path },
        None => Fault { path, message },
    };
    Faults(faults.into_iter().map(tell).collect())
}
