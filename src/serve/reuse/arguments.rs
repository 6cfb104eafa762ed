//! Which tools may be tried out, and arguments made up for them from their schemas. Pure.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::exchange::RawJson;

/// How deep a schema is followed.
const DEEPEST: u32 = 8;
/// The longest text and the longest list that are made up.
const LONGEST: u64 = 1000;

/// A tool as its server lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tool {
    pub(super) name: String,
    #[serde(default)]
    input_schema: Value,
    #[serde(default)]
    annotations: Option<Hints>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    read_only_hint: Option<bool>,
    destructive_hint: Option<bool>,
}

impl Tool {
    /// What it is asked with; or why it is not asked. `all`: whatever it may do.
    pub(super) fn trial(&self, all: bool) -> Result<RawJson, &'static str> {
        let hints = self.annotations.unwrap_or_default();
        let required = self.input_schema["required"].as_array().is_some_and(|names| !names.is_empty());
        // What is said to be more than reading is destructive unless said otherwise: `ToolAnnotations` of the protocol.
        let destructive = hints.destructive_hint.unwrap_or(hints.read_only_hint == Some(false));
        if !all && hints.read_only_hint != Some(true) {
            if destructive {
                return Err("it may destroy something; --all-tools asks it all the same");
            }
            if required {
                return Err(
                    "it takes arguments and does not say that it only reads; --all-tools asks it all the same",
                );
            }
        }
        let arguments = made_up(&self.input_schema, DEEPEST).filter(Value::is_object);
        arguments.map(|arguments| RawJson::of(&arguments)).ok_or("no arguments can be made up for it")
    }
}

/// A value that should fit: the schema's own example if it has one, else the least that its type allows.
fn made_up(schema: &Value, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    for own in [&schema["const"], &schema["default"], &schema["enum"][0], &schema["examples"][0]] {
        if !own.is_null() {
            return Some(own.clone());
        }
    }
    let mut alternatives =
        [&schema["anyOf"], &schema["oneOf"]].into_iter().filter_map(Value::as_array).flatten();
    if let Some(value) = alternatives.find_map(|schema| made_up(schema, depth)) {
        return Some(value);
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap_or(&Value::Null),
        kind => kind,
    };
    match kind.as_str() {
        Some("string") => text(schema),
        Some("integer" | "number") => Some(number(schema)),
        Some("boolean") => Some(json!(false)),
        Some("null") => Some(Value::Null),
        Some("array") => {
            let least = schema["minItems"].as_u64().unwrap_or(0);
            (least <= LONGEST).then_some(())?;
            (0..least).map(|_| made_up(&schema["items"], depth)).collect::<Option<Vec<_>>>().map(Value::from)
        }
        // A tool's arguments are an object even where its schema does not say so.
        Some("object") | None => object(schema, depth),
        Some(_) => None,
    }
}

fn object(schema: &Value, depth: u32) -> Option<Value> {
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let members = required.iter().filter_map(Value::as_str);
    let member = |name: &str| Some((name.to_owned(), made_up(&schema["properties"][name], depth)?));
    members.map(member).collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn text(schema: &Value) -> Option<Value> {
    let formatted = match schema["format"].as_str() {
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "00:00:00Z",
        Some("uri" | "url") => "https://example.com/",
        Some("email") => "nobody@example.com",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some(_) | None => {
            let length = schema["minLength"].as_u64().unwrap_or(1).max(1);
            let length = usize::try_from(length).ok().filter(|_| length <= LONGEST)?;
            return Some("a".repeat(length).into());
        }
    };
    Some(formatted.into())
}

fn number(schema: &Value) -> Value {
    let bound = |name: &str| schema[name].as_i64();
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|bound| bound.saturating_add(1)));
    least.or_else(|| bound("maximum").map(|most| most.min(1))).unwrap_or(1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(tool: Value) -> Tool {
        serde_json::from_value(tool).unwrap()
    }

    #[test]
    fn only_what_reads_or_takes_nothing_is_asked_unless_everything_is() {
        let takes = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}});
        let nothing = json!({"type": "object"});
        for (schema, hints, asked) in [
            (&nothing, json!({}), true),
            (&nothing, json!({"readOnlyHint": true}), true),
            (&nothing, json!({"readOnlyHint": false}), false),
            (&nothing, json!({"readOnlyHint": false, "destructiveHint": false}), true),
            (&nothing, json!({"destructiveHint": true}), false),
            (&takes, json!({}), false),
            (&takes, json!({"readOnlyHint": true}), true),
            (&takes, json!({"readOnlyHint": true, "destructiveHint": true}), true),
            (&takes, json!({"destructiveHint": false}), false),
        ] {
            let tool = tool(json!({"name": "t", "inputSchema": schema, "annotations": hints}));
            assert_eq!(tool.trial(false).is_ok(), asked, "{schema} {hints}");
            assert!(tool.trial(true).is_ok(), "{schema} {hints}");
        }
    }

    #[test]
    fn arguments_are_what_the_schema_asks_for_and_no_more() {
        let properties = json!({
            "text": {"type": "string", "minLength": 3},
            "when": {"type": "string", "format": "date"},
            "count": {"type": "integer", "minimum": 5},
            "share": {"type": "number", "exclusiveMinimum": 1, "maximum": 9},
            "below": {"type": "integer", "maximum": -2},
            "which": {"enum": ["x", "y"]},
            "maybe": {"type": ["null", "boolean"]},
            "given": {"type": "string", "default": "d"},
            "list": {"type": "array", "minItems": 2, "items": {"const": 7}},
            "either": {"anyOf": [{"type": "object", "required": ["in"], "properties": {"in": {"type": "null"}}}]},
        });
        let mut names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        names.sort();
        let optional = json!({"type": "string"});
        let mut all = properties.clone();
        all["optional"] = optional;
        let schema = json!({"type": "object", "required": names, "properties": all});
        let made = made_up(&schema, DEEPEST).unwrap();
        let expected = json!({
            "text": "aaa", "when": "2025-01-01", "count": 5, "share": 2, "below": -2, "which": "x", "maybe": false,
            "given": "d", "list": [7, 7], "either": {"in": null},
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn a_schema_without_end_or_sense_makes_nothing_up() {
        let mut schema = json!({"type": "object"});
        for _ in 0..DEEPEST {
            schema = json!({"type": "object", "required": ["a"], "properties": {"a": schema}});
        }
        for schema in
            [schema, json!({"type": "colour"}), json!({"type": "string", "minLength": 1_000_000_000})]
        {
            let tool =
                tool(json!({"name": "t", "inputSchema": schema, "annotations": {"readOnlyHint": true}}));
            assert!(tool.trial(true).is_err(), "{tool:?}");
        }
    }
}
