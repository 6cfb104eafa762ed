//! JSON-RPC 2.0 messages: requests, replies, notifications, ids. Pure.
//!
//! What comes in is taken apart just as far as needed to know whom it concerns; `params`, `result` and `data` stay
//! the text that the peer wrote. What goes out is built here, envelope first, so that nothing relayed can pose as a
//! message of its own. Source: JSON-RPC 2.0, sections 4 and 5.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
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
    /// An answer that cannot be read to its end, though it says whom it is for.
    Garbled { id: RawJson, line: Bytes },
    /// A refusal of what could not be read, so that nobody can say of what.
    Unread { error: ErrorObject, line: Bytes },
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The `result`.
    Result(RawJson),
    /// The `error`.
    Error(ErrorObject),
    /// It is no answer by the book.
    Malformed(Malformed),
}

/// Why nobody can tell what an answer says, as far as the protocol goes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// There must be one of the two: JSON-RPC 2.0, section 5.
    #[error("it has neither a `result` nor an `error`, or both")]
    Members,
    /// The line is not JSON, or not UTF-8.
    #[error("it is not JSON")]
    Garbled,
    /// Section 5.1: an object with `code`, an integer, and `message`. What it says all the same is for people to read.
    #[error("its `error` has no integer `code`, or no `message`; it says: {said}")]
    Error { said: String },
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

/// What an error without an id is about: JSON-RPC 2.0, section 5.1. Another one may be about a notification, which some
/// servers answer.
const PARSE_ERROR: i64 = -32700;

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
        Some(_) => Some(vec![read_one(line, text).or_else(|| read_garbled(line, text))?]),
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
                (None, Some(error)) => read_error(line, error).map_or_else(
                    || Reply::Malformed(Malformed::Error { said: said(line, error) }),
                    Reply::Error,
                ),
                _ => Reply::Malformed(Malformed::Members),
            };
            Some(Incoming::Reply { id, reply })
        }
        (None, None) => {
            let error = read_error(line, envelope.error?).filter(|error| error.code == PARSE_ERROR)?;
            Some(Incoming::Unread { error, line: line.clone() })
        }
    }
}

/// What can still be said of a line that is not JSON, or not UTF-8: whether it has begun as an answer, and to what.
fn read_garbled(line: &Bytes, text: &[u8]) -> Option<Incoming> {
    let mut begun = Begun::default();
    // However far that comes.
    let _ = begun.deserialize(&mut serde_json::Deserializer::from_slice(text));
    match begun {
        Begun { version: Some(version), ids: 1, id: Some(id), answers: true }
            if version == "2.0" && id.get() != "null" =>
        {
            Some(Incoming::Garbled { id: RawJson::part_of(line, id), line: line.clone() })
        }
        _ => None,
    }
}

/// The members of an answer, as far as they could be read.
#[derive(Default)]
struct Begun<'a> {
    version: Option<Cow<'a, str>>,
    id: Option<&'a RawValue>,
    ids: usize,
    answers: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Begun<'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Begun<'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Cow<'_, str>>()? {
            match &*name {
                "jsonrpc" => self.version = Some(members.next_value()?),
                "id" => {
                    self.ids += 1;
                    self.id = Some(members.next_value()?);
                }
                "method" => return Err(A::Error::custom("not an answer")),
                other => {
                    self.answers |= matches!(other, "result" | "error");
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The number of ours that an answer's id stands for. All of ours are plain numbers, so nothing else can be meant by one
/// that comes back as a text, or with a fraction, as from JSON libraries to which every number is a floating one. The
/// official clients are as generous.
pub(crate) fn number(id: &RawJson) -> Option<u64> {
    let text = id.as_str();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
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

/// What an `error` that is none by the book says: its message, or itself if it is but a text, or all of it.
fn said(line: &Bytes, error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let message = serde_json::from_str::<Said>(error.get()).map(|error| error.message);
    let text = message.or_else(|_| serde_json::from_str(error.get()));
    text.unwrap_or_else(|_| RawJson::part_of(line, error).as_str().to_owned())
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
            assert!(matches!(one(text), Incoming::Reply { reply: Reply::Malformed(_), .. }), "{text}");
        }
    }

    #[test]
    fn an_error_that_is_none_by_the_book_says_what_its_author_wrote() {
        for (error, expected) in [
            (r#"{"message":"the disk is full"}"#, "the disk is full"),
            (r#"{"code":"ENOSPC","message":"the disk is full","data":1}"#, "the disk is full"),
            (r#"{"code":1.5,"message":"the \"disk\""}"#, "the \"disk\""),
            (r#""the disk is full""#, "the disk is full"),
            (r#"{"code":-32603}"#, r#"{"code":-32603}"#),
            (r#"{"code":null,"message":["full"]}"#, r#"{"code":null,"message":["full"]}"#),
            (r#"{"code":null,"message":"\ud800"}"#, r#"{"code":null,"message":"\ud800"}"#),
            ("7", "7"),
        ] {
            let message = one(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#));
            let Incoming::Reply { reply: Reply::Malformed(Malformed::Error { said }), .. } = message else {
                panic!("{error}: {message:?}")
            };
            assert_eq!(said, expected, "{error}");
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_still_an_answer_to_its_question() {
        let garbled = |line: &[u8]| match &*read(&Bytes::copy_from_slice(line))? {
            [Incoming::Garbled { id, .. }] => Some(id.as_str().to_owned()),
            other => panic!("{other:?}"),
        };
        for line in [
            &b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"text\":\"K\xe4se\"}}"[..],
            br#"{"result":{"a":1,"a":2},"id":7,"error":{},"result":{},"jsonrpc":"2.0"}"#,
            br#"{"jsonrpc":"2.0","id":7,"result":{"x":NaN}}"#,
            br#"{"jsonrpc": "2.0", "id": 7, "error": {"#,
        ] {
            assert_eq!(garbled(line).as_deref(), Some("7"), "{}", String::from_utf8_lossy(line));
        }
        for line in [
            &br#"{"jsonrpc":"2.0","id":7,"params":{"x":NaN},"method":"m"}"#[..],
            br#"{"jsonrpc":"2.0","id":7,"method":"m","result":{"x":NaN}}"#,
            br#"{"jsonrpc":"2.0","id":7,"id":8,"result":{}}"#,
            br#"{"level":"info","id":7,"result":{"x":NaN}}"#,
            br#"{"jsonrpc":"2.0","id":7"#,
        ] {
            assert_eq!(garbled(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn only_a_parse_error_without_an_id_is_about_a_question() {
        let error = |code, id| {
            read_text(&format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":"m"}}}}"#))
        };
        for id in ["\"id\":null,", ""] {
            assert!(matches!(&*error(-32700, id).unwrap(), [Incoming::Unread { .. }]), "{id}");
            assert!(error(-32601, id).is_none() && error(-32600, id).is_none(), "{id}");
        }
    }

    #[test]
    fn an_id_is_the_number_that_it_was_however_it_is_written() {
        for (id, expected) in [
            ("7", Some(7)),
            ("\"7\"", Some(7)),
            ("7.0", Some(7)),
            ("\"7.0\"", Some(7)),
            ("7.5", None),
            ("-7", None),
            ("\"seven\"", None),
            ("[7]", None),
        ] {
            assert_eq!(number(&RawJson::parse(id.into()).unwrap()), expected, "{id}");
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
