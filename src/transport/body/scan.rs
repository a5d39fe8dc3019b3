//! JSON, stepped over from left to right: no recursion, no allocation, and no panic on any bytes.

use super::BodyFault;

/// A value as it stands in the body.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// With its quotes.
    Text(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Bare(&'a [u8]),
    /// An object or a list, and how many strings and lists are directly in it.
    Nested { list: bool, parts: u64 },
}

/// The input ended where more was to come.
pub struct Cut;

pub enum Stop {
    Cut,
    Fault(BodyFault),
}

impl From<Cut> for Stop {
    fn from(_: Cut) -> Self {
        Self::Cut
    }
}

impl From<BodyFault> for Stop {
    fn from(fault: BodyFault) -> Self {
        Self::Fault(fault)
    }
}

/// A place in the body. `at` never goes back.
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte that is no white space; stays on it.
    pub fn next(&mut self) -> Result<u8, Cut> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Cut)
    }

    /// Steps over the byte that `next` told.
    pub fn step(&mut self) {
        self.at += 1;
    }

    /// Steps over `byte`.
    pub fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.next()? != byte {
            return Err(BodyFault::NotJson.into());
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over a string and returns it with its quotes.
    pub fn text(&mut self) -> Result<&'a [u8], Stop> {
        self.next()?;
        let start = self.at;
        self.expect(b'"')?;
        self.skip_text()?;
        Ok(&self.bytes[start..self.at])
    }

    /// From inside a string to behind its closing quote.
    fn skip_text(&mut self) -> Result<(), Cut> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let step = quote_or_backslash(rest).ok_or(Cut)?;
            self.at += step + 1;
            if rest[step] == b'"' {
                return Ok(());
            }
            // The escaped byte cannot end the string, whatever it is.
            self.at += 1;
        }
    }

    /// Steps over a value.
    pub fn value(&mut self) -> Result<Value<'a>, Stop> {
        match self.next()? {
            b'"' => Ok(Value::Text(self.text()?)),
            first @ (b'{' | b'[') => Ok(Value::Nested { list: first == b'[', parts: self.nested()? }),
            _ => self.bare().map(Value::Bare),
        }
    }

    /// Steps over a number or a word. One that touches the end may have been longer.
    fn bare(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'+' | b'-' | b'.');
        let length = rest.iter().position(ends);
        let length = length.ok_or(Cut)?;
        if length == 0 {
            return Err(BodyFault::NotJson.into());
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// Steps over an object or a list; counts the strings and lists directly in it.
    fn nested(&mut self) -> Result<u64, Cut> {
        let mut depth = 0_usize;
        let mut parts = 0;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            if depth == 1 && matches!(byte, b'"' | b'[') {
                parts += 1;
            }
            match byte {
                b'"' => self.skip_text()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(parts);
            }
        }
        Err(Cut)
    }
}

/// Where the first `"` or `\` is. Looks at eight bytes at a time: prompts are long strings.
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let words = bytes.chunks_exact(8);
    let tail = bytes.len() - words.remainder().len();
    let skipped = words
        .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")))
        .take_while(|&word| !has(word, b'"') && !has(word, b'\\'))
        .count();
    let from = (skipped * 8).min(tail);
    bytes[from..].iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| from + found)
}

/// Whether one of the eight bytes of `word` is `byte`.
fn has(word: u64, byte: u8) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeroed = word ^ (ONES * u64::from(byte));
    zeroed.wrapping_sub(ONES) & !zeroed & HIGHS != 0
}
