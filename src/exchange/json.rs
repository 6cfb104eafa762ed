//! JSON that is relayed: looked at, never rebuilt. Pure.
//!
//! A generic JSON value rounds big integers, reorders and drops members, rejects lone surrogates (servers written in
//! Python emit them) and `1e400`. What we relay is therefore kept as the text that its author wrote, with one change:
//! a raw line feed or carriage return, which valid JSON has only as white space between tokens (RFC 8259, section 2),
//! becomes a space. On stdio a newline is a message border, so a pretty-printed argument could otherwise smuggle a
//! second message past every check; in an event stream it would end the event.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// How deep what a caller sends may nest. `serde_json` parses no deeper into values either.
const DEEPEST: usize = 128;

/// How many members or elements a value may have that is taken apart.
const MOST_PARTS: usize = 100_000;
const TOO_MANY: &str = "more than 100,000 parts in one value";

/// One JSON value in its author's own words, on one line: valid JSON, valid UTF-8, no LF, no CR.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RawJson(Bytes);

/// The members of an object, in order, names unique.
pub(crate) type Members = Vec<(String, RawJson)>;

/// Why a text is not accepted as JSON.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// It is not JSON.
    #[error("not valid JSON")]
    Syntax(#[source] serde_json::Error),
    /// Parsers differ on which of two equal names counts, so what was checked may not be what is obeyed.
    #[error("the member {name:?} occurs twice in one object")]
    DuplicateKey { name: String },
    /// Deeper than anything sensible.
    #[error("nested deeper than {DEEPEST} levels")]
    TooDeep,
    /// An object was expected.
    #[error("not a JSON object")]
    NotAnObject,
}

/// Appends `text` as a JSON string.
pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    serde_json::to_writer(out.writer(), text).expect("neither a string nor memory refuses");
}

/// Appends an object of these members.
pub(crate) fn put_object(out: &mut BytesMut, members: &Members) {
    out.put_u8(b'{');
    for (number, (name, value)) in members.iter().enumerate() {
        if number > 0 {
            out.put_u8(b',');
        }
        put_string(out, name);
        out.put_u8(b':');
        out.put_slice(&value.0);
    }
    out.put_u8(b'}');
}

impl RawJson {
    /// Takes a text that should be one JSON value, possibly with white space around it.
    ///
    /// Duplicate names and depth are not looked at: see [`RawJson::check_unique`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is made shares its memory, so it may as well be given"
    )]
    pub(crate) fn parse(text: Bytes) -> Result<Self, JsonError> {
        let value: &RawValue = serde_json::from_slice(&text).map_err(JsonError::Syntax)?;
        Ok(Self::part_of(&text, value))
    }

    /// The part `value` of a text that was already parsed; shares its memory.
    ///
    /// # Panics
    ///
    /// If `value` does not lie within `text`.
    pub(crate) fn part_of(text: &Bytes, value: &RawValue) -> Self {
        Self::one_line(text.slice_ref(value.get().as_bytes()))
    }

    /// Our own value as JSON. Infallible for what we build: strings, numbers, plain structs.
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        let text = serde_json::to_vec(value).expect("our own plain structs have no failing Serialize");
        Self(text.into())
    }

    /// The empty object.
    pub(crate) const fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// An object of these members.
    pub(crate) fn object(members: &Members) -> Self {
        let room = 2 + members.iter().map(|(name, value)| name.len() + value.0.len() + 4).sum::<usize>();
        let mut text = BytesMut::with_capacity(room);
        put_object(&mut text, members);
        Self(text.freeze())
    }

    fn one_line(text: Bytes) -> Self {
        if memchr::memchr2(b'\n', b'\r', &text).is_none() {
            return Self(text);
        }
        let mut line = BytesMut::from(text);
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &line[at..]) {
            at += found;
            line[at] = b' ';
        }
        Self(line.freeze())
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// The text's bytes, shared.
    pub(crate) fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The value as `T`; for the few things that we look into.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The members of an object, none of them looked into; a name that occurs twice is refused.
    pub(crate) fn members(&self) -> Result<Members, JsonError> {
        if !self.0.starts_with(b"{") {
            return Err(JsonError::NotAnObject);
        }
        let members = split_object(self.as_str())?;
        Ok(members.into_iter().map(|(name, value)| (name, Self::part_of(&self.0, value))).collect())
    }

    /// The elements of an array, none of them looked into; `None` if it is not an array, or one of absurd length.
    pub(crate) fn elements(&self) -> Option<Vec<Self>> {
        let Elements(elements) = self.read().ok()?;
        Some(elements.into_iter().map(|element| Self::part_of(&self.0, element)).collect())
    }

    /// The same in memory of its own: what it was a part of need not be kept for its sake.
    pub(crate) fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Refuses an object that names a member twice, at any depth, and what nests too deep.
    pub(crate) fn check_unique(&self) -> Result<(), JsonError> {
        check_unique(&self.0)
    }
}

/// One pass over a text that is known to be JSON. Only names are ever decoded, so that a number or a string that no
/// generic value can hold does no harm.
fn check_unique(text: &[u8]) -> Result<(), JsonError> {
    /// The names so far in each open object; `None` for an open array.
    type Open = Vec<Option<HashSet<Vec<u8>>>>;
    let (mut open, mut at): (Open, usize) = (Vec::new(), 0);
    let mut name_comes = false;
    while let Some(found) = text[at..].iter().position(|byte| b"\"{}[],:".contains(byte)) {
        at += found;
        match text[at] {
            b'"' => {
                let end = string_end(text, at);
                if let (true, Some(Some(names))) = (name_comes, open.last_mut()) {
                    let name = decode_name(&text[at..end])?;
                    if let Some(name) = names.replace(name) {
                        let name = String::from_utf8_lossy(&name).into_owned();
                        return Err(JsonError::DuplicateKey { name });
                    }
                }
                at = end;
                continue;
            }
            opening @ (b'{' | b'[') => {
                open.push((opening == b'{').then(HashSet::new));
                if open.len() > DEEPEST {
                    return Err(JsonError::TooDeep);
                }
                name_comes = opening == b'{';
            }
            b'}' | b']' => {
                open.pop();
            }
            b':' => name_comes = false,
            _comma => name_comes = matches!(open.last(), Some(Some(_))),
        }
        at += 1;
    }
    Ok(())
}

/// Where the string that begins at `from` has ended.
fn string_end(text: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// A name as its bytes, so that every way to write it is the same name.
fn decode_name(quoted: &[u8]) -> Result<Vec<u8>, JsonError> {
    if !quoted.contains(&b'\\') {
        return Ok(quoted[1..quoted.len() - 1].to_vec());
    }
    NameBytes.deserialize(&mut serde_json::Deserializer::from_slice(quoted)).map_err(JsonError::Syntax)
}

/// The members of an object by name. A lone surrogate in a name is replaced, in the names only.
fn split_object(text: &str) -> Result<Vec<(String, &RawValue)>, JsonError> {
    let mut names: HashSet<Cow<'_, [u8]>> = HashSet::new();
    let object: Object<'_> = serde_json::from_str(text).map_err(JsonError::Syntax)?;
    for (name, _) in &object.0 {
        if !names.insert(Cow::Borrowed(name)) {
            return Err(JsonError::DuplicateKey { name: String::from_utf8_lossy(name).into_owned() });
        }
    }
    let named = object.0.iter().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), *value));
    Ok(named.collect())
}

/// An object's members, names as bytes: a lone surrogate has no place in a `str`, and `serde_json` hands it out in
/// WTF-8 to whoever asks for bytes.
struct Object<'a>(Vec<(Vec<u8>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key_seed(NameBytes)? {
                    if members.len() == MOST_PARTS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The elements of an array. An element of two bytes takes sixteen here, so their number is bounded.
pub(crate) struct Elements<'a>(pub(crate) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = array.next_element()? {
                    if elements.len() == MOST_PARTS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

struct NameBytes;

impl<'de> DeserializeSeed<'de> for NameBytes {
    type Value = Vec<u8>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for NameBytes {
    type Value = Vec<u8>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(name.to_vec())
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(name.as_bytes().to_vec())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom("a member's name is a string"))
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.as_str();
        let end = text.floor_char_boundary(200);
        write!(f, "RawJson({}{})", &text[..end], if end < text.len() { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_no_generic_value_can_hold_passes_unchanged() {
        for text in [
            r#"{"n":123456789012345678901234567890}"#,
            r#"{"n":1e400,"m":-0.0,"k":1.10}"#,
            r#"{"s":"\ud800","t":"\u0000"}"#,
            r#"{"z":1,"a":2,"z":3}"#,
            r#"{"\ud800":"\udc00"}"#,
        ] {
            assert_eq!(raw(text).as_str(), text);
        }
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"[{"b":{"a":1,"a":2}}]"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"\ud800":1,"\uD800":2}"#,
        ] {
            assert!(matches!(raw(text).check_unique(), Err(JsonError::DuplicateKey { .. })), "{text}");
        }
        for text in
            [r#"{"a":{"a":{"a":1e400}},"b":["\ud800"]}"#, r#"{"\ud800":1,"\udc00":2}"#, "3", "[]", "{}"]
        {
            assert!(raw(text).check_unique().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_value_that_nests_without_end_is_refused_not_followed() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(raw(&deep).check_unique(), Err(JsonError::TooDeep)));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{} {}", "nul", "{\"a\"}", "\u{feff}{}", "'a'", "[1,]"] {
            assert!(RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text:?}");
        }
        assert!(RawJson::parse(Bytes::from_static(b"\"\xff\"")).is_err());
    }

    #[test]
    fn what_has_absurdly_many_parts_is_not_taken_apart() {
        let array = |count: usize| raw(&format!("[{}1]", "1,".repeat(count - 1)));
        assert_eq!(array(MOST_PARTS).elements().map(|all| all.len()), Some(MOST_PARTS));
        assert!(array(MOST_PARTS + 1).elements().is_none());
        let members: Vec<String> = (0..=MOST_PARTS).map(|number| format!("\"{number}\":1")).collect();
        assert!(matches!(raw(&format!("{{{}}}", members.join(","))).members(), Err(JsonError::Syntax(_))));
    }

    #[test]
    fn members_keep_their_order_and_their_text() {
        let members = raw("{ \"b\" : [1,\n2] , \"a\":1e400}").members().unwrap();
        let shown: Vec<_> = members.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(shown, [("b", "[1, 2]"), ("a", "1e400")]);
    }

    /// Any JSON value, written with any white space that JSON allows between its tokens.
    fn spaced_json() -> impl Strategy<Value = String> {
        let space = "[ \t\r\n]{0,4}";
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
        ];
        let value = leaf.prop_recursive(4, 32, 4, move |inner| {
            let element = (space, inner.clone(), space).prop_map(|(a, v, b)| format!("{a}{v}{b}"));
            let member =
                (0..1000u32, space, element.clone()).prop_map(|(k, s, v)| format!("{s}\"{k}\"{s}:{v}"));
            prop_oneof![
                prop::collection::vec(element, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
                prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        });
        (space, value, space).prop_map(|(a, v, b)| format!("{a}{v}{b}"))
    }

    /// The same check level by level, each value parsed by itself: slow, and plainly right.
    fn is_unique(text: &str) -> bool {
        match text.as_bytes()[0] {
            b'{' => split_object(text).is_ok_and(|all| all.iter().all(|(_, value)| is_unique(value.get()))),
            b'[' => {
                let all: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                all.iter().all(|value| is_unique(value.get()))
            }
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn names_are_found_twice_exactly_where_they_are(text in spaced_json()) {
            prop_assert_eq!(raw(&text).check_unique().is_ok(), is_unique(raw(&text).as_str()));
        }

        #[test]
        fn whatever_its_white_space_a_value_is_one_line_and_means_the_same(text in spaced_json()) {
            let line = raw(&text);
            prop_assert!(!line.as_str().contains(['\n', '\r']));
            let spaced: serde_json::Value = serde_json::from_str(&text).unwrap();
            let after: serde_json::Value = serde_json::from_str(line.as_str()).unwrap();
            prop_assert_eq!(spaced, after);
        }
    }
}
