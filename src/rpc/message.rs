//! JSON-RPC 2.0 messages: requests, replies, notifications, ids. Pure.
//!
//! What comes in is taken apart just as far as needed to know whom it concerns; `params`, `result` and `data` stay
//! the text that the peer wrote. What goes out is built here, envelope first, so that nothing relayed can pose as a
//! message of its own. Source: JSON-RPC 2.0, sections 4 and 5.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::exchange::json::{Elements, put_object, put_string};
use crate::exchange::{Members, RawJson};

/// One message from the peer.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// An answer to what we may have asked.
    Reply { id: RawJson, reply: Reply },
    /// A question to us.
    Request { id: RawJson, method: String },
    /// Something that wants no answer.
    Notification { method: String, params: Option<RawJson> },
    /// An element of a batch that is no message. It spoils no other.
    Noise(RawJson),
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The `result`.
    Result(RawJson),
    /// The `error`.
    Error(ErrorObject),
    /// Neither, or both: nobody can tell what it says.
    Malformed,
}

/// The `error` of an answer.
#[derive(Debug)]
pub(crate) struct ErrorObject {
    /// Its number.
    pub(crate) code: i64,
    /// Its sentence.
    pub(crate) message: String,
    /// More about it, in the peer's own words.
    pub(crate) data: Option<RawJson>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorFields<'a> {
    code: i64,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// The messages in one line: one, several if it is a batch (which only revision 2025-03-26 has, and which is taken
/// whatever was agreed upon), none if it is empty. `None`: no message at all.
pub(crate) fn read(line: &Bytes) -> Option<Vec<Incoming>> {
    let text = line.trim_ascii();
    match text.first() {
        None => Some(Vec::new()),
        Some(b'[') => {
            let Elements(elements) = serde_json::from_slice(text).ok()?;
            let read = |element: &RawValue| {
                let noise = || Incoming::Noise(RawJson::part_of(line, element));
                read_one(line, element.get().as_bytes()).unwrap_or_else(noise)
            };
            Some(elements.into_iter().map(read).collect())
        }
        Some(_) => Some(vec![read_one(line, text)?]),
    }
}

fn read_one(line: &Bytes, text: &[u8]) -> Option<Incoming> {
    let envelope: Envelope<'_> = serde_json::from_slice(text).ok()?;
    if envelope.jsonrpc != "2.0" {
        return None;
    }
    let part = |value| RawJson::part_of(line, value);
    match (envelope.method, envelope.id.map(part)) {
        (Some(method), None) => {
            Some(Incoming::Notification { method: method.into_owned(), params: envelope.params.map(part) })
        }
        (Some(method), Some(id)) => Some(Incoming::Request { id, method: method.into_owned() }),
        (None, Some(id)) => {
            let reply = match (envelope.result, envelope.error) {
                (Some(result), None) => Reply::Result(part(result)),
                (None, Some(error)) => read_error(line, error).map_or(Reply::Malformed, Reply::Error),
                _ => Reply::Malformed,
            };
            Some(Incoming::Reply { id, reply })
        }
        (None, None) => None,
    }
}

fn read_error(line: &Bytes, error: &RawValue) -> Option<ErrorObject> {
    let fields: ErrorFields<'_> = serde_json::from_str(error.get()).ok()?;
    // A sentence with a lone surrogate in it is still worth showing.
    let message =
        serde_json::from_str(fields.message.get()).unwrap_or_else(|_| fields.message.get().to_owned());
    Some(ErrorObject {
        code: fields.code,
        message,
        data: fields.data.map(|data| RawJson::part_of(line, data)),
    })
}

/// Appends a request, with its LF.
pub(crate) fn write_request(out: &mut BytesMut, id: u64, method: &str, params: &Members) {
    out.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.put_slice(id.to_string().as_bytes());
    write_method(out, method, params);
}

/// Appends a notification, with its LF.
pub(crate) fn write_notification(out: &mut BytesMut, method: &str, params: &Members) {
    out.put_slice(b"{\"jsonrpc\":\"2.0\"");
    write_method(out, method, params);
}

fn write_method(out: &mut BytesMut, method: &str, params: &Members) {
    out.put_slice(b",\"method\":");
    put_string(out, method);
    if !params.is_empty() {
        out.put_slice(b",\"params\":");
        put_object(out, params);
    }
    out.put_slice(b"}\n");
}

/// Appends an answer to the peer's question `id`, with its LF.
pub(crate) fn write_reply(out: &mut BytesMut, id: &RawJson, reply: Result<&RawJson, (i64, &str)>) {
    out.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.put_slice(id.as_str().as_bytes());
    match reply {
        Ok(result) => {
            out.put_slice(b",\"result\":");
            out.put_slice(result.as_str().as_bytes());
        }
        Err((code, message)) => {
            out.put_slice(format!(",\"error\":{{\"code\":{code},\"message\":").as_bytes());
            put_string(out, message);
            out.put_slice(b"}");
        }
    }
    out.put_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<Vec<Incoming>> {
        read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn one(text: &str) -> Incoming {
        let mut messages = read_text(text).unwrap();
        assert_eq!(messages.len(), 1);
        messages.remove(0)
    }

    #[test]
    fn each_kind_of_message_is_told_by_its_members() {
        assert!(matches!(one(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Incoming::Reply { .. }));
        assert!(matches!(one(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#), Incoming::Request { .. }));
        assert!(matches!(one(r#" {"method":"n","jsonrpc":"2.0"} "#), Incoming::Notification { .. }));
        assert!(matches!(one("{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\r"), Incoming::Notification { .. }));
    }

    #[test]
    fn what_is_no_message_is_noise() {
        for text in [
            "hello",
            "{}",
            "[1",
            "{\"id\":1,\"result\":{}}",
            "{\"jsonrpc\":\"1.0\",\"method\":\"n\"}",
            "null",
        ] {
            assert!(read_text(text).is_none(), "{text}");
        }
        assert!(read(&Bytes::from_static(b"\xff\xfe")).is_none());
        assert!(read_text("  ").unwrap().is_empty());
    }

    #[test]
    fn a_batch_is_taken_apart() {
        let messages =
            read_text(r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":2,"result":{}}]"#).unwrap();
        assert_eq!(messages.len(), 2);
        let mixed = r#"[7,{"jsonrpc":"2.0","id":null,"error":{}},{"jsonrpc":"2.0","id":2,"result":{}}]"#;
        let messages = read_text(mixed).unwrap();
        assert!(matches!(&*messages, [Incoming::Noise(_), Incoming::Noise(_), Incoming::Reply { .. }]));
    }

    #[test]
    fn an_answer_that_says_both_or_nothing_is_malformed() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#,
        ] {
            assert!(matches!(one(text), Incoming::Reply { reply: Reply::Malformed, .. }), "{text}");
        }
    }

    #[test]
    fn a_result_keeps_the_words_of_its_author() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"n":1e400,"s":"\ud800","z":1,"z":2}}"#;
        let Incoming::Reply { reply: Reply::Result(result), .. } = one(text) else { panic!("a result") };
        assert_eq!(result.as_str(), r#"{"n":1e400,"s":"\ud800","z":1,"z":2}"#);
    }

    #[test]
    fn an_error_is_read_even_if_its_sentence_cannot_be() {
        let text = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"\ud800","data":[1]}}"#;
        let Incoming::Reply { reply: Reply::Error(error), .. } = one(text) else { panic!("an error") };
        assert_eq!((error.code, error.data.unwrap().as_str()), (-32602, "[1]"));
    }

    #[test]
    fn what_goes_out_is_one_line_with_our_envelope() {
        let mut out = BytesMut::new();
        let arguments = RawJson::parse(Bytes::from_static(b"{\n\"a\"\r\n:1}")).unwrap();
        write_request(&mut out, 7, "tools/call", &vec![("arguments".to_owned(), arguments)]);
        write_notification(&mut out, "n", &Vec::new());
        write_reply(&mut out, &RawJson::of("id"), Ok(&RawJson::empty_object()));
        write_reply(&mut out, &RawJson::of(&3), Err((-32601, "no \"such\" method")));
        let expected = [
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"arguments":{ "a"  :1}}}"#,
            r#"{"jsonrpc":"2.0","method":"n"}"#,
            r#"{"jsonrpc":"2.0","id":"id","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"no \"such\" method"}}"#,
            "",
        ];
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected.join("\n"));
    }
}
