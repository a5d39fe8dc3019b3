//! A TOML table read field by field, so that every fault is reported at once with its path.
//!
//! The catalogue and the configuration are read with it. Read *every* field before leaving early, then call
//! [`Fields::end`]: what was never asked for is unknown.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rust_decimal::Decimal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::{Table, Value};

/// Everything that is wrong with a file. Never empty where it is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

/// One thing that is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// As in `model[3].price[0].standard.prompt`.
    pub path: String,
    pub message: String,
}

/// Collects faults while tables are read.
#[derive(Debug, Default)]
pub struct Reader {
    faults: RefCell<Vec<Fault>>,
}

/// A table that is being read.
#[derive(Debug)]
pub struct Fields<'a> {
    reader: &'a Reader,
    path: String,
    table: Table,
    /// Names that were asked for, to tell the reader of a fault what there is.
    known: Vec<&'static str>,
}

/// One field, there or not. Each way to read it gives `None` where it is absent, and a fault where it is wrong.
#[derive(Debug)]
pub struct Field<'a> {
    reader: &'a Reader,
    path: String,
    value: Option<Value>,
}

impl Reader {
    /// The fields of a whole file. A file that is no TOML is one fault, and empty.
    pub fn parse(&self, text: &str) -> Fields<'_> {
        let table = text.parse::<Table>().unwrap_or_else(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count().saturating_add(1);
            self.fault(format!("line {line}"), format!("{}; correct the TOML here", error.message().trim()));
            Table::new()
        });
        self.table(table, String::new())
    }

    /// The fields of a table that came from elsewhere.
    pub fn table(&self, table: Table, path: String) -> Fields<'_> {
        Fields { reader: self, path, table, known: Vec::new() }
    }

    pub fn fault(&self, path: impl Into<String>, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault { path: path.into(), message: message.into() });
    }

    /// What was read, or every fault. A value that could not be built left a fault behind.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Faults> {
        let mut faults = self.faults.into_inner();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => {
                // The first fault of a broken file is the file; what then seems to be missing is noise.
                if let Some(broken) = faults.iter().position(|fault| fault.path.starts_with("line ")) {
                    faults = vec![faults.swap_remove(broken)];
                }
                Err(Faults(faults))
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// A field that may be absent.
    pub fn optional(&mut self, name: &'static str) -> Field<'a> {
        self.known.push(name);
        Field { reader: self.reader, path: self.path_of(name), value: self.table.remove(name) }
    }

    /// A field that must be there.
    pub fn required(&mut self, name: &'static str) -> Field<'a> {
        let field = self.optional(name);
        if field.value.is_none() {
            self.reader.fault(field.path.clone(), "is missing; write it");
        }
        field
    }

    /// Reports a fault of one field, or of the whole table where `name` is empty.
    pub fn fault(&self, name: &str, message: impl Into<String>) {
        self.reader.fault(self.path_of(name), message);
    }

    /// Reports every field that was not asked for.
    pub fn end(self) {
        for name in self.table.keys() {
            let known = self.known.join(", ");
            self.fault(name, format!("is not known here; remove it or choose one of: {known}"));
        }
    }

    fn path_of(&self, name: &str) -> String {
        match (self.path.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{name}", self.path),
        }
    }
}

impl<'a> Field<'a> {
    pub fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// Reports a fault of this field.
    pub fn fault(&self, message: impl Into<String>) {
        self.reader.fault(self.path.clone(), message);
    }

    /// A text that is not empty.
    pub fn text(&self) -> Option<String> {
        self.read("write a text in quotes, not empty", |value| {
            value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
        })
    }

    /// One of a few words.
    pub fn word(&self, words: &[&'static str]) -> Option<&'static str> {
        let remedy = format!("write one of: {}", words.join(", "));
        self.read(&remedy, |value| words.iter().copied().find(|word| value.as_str() == Some(word)))
    }

    pub fn boolean(&self) -> Option<bool> {
        self.read("write true or false", Value::as_bool)
    }

    /// A whole number within `range`.
    pub fn whole<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
        self.read(&remedy, |value| {
            let number = u64::try_from(value.as_integer()?).ok().filter(|number| range.contains(number))?;
            T::try_from(number).ok()
        })
    }

    /// An exact decimal in quotes, because a TOML float is not exact.
    pub fn decimal(&self) -> Option<Decimal> {
        self.read("write an exact number in quotes, as in \"0.30\"", |value| {
            Decimal::from_str_exact(value.as_str()?.trim()).ok()
        })
    }

    /// A duration within `range`, as in `"500ms"`, `"15s"`, `"10m"`, `"72h"` or `"2d"`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let remedy = format!(
            "write a duration such as \"500ms\", \"15s\" or \"72h\", from {:?} to {:?}",
            range.start(),
            range.end()
        );
        self.read(&remedy, |value| parse_duration(value.as_str()?).filter(|duration| range.contains(duration)))
    }

    /// An instant of the calendar in RFC 3339, in quotes or as a TOML date-time.
    pub fn instant(&self) -> Option<OffsetDateTime> {
        self.read("write an instant such as \"2026-10-01T00:00:00Z\"", |value| {
            let text = value.as_str().map(str::to_owned).or_else(|| value.as_datetime().map(ToString::to_string))?;
            OffsetDateTime::parse(&text, &Rfc3339).ok()
        })
    }

    /// Texts in square brackets.
    pub fn texts(&self) -> Option<Vec<String>> {
        self.read("write texts in square brackets, as in [\"a\", \"b\"]", |value| {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        })
    }

    /// A table within this one.
    pub fn fields(&self) -> Option<Fields<'a>> {
        let table = self.read("write a table", |value| value.as_table().cloned())?;
        Some(self.reader.table(table, self.path.clone()))
    }

    /// An array of tables.
    pub fn tables(&self) -> Option<Vec<Fields<'a>>> {
        let tables: Vec<Table> = self.read("write tables in double square brackets", |value| {
            value.as_array()?.iter().map(|item| item.as_table().cloned()).collect()
        })?;
        let numbered = tables.into_iter().enumerate();
        Some(numbered.map(|(index, table)| self.reader.table(table, format!("{}[{index}]", self.path))).collect())
    }

    /// A table whose names are data, name by name.
    pub fn entries(&self) -> Option<Vec<(String, Field<'a>)>> {
        let table = self.read("write a table", |value| value.as_table().cloned())?;
        let field = |(name, value): (String, Value)| {
            let path = format!("{}.{name}", self.path);
            (name, Field { reader: self.reader, path, value: Some(value) })
        };
        Some(table.into_iter().map(field).collect())
    }

    fn read<T>(&self, remedy: &str, convert: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.value.as_ref()?;
        let read = convert(value);
        if read.is_none() {
            self.fault(format!("is {}; {remedy}", excerpt(value)));
        }
        read
    }
}

/// One line for each fault.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {}", fault.path, fault.message)?;
        }
        Ok(())
    }
}

/// A whole number and its unit. Nothing else, so that nothing is guessed.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

/// A value as it was written, cut so that a fault stays one line.
fn excerpt(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(instant) => instant.to_string(),
    }
}
