//! What must be true of the conversation with a server, whatever a server or a caller wrote.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::frame::{FrameError, Lines};
use super::message::{self, Incoming, Reply};
use crate::exchange::RawJson;

/// A stream that comes in pieces of these sizes, over and over.
struct Pieces<'a> {
    rest: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.sizes[self.turn % self.sizes.len()].min(self.rest.len()).min(buffer.remaining());
        self.turn += 1;
        let (piece, rest) = self.rest.split_at(size);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// All lines of a stream, and whether it ended by a line without end.
fn lines(stream: &[u8], sizes: Vec<usize>, limit: usize) -> (Vec<Bytes>, bool) {
    let mut lines = Lines::new(Pieces { rest: stream, sizes, turn: 0 }, limit);
    let mut found = Vec::new();
    loop {
        let next = pin!(lines.next()).poll(&mut Context::from_waker(Waker::noop()));
        match next {
            Poll::Ready(Ok(Some(line))) => found.push(line),
            Poll::Ready(Ok(None)) => return (found, false),
            Poll::Ready(Err(FrameError::TooLong { limit: said })) => {
                assert_eq!(said, limit);
                return (found, true);
            }
            other => panic!("these pieces never fail and never wait: {other:?}"),
        }
    }
}

/// A first line of numbers, the sizes of the pieces in which the rest comes; the lines that it is cut into do not depend
/// on them.
pub(crate) fn frame(input: &[u8]) {
    const LIMIT: usize = 64;
    let Some(at) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (sizes, stream) = (&input[..at], &input[at + 1..]);
    let mut sizes: Vec<usize> = sizes.iter().map(|byte| usize::from(*byte % 32) + 1).collect();
    sizes.push(7);
    let (found, endless) = lines(stream, sizes, LIMIT);
    let mut expected: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let unfinished = expected.pop().map_or(0, <[u8]>::len);
    let short = expected.iter().take_while(|line| line.len() <= LIMIT).count();
    assert_eq!(endless, short < expected.len() || unfinished > LIMIT);
    expected.truncate(short);
    if let Some(first) = expected.first_mut() {
        *first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    }
    assert_eq!(found, expected);
}

/// A line that a server wrote.
pub(crate) fn message(input: &[u8]) {
    // As the framing hands it on.
    let line = Bytes::copy_from_slice(input.split(|byte| *byte == b'\n').next().unwrap_or_default());
    let batch = line.trim_ascii().starts_with(b"[");
    let Some(messages) = message::read(&line) else { return };
    assert!(batch || messages.len() <= 1);
    for incoming in messages {
        match incoming {
            Incoming::Request { id, method } => answers(&id, &method),
            Incoming::Reply { reply: Reply::Result(result), .. } => is_one_line(&result),
            Incoming::Reply { reply: Reply::Error(error), .. } => {
                error.data.iter().for_each(is_one_line);
                let said = RawJson::of(&error.message);
                is_one_line(&said);
            }
            Incoming::Reply { id, reply: Reply::Malformed(_) } | Incoming::Garbled { id, .. } => {
                is_one_line(&id);
            }
            Incoming::Notification { params, .. } => params.iter().for_each(is_one_line),
            Incoming::Unread { error, .. } => error.data.iter().for_each(is_one_line),
            Incoming::Noise(noise) => {
                assert!(batch, "only an element of a batch is noise by itself");
                is_one_line(&noise);
            }
        }
    }
}

fn is_one_line(value: &RawJson) {
    assert!(!value.as_str().contains(['\n', '\r']));
    assert!(serde_json::from_str::<&serde_json::value::RawValue>(value.as_str()).is_ok());
}

/// What we would answer to a question of that id is one message, and an answer to it.
fn answers(id: &RawJson, method: &str) {
    for reply in [Ok(&RawJson::empty_object()), Err((-32601, method))] {
        let mut out = BytesMut::new();
        message::write_reply(&mut out, id, reply);
        match &*read_back(&out) {
            [Incoming::Reply { id: answered, reply: Reply::Result(_) | Reply::Error(_) }] => {
                // `null` is how an absent one is written: JSON-RPC 2.0, section 5.
                assert_eq!(answered, id);
            }
            // An id that is `null` names no question.
            other => assert_eq!(id.as_str(), "null", "{other:?}"),
        }
    }
}

/// A method in the first line, and the parameters that a caller wrote in the others: one message of ours comes of it,
/// whatever they hold.
pub(crate) fn envelope(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let method = String::from_utf8_lossy(&input[..at]);
    let params = input.get(at + 1..).unwrap_or_default();
    let params = RawJson::parse(Bytes::copy_from_slice(params)).and_then(|params| params.members());
    let Ok(params) = params else { return };
    let mut out = BytesMut::new();
    message::write_request(&mut out, 7, &method, &params);
    let read = read_back(&out);
    let [Incoming::Request { id, method: read }] = &*read else { panic!("not one request: {read:?}") };
    assert_eq!((id.as_str(), read.as_str()), ("7", &*method));

    let mut out = BytesMut::new();
    message::write_notification(&mut out, &method, &params);
    let read = read_back(&out);
    let [Incoming::Notification { method: read, params: sent }] = &*read else {
        panic!("not one notification: {read:?}")
    };
    assert_eq!(read.as_str(), &*method);
    let sent = sent.as_ref().map_or(Ok(Vec::new()), RawJson::members).expect("they were members");
    assert_eq!(sent, params);
}

/// What a server reads of what we wrote, by the same rules by which we read it.
fn read_back(out: &BytesMut) -> Vec<Incoming> {
    let (mut all, endless) = lines(out, vec![1 << 16], 1 << 20);
    assert!(!endless && all.len() == 1, "not one line: {out:?}");
    assert!(out.ends_with(b"\n") && !out.contains(&b'\r'));
    message::read(&all.remove(0)).expect("a message")
}
