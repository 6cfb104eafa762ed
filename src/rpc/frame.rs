//! One message per line: the stdio transport's framing, bounded and safe to cancel.
//!
//! A line ends with LF; a CR before it is white space to JSON and stays. What follows the last LF at the end of the
//! stream is no message, and only shown to people. A byte order mark before the first line is dropped. Source: the protocol's stdio transport,
//! which gives no limit to a line: ours is the caller's to choose, and a longer line is fatal, for there is no way to
//! find out what it would have been without keeping it.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The least room that a read is offered.
const LEAST_ROOM: usize = 8 * 1024;
/// The room once there is traffic: what a pipe holds (`pipe(7)`).
const PIPE_SIZE: usize = 64 * 1024;

/// Why no further line comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// A line without end.
    #[error("a line is longer than {limit} bytes")]
    TooLong { limit: usize },
    /// The pipe broke.
    #[error("cannot read")]
    Read(#[source] io::Error),
}

/// The lines of a byte stream.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no LF.
    searched: usize,
    limit: usize,
    first: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes each.
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, limit, first: true }
    }

    /// The longest line that is taken.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// The next line without its LF; `None` at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// A half-read line stays in `self`.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            // A long line doubles its buffer; a short one starts small, for most servers say little.
            let room = if self.buffer.is_empty() { LEAST_ROOM } else { self.buffer.len().max(PIPE_SIZE) };
            self.buffer.reserve(room);
            let read = self.reader.read_buf(&mut self.buffer).await.map_err(FrameError::Read)?;
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// What has come of a line that has no end yet; at the end of the stream it never will. It comes once.
    pub(crate) fn take_unfinished(&mut self) -> Bytes {
        self.searched = 0;
        self.buffer.split().freeze()
    }

    fn take_line(&mut self) -> Result<Option<Bytes>, FrameError> {
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
        if found.unwrap_or(self.buffer.len()) > self.limit {
            return Err(FrameError::TooLong { limit: self.limit });
        }
        let Some(end) = found else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        self.searched = 0;
        let mut line = self.buffer.split_to(end + 1).freeze();
        line.truncate(end);
        if std::mem::take(&mut self.first) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn all(chunks: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut script = tokio_test_reader(chunks);
        let mut lines = Lines::new(&mut script, limit);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await? {
            read.push(line.to_vec());
        }
        Ok(read)
    }

    /// A reader that yields the chunks one by one.
    fn tokio_test_reader(chunks: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let owned: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        let (mut write, read) = tokio::io::duplex(total.max(1));
        let writer = async move {
            for chunk in owned {
                write.write_all(&chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        Scripted { read, writer: Some(Box::pin(writer)) }
    }

    struct Scripted {
        read: tokio::io::DuplexStream,
        writer: Option<std::pin::Pin<Box<dyn Future<Output = ()>>>>,
    }

    impl AsyncRead for Scripted {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if let Some(writer) = &mut self.writer
                && writer.as_mut().poll(cx).is_ready()
            {
                self.writer = None;
            }
            std::pin::Pin::new(&mut self.read).poll_read(cx, buf)
        }
    }

    #[tokio::test]
    async fn a_line_ends_at_its_newline_and_nowhere_else() {
        let read = all(&[b"\xef\xbb\xbfone\r\ntw", b"o\n\n\xef\xbb\xbfthree\nrest"], 100).await.unwrap();
        assert_eq!(read, [&b"one\r"[..], b"two", b"", b"\xef\xbb\xbfthree"]);
    }

    #[tokio::test]
    async fn what_follows_the_last_newline_is_there_to_be_seen_once() {
        let mut script = tokio_test_reader(&[b"one\n", b"tw", b"o"]);
        let mut lines = Lines::new(&mut script, 100);
        assert_eq!(lines.next().await.unwrap().unwrap(), "one");
        assert!(lines.next().await.unwrap().is_none());
        assert_eq!((lines.take_unfinished(), lines.take_unfinished()), ("two".into(), "".into()));
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_an_error_even_before_it_ends() {
        assert!(matches!(all(&[b"12345"], 4).await, Err(FrameError::TooLong { limit: 4 })));
        assert!(matches!(all(&[b"12345\n"], 4).await, Err(FrameError::TooLong { limit: 4 })));
        assert_eq!(all(&[b"1234\n"], 4).await.unwrap(), [b"1234"]);
    }

    #[tokio::test]
    async fn a_dropped_read_loses_nothing() {
        let (mut write, read) = tokio::io::duplex(64);
        let mut lines = Lines::new(read, 100);
        write.write_all(b"half").await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, lines.next()).await.is_err());
        write.write_all(b" and half\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), "half and half");
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_lines(
            lines in prop::collection::vec("[a-z\r]{0,12}", 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let read = runtime.block_on(all(&chunks, 100)).unwrap();
            let read: Vec<String> = read.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(read, lines);
        }
    }
}
