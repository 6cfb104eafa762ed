//! A tool's input schema, and whether arguments fit it. Pure.
//!
//! Schemas come from children, so nothing in one is trusted: no `$ref` is fetched from anywhere, patterns are matched
//! in linear time, and text beyond a size is not compiled at all. A schema that is broken, or arguments that only the
//! server itself can judge, are no reason to refuse a call: then nobody checks but the server. So it is with `format` and
//! with encoded content: validators differ in what is a good one (is `https://example.org/ä` a `uri`?), and since draft
//! 2019-09 they are notes only.

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

use super::cost::{Cost, Untold};
use crate::exchange::RawJson;
use crate::exchange::fault::Violation;

/// The largest schema that is compiled, in bytes.
const MOST_SCHEMA: usize = 256 * 1024;
/// The largest arguments that are checked, in bytes.
const MOST_ARGUMENTS: usize = 1024 * 1024;
/// The most steps that a check may take; some seconds at the very worst, as it is counted, and as a rule far less.
const MOST_STEPS: u64 = 50_000_000;
/// The most violations that are told.
const MOST_VIOLATIONS: usize = 20;
/// The longest message of one violation, in bytes: it may quote what was sent.
const LONGEST: usize = 300;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    cost: Cost,
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// Too large.
    #[error("larger than {MOST_SCHEMA} bytes, or with its references written out")]
    TooLarge,
    /// Not JSON that can be compiled.
    #[error("not readable")]
    Unreadable(#[source] serde_json::Error),
    /// What a check would cost cannot be told.
    #[error(transparent)]
    Untold(#[from] Untold),
    /// Not a schema, or one that refers to somewhere else.
    #[error("not usable: {0}")]
    Unusable(String),
}

/// Fetches nothing.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} is not fetched: a schema must be whole").into())
    }
}

impl Schema {
    /// Compiles a schema. Without `$schema` it is taken for draft 2020-12, as the protocol says.
    pub(super) fn compile(schema: &RawJson) -> Result<Self, SchemaError> {
        if schema.as_str().len() > MOST_SCHEMA {
            return Err(SchemaError::TooLarge);
        }
        let schema: Value = schema.read().map_err(SchemaError::Unreadable)?;
        // Before it is compiled, which may write references out.
        let cost = Cost::of(&schema)?;
        if !cost.is_bearable() {
            return Err(SchemaError::TooLarge);
        }
        let options = jsonschema::options()
            .with_retriever(Nowhere)
            // Draft 7 and those before would have them checked.
            .should_validate_formats(false)
            .without_content_encoding_support("base64")
            .without_content_encoding_support("base64url")
            .without_content_media_type_support("application/json")
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20));
        let validator =
            options.build(&schema).map_err(|error| SchemaError::Unusable(shorten(&error.to_string())))?;
        Ok(Self { validator, cost })
    }

    /// Where the arguments break the schema; empty: nowhere, or nobody but the server can tell. What is checked is a
    /// copy: what will be sent stays the caller's own text.
    pub(super) fn violations(&self, arguments: &RawJson) -> Vec<Violation> {
        if arguments.as_str().len() > MOST_ARGUMENTS {
            return Vec::new();
        }
        // A lone surrogate or 1e400 has no place in a generic value.
        let Ok(copy) = arguments.read::<Value>() else { return Vec::new() };
        if self.cost.steps(&copy) > MOST_STEPS {
            tracing::warn!(cost = ?self.cost, "checking these arguments would cost too much; the server has to");
            return Vec::new();
        }
        let violation = |error: jsonschema::ValidationError<'_>| Violation {
            pointer: error.instance_path().to_string(),
            message: shorten(&error.to_string()),
        };
        self.validator.iter_errors(&copy).take(MOST_VIOLATIONS).map(violation).collect()
    }
}

fn shorten(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    if end < text.len() { format!("{}...", &text[..end]) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn pointers(schema: &str, arguments: &str) -> Vec<String> {
        let schema = Schema::compile(&raw(schema)).unwrap();
        schema.violations(&raw(arguments)).into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn each_violation_is_pointed_at() {
        let schema = r#"{"type":"object","required":["a"],"properties":{"a":{"type":"number"},
            "list":{"type":"array","items":{"type":"string"}}}}"#;
        assert_eq!(pointers(schema, r#"{"a":1}"#), Vec::<String>::new());
        assert_eq!(pointers(schema, r"{}"), [""]);
        assert_eq!(pointers(schema, r#"{"a":"x","list":["y",1]}"#), ["/a", "/list/1"]);
    }

    #[test]
    fn what_no_generic_value_can_hold_is_left_to_the_server() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"string"}}}"#;
        for arguments in [r#"{"a":1e400}"#, r#"{"a":1,"b":"\ud800"}"#] {
            assert_eq!(pointers(schema, arguments), Vec::<String>::new());
        }
    }

    #[test]
    fn what_validators_differ_in_is_left_to_the_server_in_every_draft() {
        let properties = r#""properties":{"url":{"type":"string","format":"uri"},
            "mail":{"format":"email"},"data":{"contentEncoding":"base64"},"web":{"contentEncoding":"base64url"},
            "json":{"contentMediaType":"application/json"}}"#;
        let arguments = r#"{"url":"https://example.org/ä","mail":"me","data":"-_","web":"+/","json":"{"}"#;
        for draft in ["draft-04", "draft-06", "draft-07", "draft/2019-09", "draft/2020-12"] {
            let schema = format!(r#"{{"$schema":"http://json-schema.org/{draft}/schema#",{properties}}}"#);
            assert_eq!(pointers(&schema, arguments), Vec::<String>::new(), "{draft}");
            assert_eq!(pointers(&schema, r#"{"url":1}"#), ["/url"], "the rest of it is checked: {draft}");
        }
    }

    #[test]
    fn a_reference_to_elsewhere_is_an_error_and_no_request() {
        for reference in ["http://127.0.0.1:9/schema", "file:///etc/passwd", "https://json-schema.org/x"] {
            let error = Schema::compile(&raw(&format!(r#"{{"$ref":"{reference}"}}"#))).unwrap_err();
            assert!(error.to_string().contains("cannot be followed"), "{error}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_an_error() {
        for schema in [r#"{"type":"nothing"}"#, r#"{"pattern":"("}"#, "3"] {
            assert!(Schema::compile(&raw(schema)).is_err(), "{schema}");
        }
        let huge = format!("{{\"description\":{:?}}}", "x".repeat(MOST_SCHEMA));
        assert!(matches!(Schema::compile(&raw(&huge)), Err(SchemaError::TooLarge)));
    }

    #[test]
    fn a_pattern_that_backtracks_without_end_is_matched_in_linear_time() {
        let schema = r#"{"type":"object","properties":{"a":{"pattern":"^(a+)+$"}}}"#;
        let arguments = format!(r#"{{"a":"{}!"}}"#, "a".repeat(50_000));
        assert_eq!(pointers(schema, &arguments), ["/a"]);
    }
}
