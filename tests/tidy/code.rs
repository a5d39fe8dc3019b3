//! Rust as text: what of it is code, and which functions and paths are in it.
//!
//! Relies on rustfmt's indentation; it is no parser.

/// The text with comments and the insides of literals blanked out, line by line as long as before.
pub fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let [opening, inside, closing] = token(rest, first);
        out.push_str(&rest[..opening]);
        out.extend(rest[opening..opening + inside].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        let end = (opening + inside + closing).min(rest.len());
        out.push_str(&rest[opening + inside..end]);
        rest = &rest[end..];
    }
    out
}

/// Bytes to keep, to blank, and to keep again, of the token that begins here.
fn token(rest: &str, first: char) -> [usize; 3] {
    let after = &rest[first.len_utf8()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    match first {
        '/' if after.starts_with('/') => [0, rest.find('\n').unwrap_or(rest.len()), 0],
        '/' if after.starts_with('*') => [0, block_comment(rest), 0],
        'r' if after[hashes..].starts_with('"') => {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = &after[hashes + 1..];
            [hashes + 2, inside.find(&end).unwrap_or(inside.len()), end.len()]
        }
        '"' => [1, literal(after, '"'), 1],
        '\'' if after.starts_with('\\') || after.chars().nth(1) == Some('\'') => [1, literal(after, '\''), 1],
        _ => {
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            [word.max(first.len_utf8()), 0, 0]
        }
    }
}

/// Bytes of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let mut nesting = 0;
    for (index, _) in rest.char_indices() {
        nesting += i32::from(rest[index..].starts_with("/*"));
        nesting -= i32::from(rest[..index].ends_with("*/"));
        if nesting == 0 {
            return index;
        }
    }
    rest.len()
}

/// Bytes up to the closing quote.
fn literal(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    let closes = |c: char| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    };
    inside.find(closes).unwrap_or(inside.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Names and paths in code, as in `std::env::var` and `todo`.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !is_word(c) && c != ':').filter(|word| !word.is_empty())
}

/// What the file at `path` takes from the crate, as paths below its root: `clock::Now` of `crate::{clock::Now}`.
pub fn imports(path: &str, code: &str) -> Vec<String> {
    let folders = path.matches('/').count();
    let depth = if path.ends_with("/mod.rs") { folders - 1 } else { folders };
    let inline = code.lines().any(|line| line.trim_start().starts_with("mod ") && line.ends_with('{'));
    let root = "super::".repeat(depth + usize::from(inline));
    ["crate::", &root].iter().flat_map(|root| code.split(root).skip(1)).flat_map(|rest| paths("", rest)).collect()
}

/// The paths that begin here: one, or those of a list in braces.
fn paths(prefix: &str, rest: &str) -> Vec<String> {
    let name = &rest[..rest.find(|c: char| !is_word(c) && c != ':').unwrap_or(rest.len())];
    let list = &rest[name.len()..];
    if !list.starts_with('{') {
        return if name.is_empty() { Vec::new() } else { vec![format!("{prefix}{name}")] };
    }
    let mut nesting = 0;
    let mut found = Vec::new();
    for (index, c) in list.char_indices() {
        nesting += i32::from(c == '{') - i32::from(c == '}');
        if nesting == 0 {
            break;
        }
        if nesting == 1 && matches!(c, '{' | ',') {
            found.extend(paths(&format!("{prefix}{name}"), list[index + 1..].trim_start()));
        }
    }
    found
}

/// Where each function with a body begins, and its lines of code, first and last included.
pub fn functions(code: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let closes = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(['}', ')']));
        let last = |line: &&str| {
            closes(line) && !line.ends_with('{')
                || line.trim_end().ends_with(['}', ';']) && line.starts_with(indent) && begins_function(line)
        };
        let size = lines[index..].iter().position(last).unwrap_or(0);
        found.push((index + 1, lines[index..=index + size].iter().filter(|line| !line.trim().is_empty()).count()));
    }
    found
}

/// Qualifiers, then `fn`.
fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        matches!(*word, "pub" | "const" | "async" | "pub(crate)" | "pub(super)" | "extern")
            || word.starts_with("pub(in")
    });
    words.next() == Some("fn")
}

#[test]
fn comments_and_literals_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"a("b \" c") d"#, r#"a("      ") d"#),
        ("r#\"a \" b\"# c", "r#\"     \"# c"),
        (r"'a' b '\'' c", r"' ' b '  ' c"),
        ("fn a<'b>(c: &'b str) {}", "fn a<'b>(c: &'b str) {}"),
    ] {
        assert_eq!(code_only(text), code, "{text}");
    }
}

#[test]
fn imports_are_found_in_lists_and_from_below() {
    for (path, code, found) in [
        ("src/a.rs", "use crate::b::C;", vec!["b::C"]),
        ("src/a.rs", "use crate::{b::{C, D}, e};", vec!["b::C", "b::D", "e"]),
        ("src/a.rs", "use crate::{\n    b::C,\n};", vec!["b::C"]),
        ("src/a.rs", "use super::b::C;", vec!["b::C"]),
        ("src/a/mod.rs", "use super::b::C;", vec!["b::C"]),
        ("src/a/d.rs", "use super::C;", vec![]),
        ("src/a/d.rs", "use super::super::b::C;", vec!["b::C"]),
        ("src/a.rs", "mod tests {\n    use super::C;\n    use super::super::b::D;\n}", vec!["b::D"]),
    ] {
        assert_eq!(imports(path, code), found, "{path}: {code}");
    }
}

#[test]
fn functions_are_measured() {
    for (code, sizes) in [
        ("fn a() {}\n", vec![(1, 1)]),
        ("pub const fn a() {\n\n    b();\n}\n", vec![(1, 3)]),
        ("impl A {\n    async fn a(\n        b: C,\n    ) {\n        d();\n    }\n}\n", vec![(2, 5)]),
        ("trait A {\n    fn a();\n    fn b() {\n        c();\n    }\n}\n", vec![(2, 1), (3, 3)]),
    ] {
        assert_eq!(functions(code), sizes, "{code}");
    }
}
