//! What a person reads: aligned labels and values, or the same as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

/// One value with its unit, so that people and programs each get it in their own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// USD as a decimal string.
    Usd(String),
    Count(u64),
    Millis(u64),
    /// So many milliseconds ago.
    Ago(u64),
    /// Until waiting helps, in milliseconds; `None` where it does not.
    Wait(Option<u64>),
    /// What is left of a limit.
    Left {
        remaining: u64,
        per_minute: u64,
    },
    Flag(bool),
    /// Nothing is known, or nothing applies.
    Nothing,
}

impl Value {
    /// A value, or nothing.
    pub fn or_nothing(value: Option<Self>) -> Self {
        value.unwrap_or(Self::Nothing)
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn usd(usd: impl Into<String>) -> Self {
        Self::Usd(usd.into())
    }

    fn for_people(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Usd(usd) => dollars(usd),
            Self::Count(count) => grouped(*count),
            Self::Millis(millis) | Self::Wait(Some(millis)) => duration(*millis),
            Self::Ago(millis) => format!("{} ago", duration(*millis)),
            Self::Wait(None) => "waiting does not help".into(),
            Self::Left { remaining, per_minute } => {
                format!("{} of {} a minute left", grouped(*remaining), grouped(*per_minute))
            }
            Self::Flag(true) => "yes".into(),
            Self::Flag(false) => "no".into(),
            Self::Nothing => "-".into(),
        }
    }

    fn for_programs(&self) -> Json {
        match self {
            Self::Text(text) | Self::Usd(text) => Json::from(text.as_str()),
            Self::Count(number) | Self::Millis(number) | Self::Ago(number) => Json::from(*number),
            Self::Wait(millis) => Json::from(*millis),
            Self::Left { remaining, per_minute } => json!({"remaining": remaining, "per_minute": per_minute}),
            Self::Flag(flag) => Json::from(*flag),
            Self::Nothing => Json::Null,
        }
    }

    /// What a label must say further where nobody sees how the value is written.
    fn unit(&self) -> &'static str {
        match self {
            Self::Usd(_) => "_usd",
            Self::Millis(_) | Self::Wait(_) => "_ms",
            Self::Ago(_) => "_ms_ago",
            Self::Text(_) | Self::Count(_) | Self::Left { .. } | Self::Flag(_) | Self::Nothing => "",
        }
    }
}

/// Labels with values under a headline.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    headline: String,
    rows: Vec<(&'static str, Value)>,
    /// Tables below the rows; for programs a list of objects each.
    tables: Vec<Table>,
    /// Rows that only programs need: the headline says them already.
    unsaid: Vec<(&'static str, Value)>,
}

impl Sheet {
    pub fn new(headline: impl Into<String>) -> Self {
        Self { headline: headline.into(), ..Self::default() }
    }

    pub fn row(&mut self, label: &'static str, value: Value) {
        self.rows.push((label, value));
    }

    pub fn row_if(&mut self, label: &'static str, value: Option<Value>) {
        self.rows.extend(value.map(|value| (label, value)));
    }

    /// A row that is in the JSON only.
    pub fn unsaid(&mut self, label: &'static str, value: Value) {
        self.unsaid.push((label, value));
    }

    pub fn unsaid_if(&mut self, label: &'static str, value: Option<Value>) {
        self.unsaid.extend(value.map(|value| (label, value)));
    }

    /// A table below the rows, where it has any.
    pub fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// For people, or as one line of JSON.
    pub fn render(&self, json: bool) -> String {
        if json { format!("{}\n", self.json()) } else { self.text() }
    }

    fn text(&self) -> String {
        let width = self.rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.headline);
        for (label, value) in &self.rows {
            writeln!(text, "  {label:width$}  {}", value.for_people()).expect("a String takes everything");
        }
        for table in self.tables.iter().filter(|table| !table.rows.is_empty()) {
            write!(text, "\n{}", table.text()).expect("a String takes everything");
        }
        text
    }

    /// One object; labels become names with the unit at their end.
    fn json(&self) -> Json {
        let rows = self.unsaid.iter().chain(&self.rows);
        let mut object: Map<_, _> = rows.map(|(label, value)| (name(label, value), value.for_programs())).collect();
        object.extend(self.tables.iter().map(|table| (table.name.to_owned(), table.json())));
        Json::Object(object)
    }
}

/// Columns under a row of names.
#[derive(Clone, Debug)]
pub struct Table {
    /// What programs find it under.
    pub name: &'static str,
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    fn text(&self) -> String {
        table(self.columns, &self.rows)
    }

    fn json(&self) -> Json {
        let row = |row: &Vec<Value>| {
            let named = self.columns.iter().zip(row).map(|(column, value)| (name(column, value), value.for_programs()));
            Json::Object(named.collect())
        };
        Json::Array(self.rows.iter().map(row).collect())
    }
}

/// A label as programs find it, with the unit at its end.
fn name(label: &str, value: &Value) -> String {
    format!("{}{}", label.replace([' ', '-'], "_"), value.unit())
}

/// Columns under a row of names. Amounts and counts stand to the right.
pub fn table(names: &[&str], rows: &[Vec<Value>]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(Value::for_people).collect()).collect();
    let width = |column: usize| {
        let cell = |row: &Vec<String>| row.get(column).map_or(0, |cell| cell.chars().count());
        cells.iter().map(cell).chain([names[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let is_number = |cell: Option<&Value>| matches!(cell, Some(Value::Usd(_) | Value::Count(_)));
    let right = |column: usize| rows.iter().any(|row| is_number(row.get(column)));

    let head: Vec<String> = names.iter().map(|name| name.to_uppercase()).collect();
    let mut text = String::new();
    for row in [head].iter().chain(&cells) {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if right(column) { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `-12.5` as `-$12.50`.
pub fn dollars(usd: &str) -> String {
    let (sign, usd) = usd.strip_prefix('-').map_or(("", usd), |usd| ("-", usd));
    let (whole, cents) = usd.split_once('.').unwrap_or((usd, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    format!("{sign}${whole}.{cents:0<2}")
}

/// `12345` as `12,345`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whole seconds where there are some, else milliseconds.
pub fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        _ if millis.is_multiple_of(1_000) => format!("{} s", grouped(millis / 1_000)),
        _ => format!("{}.{} s", grouped(millis / 1_000), millis % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        let cases = [
            (Value::usd("12.5"), "$12.50"),
            (Value::usd("-0.000001"), "-$0.000001"),
            (Value::usd("1234567"), "$1,234,567.00"),
            (Value::Count(0), "0"),
            (Value::Count(999), "999"),
            (Value::Count(21_600_000), "21,600,000"),
            (Value::Millis(200), "200 ms"),
            (Value::Millis(60_000), "60 s"),
            (Value::Millis(1_250), "1.2 s"),
            (Value::Wait(None), "waiting does not help"),
            (Value::Left { remaining: 5_999, per_minute: 6_000 }, "5,999 of 6,000 a minute left"),
            (Value::Flag(true), "yes"),
        ];
        for (value, text) in cases {
            assert_eq!(value.for_people(), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows =
            [vec![Value::text("acme"), Value::usd("1")], vec![Value::text("a-longer-name"), Value::usd("1000.5")]];
        let expected = "ACCOUNT          BALANCE\n\
                        acme               $1.00\n\
                        a-longer-name  $1,000.50\n";
        assert_eq!(table(&["account", "balance"], &rows), expected);
    }

    #[test]
    fn a_sheet_is_text_or_json() {
        let mut sheet = Sheet::new("acme");
        sheet.unsaid("account", Value::text("acme"));
        sheet.row("balance", Value::usd("1"));
        sheet.row("month used", Value::usd("0.25"));
        assert_eq!(sheet.text(), "acme\n  balance     $1.00\n  month used  $0.25\n");
        assert_eq!(sheet.json().to_string(), r#"{"account":"acme","balance_usd":"1","month_used_usd":"0.25"}"#);
    }
}
