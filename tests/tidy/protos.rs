//! The rule for our own protos: nothing in them goes without a word on what it means.

use super::Tree;

/// Declarations of our API without a comment just before them that says more than that it must be there.
pub fn undocumented(tree: &Tree) -> Vec<String> {
    let ours = tree.iter().filter(|(path, _)| path.starts_with("proto/tollgate/") && path.ends_with(".proto"));
    let mut faults = Vec::new();
    for (path, text) in ours {
        let mut before = "";
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if declares(line) && !says_something(before) {
                faults.push(format!("{path}:{}: {line}", index + 1));
            }
            before = line;
        }
    }
    faults
}

/// A message, enum, service, call, choice, field or value.
fn declares(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    match first {
        "message" | "enum" | "service" | "rpc" | "oneof" => true,
        "syntax" | "package" | "import" | "option" | "reserved" => false,
        _ => !first.starts_with("//") && line.ends_with(';') && line.contains(" = "),
    }
}

fn says_something(line: &str) -> bool {
    line.strip_prefix("// ").is_some_and(|words| !matches!(words, "Required." | "Optional."))
}
