//! What a file says, before anyone asks whether it makes sense: one tree for TOML and JSON alike, each value with its
//! place in the file.
//!
//! JSON may hold comments and trailing commas, as the files of other MCP clients do, and nothing else beyond RFC 8259.
//! A name that occurs twice in one table is refused in both.

use jsonc_parser::ast;
use toml::de::{DeTable, DeValue};

use super::complaint::{Ledger, Place};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

/// A value of either format.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// In its author's words, but decimal.
    Number(String),
    Flag(bool),
    Null,
    Date,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One member of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Where the name stands.
    pub(super) at: usize,
    pub(super) node: Node,
}

impl Value {
    /// What it is, as complaints say it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Flag(_) => "a boolean",
            Self::Null => "null",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Value {
    /// The number or the flag that a text spells.
    pub(super) fn unquoted(&self) -> Option<Self> {
        let Self::Text(text) = self else { return None };
        match text.as_str() {
            "true" => Some(Self::Flag(true)),
            "false" => Some(Self::Flag(false)),
            text => text.parse::<f64>().is_ok_and(f64::is_finite).then(|| Self::Number(text.to_owned())),
        }
    }
}

/// Reads TOML; `None` if it is none, which the ledger then says, with every error of syntax.
pub(super) fn from_toml(text: &str, ledger: &Ledger) -> Option<Vec<Entry>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        ledger.complain(Place::At(at), "", format!("not valid TOML: {}", error.message()));
    }
    // What was recovered from a broken file would only bring complaints about the recovery.
    errors.is_empty().then(|| toml_entries(table.get_ref()))
}

fn toml_entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(name, value)| Entry {
            name: name.get_ref().to_string(),
            at: name.span().start,
            node: Node { at: value.span().start, value: toml_value(value.get_ref()) },
        })
        .collect();
    // The parser sorts by name; servers are listed in the order of the file.
    entries.sort_by_key(|entry| entry.at);
    entries
}

fn toml_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(whole) => {
            let decimal = i128::from_str_radix(whole.as_str(), whole.radix());
            Value::Number(decimal.map_or_else(|_| whole.to_string(), |number| number.to_string()))
        }
        DeValue::Float(float) => Value::Number(float.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node { at: item.span().start, value: toml_value(item.get_ref()) })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(toml_entries(table)),
    }
}

/// Reads JSON; `None` if it is no JSON object, which the ledger then says.
pub(super) fn from_json(text: &str, ledger: &Ledger) -> Option<Vec<Entry>> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options);
    let wrong = match parsed.map(|parsed| parsed.value) {
        Ok(Some(ast::Value::Object(object))) => return Some(json_entries(object, ledger)),
        Ok(_) => (0, "not a JSON object".to_owned()),
        Err(error) => (error.range().start, format!("not valid JSON: {}", error.kind())),
    };
    ledger.complain(Place::At(wrong.0), "", wrong.1);
    None
}

fn json_entries(object: ast::Object<'_>, ledger: &Ledger) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(object.properties.len());
    for member in object.properties {
        let at = member.range.start;
        let name = member.name.into_string();
        if entries.iter().any(|entry| entry.name == name) {
            ledger.complain(Place::At(at), &name, "occurs twice in one object");
            continue;
        }
        entries.push(Entry { name, at, node: json_node(member.value, ledger) });
    }
    entries
}

fn json_node(value: ast::Value<'_>, ledger: &Ledger) -> Node {
    let (at, value) = match value {
        ast::Value::StringLit(text) => (text.range.start, Value::Text(text.value.into_owned())),
        ast::Value::NumberLit(number) => (number.range.start, Value::Number(number.value.to_owned())),
        ast::Value::BooleanLit(flag) => (flag.range.start, Value::Flag(flag.value)),
        ast::Value::NullKeyword(null) => (null.range.start, Value::Null),
        ast::Value::Array(list) => {
            let items = list.elements.into_iter().map(|item| json_node(item, ledger)).collect();
            (list.range.start, Value::List(items))
        }
        ast::Value::Object(object) => (object.range.start, Value::Table(json_entries(object, ledger))),
    };
    Node { at, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn both_formats_keep_the_order_of_the_file() {
        let ledger = Ledger::default();
        let toml = from_toml("z = 1\n[b.y]\n[a]\n[b.x]\n", &ledger).expect("valid TOML");
        assert_eq!(names(&toml), ["z", "b", "a"]);
        let json = from_json("{\"z\": 1, // why\n \"b\": {}, \"a\": [1,],}", &ledger).expect("valid JSON");
        assert_eq!(names(&json), ["z", "b", "a"]);
        assert!(ledger.close().expect("no complaint").is_empty());
    }

    #[test]
    fn numbers_come_out_decimal() {
        let toml =
            from_toml("a = 0x10\nb = 1_000\nc = 1.5\nd = -2\n", &Ledger::default()).expect("valid TOML");
        let numbers: Vec<_> = toml.into_iter().map(|entry| entry.node.value).collect();
        assert_eq!(numbers, ["16", "1000", "1.5", "-2"].map(|text| Value::Number(text.to_owned())));
    }

    #[test]
    fn broken_text_is_a_complaint_with_its_place() {
        type Read = fn(&str, &Ledger) -> Option<Vec<Entry>>;
        let cases: [(Read, &str, &str); 7] = [
            (from_toml, "a = 1\nb = \n", "f:2:5: not valid TOML: "),
            (from_toml, "a = 1\na = 2\n", "f:2:1: not valid TOML: duplicate key"),
            (from_json, "{\"a\": }", "f:1:7: not valid JSON: "),
            (from_json, "[1]", "f:1:1: not a JSON object"),
            (from_json, "", "f:1:1: not a JSON object"),
            (from_json, "{\"a\": 1\n, \"a\": 2}", "f:2:3: a: occurs twice in one object"),
            (from_json, "{'a': 1}", "f:1:2: not valid JSON: "),
        ];
        for (read, text, expected) in cases {
            let ledger = Ledger::of_file("f".to_owned(), text.to_owned());
            read(text, &ledger);
            let complaints = ledger.close().expect_err(text).to_string();
            assert!(complaints.starts_with(expected), "{text:?}: {complaints}");
        }
    }
}
