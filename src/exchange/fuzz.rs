//! What must be true of JSON that is relayed, and of the trace that a call belongs to, whoever wrote them. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{RawJson, TraceContext};

/// Any text that may be JSON.
pub(crate) fn json(input: &[u8]) {
    let parsed = RawJson::parse(Bytes::copy_from_slice(input));
    assert_eq!(parsed.is_ok(), serde_json::from_slice::<&RawValue>(input).is_ok());
    let Ok(value) = parsed else { return };
    let text = value.as_str();
    assert!(!text.contains(['\n', '\r']), "it is one line");
    let again = RawJson::parse(value.bytes()).expect("what was JSON still is");
    assert_eq!(again, value, "nothing else is changed");
    let meant = serde_json::from_slice::<Value>(input).ok();
    assert_eq!(meant, serde_json::from_str(text).ok(), "it means the same");

    let unique = value.check_unique();
    if let Err(error) = &unique {
        assert!(!error.to_string().is_empty());
    } else {
        assert!(is_unique(text, 0), "two equal names were let through");
    }
    // What no generic value can hold (depth, surrogates, 1e400) says nothing about names.
    if meant.is_some() {
        assert_eq!(unique.is_ok(), is_unique(text, 0));
    }
    parts(&value, meant.as_ref(), unique.is_ok());
}

/// What it is taken apart into, against what a generic parser finds.
fn parts(value: &RawJson, meant: Option<&Value>, unique: bool) {
    let members = value.members();
    if unique {
        assert_eq!(members.is_ok(), value.as_str().starts_with('{'));
    }
    if let Ok(members) = members {
        let whole = RawJson::object(&members);
        if let Some(meant) = meant {
            assert_eq!(
                serde_json::from_str::<Value>(whole.as_str()).as_ref().ok(),
                Some(meant),
                "nothing is lost"
            );
        }
        for (_, member) in &members {
            assert!(!member.as_str().contains(['\n', '\r']));
        }
    }
    let elements = value.elements();
    assert_eq!(elements.is_some(), value.as_str().starts_with('['));
    if let (Some(elements), Some(Value::Array(expected))) = (elements, meant) {
        let read: Vec<Value> = elements.iter().map(|element| element.read().expect("it is JSON")).collect();
        assert_eq!(&read, expected);
    }
}

/// The same check level by level, each value parsed by itself: slow, and plainly right.
fn is_unique(text: &str, depth: usize) -> bool {
    assert!(depth < 200, "deeper than is let through");
    let nested: Vec<String> = match text.as_bytes().first() {
        Some(b'{') => {
            let value = RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).expect("it is JSON");
            let Ok(members) = value.members() else { return false };
            members.iter().map(|(_, value)| value.as_str().to_owned()).collect()
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).expect("it is JSON");
            elements.iter().map(|element| element.get().to_owned()).collect()
        }
        _ => return true,
    };
    nested.iter().all(|value| is_unique(value, depth + 1))
}

/// A `traceparent` in the first line, and a `tracestate` in each of the others: read exactly if the specification has it
/// so, and passed on as what was read.
pub(crate) fn trace(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let parent = lines.next().unwrap_or_default();
    let states: Vec<&[u8]> = lines.collect();
    let read = TraceContext::read([parent].into_iter(), states.iter().copied());
    assert_eq!(read.is_some(), is_parent(parent.trim_ascii()));
    let Some(read) = read else { return };
    let told = read.traceparent();
    assert!(told.starts_with("00-") && is_parent(told.as_bytes()), "{told}");
    if let Some(state) = read.tracestate() {
        let members: Vec<&str> = state.split(',').collect();
        let keys: BTreeSet<&str> =
            members.iter().filter_map(|member| Some(member.split_once('=')?.0)).collect();
        assert!(keys.len() == members.len() && keys.len() <= 32, "{state:?}");
        let written: Vec<&[u8]> = states.iter().flat_map(|state| state.split(|byte| *byte == b',')).collect();
        for member in members {
            assert!(!member.contains(char::is_control), "{member:?}");
            assert!(written.iter().any(|written| written.trim_ascii() == member.as_bytes()), "{member:?}");
        }
    }
    let again =
        TraceContext::read([told.as_bytes()].into_iter(), read.tracestate().map(str::as_bytes).into_iter());
    assert_eq!(again, Some(read));
}

/// W3C Trace Context, sections 3.2.2 and 4: byte by byte.
fn is_parent(value: &[u8]) -> bool {
    let Some((head, more)) = value.split_at_checked(55) else { return false };
    let formed = head.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let named = |digits: &[u8]| digits.iter().any(|digit| *digit != b'0');
    let version = match &head[..2] {
        b"00" => more.is_empty(),
        b"ff" => false,
        // What the future brings is text, too.
        _ => more.is_empty() || (more[0] == b'-' && std::str::from_utf8(more).is_ok()),
    };
    formed && version && named(&head[3..35]) && named(&head[36..52])
}
