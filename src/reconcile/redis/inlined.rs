//! Constants of a script put in their places: Lua takes 200 local names at once, and has to look each of them up.

use std::collections::BTreeMap;

/// The code with every `local NAME = number` at the beginning of a line taken away, and the number where the name was used.
/// Comments go too.
pub(super) fn inlined(code: &str) -> String {
    let mut numbers = BTreeMap::new();
    let mut rest = String::with_capacity(code.len());
    for line in code.lines() {
        match constants(line) {
            Some(constants) => constants.into_iter().for_each(|(name, number)| {
                let other = numbers.insert(name, number);
                assert!(other.is_none_or(|other| other == number), "{name} stands for one number in all of a script");
            }),
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    replaced(&rest, &numbers)
}

/// Names and numbers of a line that says nothing else.
fn constants(line: &str) -> Option<Vec<(&str, &str)>> {
    let (names, numbers) = line.strip_prefix("local ")?.split_once(" = ")?;
    let numbers = numbers.split_once(" --").map_or(numbers, |(numbers, _)| numbers);
    let pairs: Vec<_> = names.split(", ").zip(numbers.split(", ")).collect();
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let all = names.split(", ").count() == numbers.split(", ").count()
        && pairs.iter().all(|(name, number)| is_name(name) && is_number(number));
    all.then_some(pairs)
}

/// Walks over words, texts and comments; only words are looked at.
fn replaced(mut code: &str, numbers: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(code.len());
    while let Some(first) = code.chars().next() {
        let length = match first {
            '\'' | '"' => text_length(code, first),
            '-' if code.starts_with("--") => code.find('\n').unwrap_or(code.len()),
            _ if is_word(first) => code.find(|next| !is_word(next)).unwrap_or(code.len()),
            _ => first.len_utf8(),
        };
        let (piece, rest) = code.split_at(length);
        if !piece.starts_with("--") {
            out.push_str(numbers.get(piece).unwrap_or(&piece));
        }
        code = rest;
    }
    out
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// How long a text is that begins with this quote, to its end.
fn text_length(code: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = code.char_indices().skip(1).find(|(_, character)| {
        let ends = *character == quote && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        ends
    });
    end.map_or(code.len(), |(at, quote)| at + quote.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::inlined;

    #[test]
    fn constants_stand_where_their_names_were_used() {
        let code = "local A, B_C = 1, 22 -- why\nlocal D, e = 3, 4\nlocal F = {5}\n  local G = 6\nlocal H = A\n\
            if a[A] - B_C < AB then x('A', \"B_C \\\" A\", 'it\\'s A') end -- A is gone\nreturn A.B_C";
        let expected = "local D, e = 3, 4\nlocal F = {5}\n  local G = 6\nlocal H = 1\n\
            if a[1] - 22 < AB then x('A', \"B_C \\\" A\", 'it\\'s A') end \nreturn 1.22\n";
        assert_eq!(inlined(code), expected);
    }
}
