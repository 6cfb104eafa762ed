//! The last few kilobytes of what it complained about. Pure.

use std::collections::VecDeque;

/// The end of a byte stream.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
    cut: bool,
}

impl Tail {
    /// The last `limit` bytes of what will be pushed.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), limit, cut: false }
    }

    /// Adds what was read; the oldest bytes make room.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let kept = &chunk[chunk.len().saturating_sub(self.limit)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.cut |= over > 0 || kept.len() < chunk.len();
        self.bytes.drain(..over);
        self.bytes.extend(kept);
    }

    /// The text, from the first whole line on if its beginning was lost; invalid UTF-8 replaced.
    pub(crate) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        let bytes = [front, back].concat();
        let from = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if self.cut && end + 1 < bytes.len() => end + 1,
            _ => 0,
        };
        String::from_utf8_lossy(&bytes[from..]).into_owned()
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
            let mut tail = Tail::new(16);
            for chunk in chunks {
                tail.push(chunk.as_bytes());
            }
            assert_eq!(tail.text(), expected, "{chunks:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut tail = Tail::new(16);
        tail.push(b"a\xffb");
        assert_eq!(tail.text(), "a\u{fffd}b");
    }
}
