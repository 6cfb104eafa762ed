//! The text alone of a result, for those who take no JSON. Pure.
//!
//! Only text is looked at; images, audio and links have no place in it. A lone surrogate, which some servers emit, has
//! no place in UTF-8 and is replaced.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use crate::exchange::RawJson;

/// The text items of a `CallToolResult`, joined by newlines. `None`: it is no such result.
pub(super) fn of_tool(result: &RawJson) -> Option<String> {
    if !result.as_str().starts_with('{') {
        // An array would do for a struct all of whose fields have defaults.
        return None;
    }
    let result: ToolResult<'_> = result.read().ok()?;
    Some(joined(result.content.into_iter().filter_map(text_item)))
}

/// The text contents of a `ReadResourceResult`, joined by newlines. `None`: it is no such result.
pub(super) fn of_resource(result: &RawJson) -> Option<String> {
    let result: ResourceResult<'_> = result.read().ok()?;
    let texts = result.contents.into_iter();
    Some(joined(texts.filter_map(|contents| serde_json::from_str::<Item>(contents.get()).ok()?.text)))
}

/// The text of the messages of a `GetPromptResult`, joined by newlines. `None`: it is no such result.
pub(super) fn of_prompt(result: &RawJson) -> Option<String> {
    let result: PromptResult<'_> = result.read().ok()?;
    Some(joined(result.messages.into_iter().filter_map(|message| text_item(message.content))))
}

fn text_item(item: &RawValue) -> Option<Text> {
    let item: Item = serde_json::from_str(item.get()).ok()?;
    if item.kind.is_some_and(|kind| kind.0 == "text") { item.text } else { None }
}

fn joined(texts: impl Iterator<Item = Text>) -> String {
    texts.map(|text| text.0).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
struct ToolResult<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ResourceResult<'a> {
    #[serde(borrow)]
    contents: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PromptResult<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<Text>,
    text: Option<Text>,
}

/// A string, read as bytes: so `serde_json` lets lone surrogates through, and they can be replaced.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(text).into_owned()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn the_text_items_of_a_tool_result_are_joined_by_newlines() {
        for (result, expected) in [
            (r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b\nc"}]}"#, Some("a\nb\nc")),
            (
                r#"{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"},{"text":"b","type":"text"}]}"#,
                Some("b"),
            ),
            (
                r#"{"content":[{"type":"text","text":"\ud800!"}],"big":1e400}"#,
                Some("\u{fffd}\u{fffd}\u{fffd}!"),
            ),
            (r#"{"content":[{"type":"text","text":3},7]}"#, Some("")),
            (r#"{"structuredContent":{}}"#, Some("")),
            (r#"{"content":"a"}"#, None),
            ("[]", None),
        ] {
            assert_eq!(of_tool(&raw(result)).as_deref(), expected, "{result}");
        }
    }

    #[test]
    fn resources_and_prompts_have_text_too() {
        let resource = raw(r#"{"contents":[{"uri":"a:b","text":"one"},{"uri":"a:c","blob":"aGk="}]}"#);
        assert_eq!(of_resource(&resource).as_deref(), Some("one"));
        let prompt = raw(r#"{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}"#);
        assert_eq!(of_prompt(&prompt).as_deref(), Some("hi"));
        assert_eq!(of_prompt(&resource), None);
    }
}
