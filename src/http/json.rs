//! JSON that we write around JSON that we relay, without copying the latter. Pure.
//!
//! An answer of many MiB is the server's own bytes between a few of ours: [`Pieces`] keeps large values shared and
//! gathers what is small, so that a list of a thousand tools is not a thousand writes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::exchange::RawJson;

/// From this size on a value is shared instead of copied.
const SHARED_FROM: usize = 4096;

/// A text in the making, or ready to be sent: shared bytes in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    done: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Pieces {
    /// A value of our own.
    pub(super) fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::from(RawJson::of(value).bytes())
    }

    /// `{"name":value,...}`
    pub(super) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Pieces)>) -> Self {
        let mut pieces = Self::default();
        let mut before = "{";
        for (name, value) in members {
            pieces.push(before);
            pieces.push_bytes(RawJson::of(name).bytes());
            pieces.push(":");
            pieces.append(value);
            before = ",";
        }
        pieces.push(if before == "{" { "{}" } else { "}" });
        pieces
    }

    /// `[value,...]`
    pub(super) fn array(values: impl IntoIterator<Item = Pieces>) -> Self {
        let mut pieces = Self::default();
        let mut before = "[";
        for value in values {
            pieces.push(before);
            pieces.append(value);
            before = ",";
        }
        pieces.push(if before == "[" { "[]" } else { "]" });
        pieces
    }

    /// Adds a little text.
    pub(super) fn push(&mut self, text: &str) {
        self.tail.extend_from_slice(text.as_bytes());
    }

    /// Adds bytes; shares them when there are many.
    pub(super) fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_FROM {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        self.flush();
        self.done.push_back(bytes);
    }

    /// Adds all of `other`.
    pub(super) fn append(&mut self, other: Self) {
        for bytes in other.done {
            self.push_bytes(bytes);
        }
        self.push_bytes(other.tail.freeze());
    }

    /// The bytes in order, none of the pieces empty.
    pub(super) fn into_chunks(mut self) -> VecDeque<Bytes> {
        self.flush();
        self.done
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.done.push_back(self.tail.split().freeze());
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.push_bytes(bytes);
        pieces
    }
}

impl From<&RawJson> for Pieces {
    fn from(value: &RawJson) -> Self {
        Self::from(value.bytes())
    }
}

#[cfg(test)]
impl Pieces {
    /// All of it as one text.
    pub(super) fn text(self) -> String {
        let bytes: Vec<u8> = self.into_chunks().into_iter().flatten().collect();
        String::from_utf8(bytes).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_arrays_are_written_with_their_commas() {
        let none: [(&str, Pieces); 0] = [];
        assert_eq!(Pieces::object(none).text(), "{}");
        assert_eq!(Pieces::array([]).text(), "[]");
        let inner = Pieces::array([Pieces::of(&1), Pieces::of("two")]);
        assert_eq!(
            Pieces::object([("a\"", inner), ("b", Pieces::of(&true))]).text(),
            r#"{"a\"":[1,"two"],"b":true}"#
        );
    }

    #[test]
    fn a_large_value_is_shared_and_small_ones_are_gathered() {
        let large = RawJson::of(&"x".repeat(1 << 20));
        let start = large.bytes().as_ptr();
        let whole =
            Pieces::object([("a", Pieces::of(&1)), ("b", Pieces::from(&large)), ("c", Pieces::of(&2))]);
        let chunks = whole.into_chunks();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), start);
        assert_eq!(&chunks[2][..], b",\"c\":2}");
    }
}
