//! The last few kilobytes of what it complained about. Pure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The end of a byte stream. A clone shows the same one: where many calls ask one server, each can say what that wrote last,
/// though only its owner reads it.
#[derive(Debug, Clone)]
pub(crate) struct Tail(Arc<Mutex<End>>);

#[derive(Debug)]
struct End {
    bytes: VecDeque<u8>,
    limit: usize,
    cut: bool,
}

impl Tail {
    /// The last `limit` bytes of what will be pushed.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(End { bytes: VecDeque::new(), limit, cut: false })))
    }

    /// Adds what was read; the oldest bytes make room.
    pub(crate) fn push(&self, chunk: &[u8]) {
        let mut end = self.end();
        let kept = &chunk[chunk.len().saturating_sub(end.limit)..];
        let over = (end.bytes.len() + kept.len()).saturating_sub(end.limit);
        end.cut |= over > 0 || kept.len() < chunk.len();
        end.bytes.drain(..over);
        end.bytes.extend(kept);
    }

    /// The text, from the first whole line on if its beginning was lost; invalid UTF-8 replaced.
    pub(crate) fn text(&self) -> String {
        let end = self.end();
        let (front, back) = end.bytes.as_slices();
        let bytes = [front, back].concat();
        let from = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(line) if end.cut && line + 1 < bytes.len() => line + 1,
            _ => 0,
        };
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    fn end(&self) -> MutexGuard<'_, End> {
        // Nothing panics while holding it; even then it would be the end of something.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_from_a_whole_line_on() {
        let cases: [(&[&str], &str); 5] = [
            (&["all of it\n"], "all of it\n"),
            (&["first line\n", "second\n"], "second\n"),
            (&["0123456789abcdefXYZ"], "3456789abcdefXYZ"),
            (&["0123456789\nabcdefgh\n"], "abcdefgh\n"),
            (&[], ""),
        ];
        for (chunks, expected) in cases {
            let tail = Tail::new(16);
            for chunk in chunks {
                tail.push(chunk.as_bytes());
            }
            assert_eq!(tail.text(), expected, "{chunks:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let tail = Tail::new(16);
        tail.push(b"a\xffb");
        assert_eq!(tail.text(), "a\u{fffd}b");
    }
}
