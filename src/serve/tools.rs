//! A server's tools for a person: each with what it takes; and which of its arguments are strings, whatever they look
//! like. Pure.
//!
//! Schemas are the servers' own and may be anything: what is not understood is not shown, and nothing is refused for it.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::exchange::RawJson;

/// How wide the column of names is.
const NAMES: usize = 24;
/// How deep alternatives are looked into.
const DEPTH: usize = 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    name: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    input_schema: Value,
}

/// A tool in one line, and a line for each of its arguments; one that cannot be read, as it is.
pub(super) fn show(item: &RawJson) -> String {
    let Ok(Tool { name, title, description, input_schema }) = item.read() else {
        return item.as_str().to_owned();
    };
    let title = title.filter(|title| !title.eq_ignore_ascii_case(&name)).map(|title| one_line(&title));
    let description = description.as_deref().map(one_line).filter(|text| !text.is_empty());
    let about: Vec<String> = title.into_iter().chain(description).collect();
    let mut text = format!("{name:<NAMES$} {}", about.join(": ")).trim_end().to_owned();
    let required = input_schema["required"].as_array().cloned().unwrap_or_default();
    for name in arguments_of(item).unwrap_or_default() {
        let required = required.iter().any(|one| *one == name);
        let schema = &input_schema["properties"][&name];
        let _ = write!(text, "\n{}", argument(&name, schema, required));
    }
    text
}

/// The names of its arguments, in the server's own order.
fn arguments_of(tool: &RawJson) -> Option<Vec<String>> {
    let member = |object: &RawJson, wanted: &str| {
        object.members().ok()?.into_iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
    };
    let properties = member(&member(tool, "inputSchema")?, "properties")?;
    Some(properties.members().ok()?.into_iter().map(|(name, _)| name).collect())
}

fn argument(name: &str, schema: &Value, required: bool) -> String {
    let mut kind = kind(schema, DEPTH).unwrap_or_else(|| "anything".to_owned());
    match &schema["default"] {
        _ if required => {}
        Value::Null => kind.push_str(", optional"),
        default => {
            let _ = write!(kind, ", {default} by default");
        }
    }
    let about = schema["description"].as_str().map(one_line).unwrap_or_default();
    format!("    {name:<20} ({kind}) {about}").trim_end().to_owned()
}

/// The first line, without what a terminal would obey.
fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).collect()
}

/// The type in words; `None`: the schema does not say.
fn kind(schema: &Value, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    if let Some(values) = schema["enum"].as_array() {
        return Some(values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "));
    }
    if !schema["const"].is_null() {
        return Some(schema["const"].to_string());
    }
    let named = |name: &str| match (name, kind(&schema["items"], depth)) {
        ("array", Some(items)) => format!("array of {items}"),
        _ => name.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => Some(named(name)),
        Value::Array(names) => {
            Some(names.iter().filter_map(Value::as_str).map(named).collect::<Vec<_>>().join(" | "))
        }
        _ => {
            let kinds: Vec<String> = alternatives(schema).filter_map(|schema| kind(schema, depth)).collect();
            (!kinds.is_empty()).then(|| kinds.join(" | "))
        }
    }
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten()
}

/// Whether this tool's argument may be a string.
pub(super) fn takes_string(tools: &[RawJson], tool: &str, argument: &str) -> bool {
    let tool = tools.iter().filter_map(|item| item.read::<Tool>().ok()).find(|found| found.name == tool);
    tool.is_some_and(|tool| may_be_string(&tool.input_schema["properties"][argument], DEPTH))
}

fn may_be_string(schema: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let listed = schema["enum"].as_array().into_iter().flatten().any(Value::is_string);
    let typed = match &schema["type"] {
        Value::String(name) => name == "string",
        Value::Array(names) => names.iter().any(|name| name == "string"),
        _ => false,
    };
    listed || typed || alternatives(schema).any(|schema| may_be_string(schema, depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &'static str) -> RawJson {
        RawJson::parse(text.as_bytes().into()).expect("JSON")
    }

    #[test]
    fn a_tool_is_shown_with_what_it_takes() {
        let tool = raw(
            r#"{"name":"find","title":"Find files","description":"\n Finds files.\nSlowly.","inputSchema":{"type":"object",
            "properties":{"path":{"type":"string","description":"where\u001b[2J"},
            "depth":{"type":"integer","default":3},"names":{"type":"array","items":{"type":"string"}},
            "kind":{"enum":["file","dir"]},"size":{"anyOf":[{"type":"number"},{"type":"null"}]},"any":{}},
            "required":["path"]}}"#,
        );
        assert_eq!(
            show(&tool),
            "find                     Find files: Finds files.\n\
             \x20   path                 (string) where[2J\n\
             \x20   depth                (integer, 3 by default)\n\
             \x20   names                (array of string, optional)\n\
             \x20   kind                 (\"file\" | \"dir\", optional)\n\
             \x20   size                 (number | null, optional)\n\
             \x20   any                  (anything, optional)"
        );
        assert_eq!(show(&raw(r#"{"name":"x"}"#)), "x");
        assert_eq!(show(&raw(r#"{"name":"x","inputSchema":{"properties":3,"required":"x"}}"#)), "x");
        assert_eq!(show(&raw("3")), "3");
    }

    #[test]
    fn what_may_be_a_string_is_told_by_the_schema() {
        let tools = [raw(
            r#"{"name":"t","inputSchema":{"properties":{"a":{"type":"string"},"b":{"type":["null","string"]},
            "c":{"anyOf":[{"type":"null"},{"oneOf":[{"type":"string"}]}]},"d":{"enum":["1"]},"e":{"type":"integer"},"f":{}}}}"#,
        )];
        for (name, expected) in
            [("a", true), ("b", true), ("c", true), ("d", true), ("e", false), ("f", false), ("g", false)]
        {
            assert_eq!(takes_string(&tools, "t", name), expected, "{name}");
        }
        assert!(!takes_string(&tools, "u", "a"));
    }
}
