//! What a person at a command line could do next about a call that failed, in words to be put behind the failure. Pure.

use serde::Deserialize;

use crate::exchange::fault::Violation;
use crate::exchange::{RawJson, nearest};

/// Where the tool's name is to be found, given the tools that there are and the command that lists them.
pub(super) fn other_tool(list: &str, said: &str, tools: &[RawJson]) -> String {
    #[derive(Deserialize)]
    struct Tool {
        name: String,
    }
    let names: Vec<String> = tools.iter().filter_map(|tool| Some(tool.read::<Tool>().ok()?.name)).collect();
    let meant = nearest(said, names.iter().map(String::as_str));
    let meant = meant.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
    format!("{meant}\n`{list}` lists the tools that there are")
}

/// Whether that is about this very argument.
pub(super) fn points_at(violation: &Violation, argument: &str) -> bool {
    // A name in a JSON pointer has these two characters escaped (RFC 6901, section 3).
    violation.pointer == format!("/{}", argument.replace('~', "~0").replace('/', "~1"))
}

/// How arguments are written that should have been strings and look like something else; empty: none is of that kind.
pub(super) fn as_strings(arguments: &RawJson, violations: &[Violation]) -> String {
    let Ok(mut members) = arguments.members() else {
        return String::new();
    };
    let mut found = false;
    for (name, value) in &mut members {
        let wrong = |violation: &Violation| {
            points_at(violation, name) && violation.message.ends_with("is not of type \"string\"")
        };
        if violations.iter().any(wrong) {
            *value = RawJson::of(value.as_str());
            found = true;
        }
    }
    if !found {
        return String::new();
    }
    // In single quotes a shell takes everything as it is, but for the quote itself.
    let object = RawJson::object(&members).as_str().replace('\'', "'\\''");
    format!("\na string that looks like something else has to be said in JSON: '{object}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &'static str) -> RawJson {
        RawJson::parse(text.as_bytes().into()).expect("JSON")
    }

    #[test]
    fn a_tool_is_found_by_a_name_that_is_near_or_in_the_list() {
        let tools = [raw(r#"{"name":"echo"}"#), raw("3"), raw(r#"{"name":"add"}"#)];
        let list = "\n`spawnling tools demo` lists the tools that there are";
        assert_eq!(
            other_tool("spawnling tools demo", "ecoh", &tools),
            format!("; did you mean \"echo\"?{list}")
        );
        assert_eq!(other_tool("spawnling tools demo", "nope", &tools), list);
        assert_eq!(other_tool("spawnling tools demo", "echo", &[]), list);
    }

    #[test]
    fn strings_that_look_like_something_else_are_said_in_json() {
        let not_text = |pointer: &str| Violation {
            pointer: pointer.to_owned(),
            message: "3 is not of type \"string\"".to_owned(),
        };
        let cases = [
            (r#"{"message":3}"#, "/message", Some(r#"'{"message":"3"}'"#)),
            (r#"{"a/b~":[1],"c":2}"#, "/a~1b~0", Some(r#"'{"a/b~":"[1]","c":2}'"#)),
            (r#"{"a":true,"b":"it's"}"#, "/a", Some(r#"'{"a":"true","b":"it'\''s"}'"#)),
            (r#"{"a":[1]}"#, "/a/0", None),
            ("[3]", "/0", None),
        ];
        for (arguments, pointer, expected) in cases {
            let hint = as_strings(&raw(arguments), &[not_text(pointer)]);
            match expected {
                Some(object) => assert!(hint.ends_with(&format!("in JSON: {object}")), "{hint}"),
                None => assert_eq!(hint, "", "{arguments}"),
            }
        }
        let other = Violation { pointer: "/a".to_owned(), message: "3 is not one of 1, 2".to_owned() };
        assert_eq!(as_strings(&raw(r#"{"a":3}"#), &[other]), "");
    }
}
