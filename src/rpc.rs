//! JSON-RPC 2.0 over any reader and any writer: whole lines out, whole messages in, each answer to its question.
//!
//! [`connect`] gives two halves that need each other. The [`Peer`] asks; it never waits for a byte to be written. The
//! [`Wire`] does all the reading and writing, in whichever task its owner runs it: within the task of the one call
//! that uses it, or in a task of its own for many. So a call on a process of its own costs no hop between threads.
//!
//! ```text
//!   Peer::ask  -> outbox -> Wire::run -> writer          reader -> Wire::run -+-> Pending -> Question
//!                                                                             +-> Listener
//! ```
//!
//! Reading and writing go on at once, always: a peer that answers before it has read everything cannot block us. A
//! writer that fails stops the writing only: what the peer said before it left is still read, and whoever asks what can
//! no longer be said is told ([`Closed::Deaf`]). Messages with unknown, repeated or foreign ids are dropped and counted;
//! they never break anything. Nothing here knows a method's name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod message;
mod pending;

pub(crate) use frame::FrameError;
pub(crate) use message::{ErrorObject, Reply, number};
use message::{Incoming, Malformed};
use pending::Pending;

use crate::exchange::{Members, RawJson};

/// The bytes that may wait to be written before the peer's own questions go unanswered: a peer that asks without
/// reading what it is told would else fill our memory.
const MOST_BACKLOG: usize = 1 << 20;

/// What is done with what the peer says unasked.
pub(crate) trait Listener {
    /// The answer to a question of the peer's.
    fn request(&mut self, method: &str) -> Result<RawJson, (i64, &'static str)>;
    /// It told something.
    fn notification(&mut self, method: &str, params: Option<RawJson>);
    /// It wrote a line that is no message.
    fn noise(&mut self, line: &[u8]);
    /// It closed its side within a line. By the protocol that is no message, whatever it says.
    fn unfinished(&mut self, line: &[u8]) {
        self.noise(line);
    }
}

/// The conversation is over: no answer will come any more.
#[derive(Debug, thiserror::Error)]
#[error("the conversation is over")]
pub(crate) struct HungUp {
    /// Whether any of the question was said. If none was, the peer cannot have acted on it, and never will.
    pub(crate) said: bool,
}

/// Why the wire went dead.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The peer closed its side.
    Eof,
    /// Its side broke.
    Broken(FrameError),
    /// It takes in nothing more, though a question was not said to its end. It may still speak: [`Wire::hear_out`].
    Deaf,
}

/// Asks and tells. Clones speak on the same wire.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    written: Notify,
    pending: Pending,
    next_id: AtomicU64,
    /// The bytes that the writer took.
    said: AtomicU64,
}

#[derive(Debug, Default)]
struct Outbox {
    lines: BytesMut,
    closing: bool,
    /// Nothing is put in any more.
    shut: bool,
    /// The bytes that were ever put in here, and those of them up to the end of the last question.
    put_in: u64,
    asked: u64,
}

impl Outbox {
    fn put_in(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.shut {
            return;
        }
        let before = self.lines.len();
        write(&mut self.lines);
        self.put_in += (self.lines.len() - before) as u64;
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Nothing panics while holding it; even then it would hold whole lines.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// Asks: the line waits to be written from now on, behind all that were asked or told before.
    pub(crate) fn ask(&self, method: &str, params: &Members) -> Question {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let told = self.0.pending.expect(id);
        let begins = {
            let mut outbox = self.0.outbox();
            let begins = outbox.put_in;
            outbox.put_in(|lines| message::write_request(lines, id, method, params));
            outbox.asked = outbox.put_in;
            begins
        };
        self.0.written.notify_one();
        Question { id, told, begins, shared: Arc::clone(&self.0) }
    }

    /// Tells.
    pub(crate) fn notify(&self, method: &str, params: &Members) {
        self.0.outbox().put_in(|lines| message::write_notification(lines, method, params));
        self.0.written.notify_one();
    }
}

/// A question that was asked. Dropped, it is forgotten: a late answer goes nowhere.
#[derive(Debug)]
pub(crate) struct Question {
    id: u64,
    told: oneshot::Receiver<Reply>,
    /// How many bytes were put in before it.
    begins: u64,
    shared: Arc<Shared>,
}

impl Question {
    /// Its number on the wire.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the answer; somebody has to run the [`Wire`] meanwhile.
    ///
    /// # Cancel safety
    ///
    /// An answer that came and was not taken is still there for the next wait.
    pub(crate) async fn answer(&mut self) -> Result<Reply, HungUp> {
        let said = || self.shared.said.load(Ordering::SeqCst) > self.begins;
        (&mut self.told).await.map_err(|_| HungUp { said: said() })
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.shared.pending.forget(self.id);
    }
}

/// The bytes' side of the conversation.
#[derive(Debug)]
pub(crate) struct Wire<R, W> {
    lines: frame::Lines<R>,
    mouth: Mouth<W>,
    shared: Arc<Shared>,
    strays: u64,
    heard: bool,
}

/// The half that speaks.
#[derive(Debug)]
struct Mouth<W> {
    /// `None`: we closed it, or the peer did.
    writer: Option<W>,
    writing: BytesMut,
}

/// What one step of speaking came to.
enum Spoken {
    /// There may be more to say.
    Something,
    /// There is a question to say, and nobody takes it.
    InVain,
}

/// Speaks JSON-RPC to whoever is behind `reader` and `writer`; no message may be longer than `limit` bytes.
pub(crate) fn connect<R, W>(reader: R, writer: W, limit: usize) -> (Peer, Wire<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let shared = Arc::new(Shared {
        outbox: Mutex::default(),
        written: Notify::new(),
        pending: Pending::default(),
        next_id: AtomicU64::new(1),
        said: AtomicU64::new(0),
    });
    let peer = Peer(Arc::clone(&shared));
    let lines = frame::Lines::new(reader, limit);
    let mouth = Mouth { writer: Some(writer), writing: BytesMut::new() };
    (peer, Wire { lines, mouth, shared, strays: 0, heard: false })
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Wire<R, W> {
    /// Reads and writes until the peer closes its side, or breaks it, on which everybody who waits for an answer is
    /// told; or until a question cannot be said any more.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped: half a line stays, in either direction, for the next run.
    pub(crate) async fn run(&mut self, listener: &mut impl Listener) -> Closed {
        loop {
            // Neither comes first always: a peer that never stops talking must not keep us from answering it.
            let read = tokio::select! {
                read = self.lines.next() => read,
                spoken = self.mouth.speak(&self.shared) => match spoken {
                    Spoken::Something => continue,
                    Spoken::InVain => return Closed::Deaf,
                },
            };
            if let Some(closed) = self.take_in(read, listener) {
                return closed;
            }
        }
    }

    /// Reads, and writes no more, until the peer closes its side or breaks it; who waits for an answer is then told.
    ///
    /// # Cancel safety
    ///
    /// That of [`Self::run`].
    pub(crate) async fn hear_out(&mut self, listener: &mut impl Listener) -> Closed {
        loop {
            let read = self.lines.next().await;
            if let Some(closed) = self.take_in(read, listener) {
                return closed;
            }
        }
    }

    fn take_in(
        &mut self,
        read: Result<Option<Bytes>, FrameError>,
        listener: &mut impl Listener,
    ) -> Option<Closed> {
        let closed = match read {
            Ok(Some(line)) => {
                match message::read(&line) {
                    Some(messages) => messages.into_iter().for_each(|message| self.hear(message, listener)),
                    None => listener.noise(&line),
                }
                return None;
            }
            Ok(None) => {
                let unfinished = self.lines.take_unfinished();
                if !unfinished.trim_ascii().is_empty() {
                    listener.unfinished(&unfinished);
                }
                Closed::Eof
            }
            Err(error) => Closed::Broken(error),
        };
        self.shared.pending.close();
        Some(closed)
    }

    /// Says what waits to be said, closes our side, and hears the peer out; then stops listening, so that a peer that
    /// never ends, or whose message is too long, writes to nobody. Returns how many messages concerned nobody.
    pub(crate) async fn leave(mut self, listener: &mut impl Listener) -> u64 {
        self.shared.outbox().closing = true;
        self.shared.written.notify_one();
        self.run(listener).await;
        let Self { lines, mut mouth, shared, strays, .. } = self;
        drop(lines);
        while mouth.writer.is_some() {
            mouth.speak(&shared).await;
        }
        strays
    }

    /// Whether the peer has said anything that is a message.
    pub(crate) const fn heard(&self) -> bool {
        self.heard
    }

    /// How many answers came that nobody waits for.
    pub(crate) const fn strays(&self) -> u64 {
        self.strays
    }

    /// How many bytes the writer took.
    pub(crate) fn said(&self) -> u64 {
        self.shared.said.load(Ordering::SeqCst)
    }

    /// Whether a question was not read to its end, of which the peer has left so many bytes of all that was said.
    pub(crate) fn is_unheard(&self, unread: u64) -> bool {
        self.shared.outbox().asked > self.said().saturating_sub(unread)
    }

    /// Says nothing more of what waits to be said or will be; whoever waits for an answer is told.
    pub(crate) fn give_up(&mut self) {
        {
            let mut outbox = self.shared.outbox();
            outbox.shut = true;
            outbox.lines.clear();
        }
        self.mouth.writing.clear();
        self.shared.pending.close();
    }

    /// The writer, while it takes anything.
    pub(crate) const fn writer(&self) -> Option<&W> {
        self.mouth.writer.as_ref()
    }

    /// The longest message that is taken.
    pub(crate) const fn limit(&self) -> usize {
        self.lines.limit()
    }

    fn hear(&mut self, message: Incoming, listener: &mut impl Listener) {
        self.heard |= !matches!(message, Incoming::Noise(_) | Incoming::Garbled { .. });
        match message {
            Incoming::Reply { id, reply } => {
                let known = message::number(&id).is_some_and(|id| self.shared.pending.settle(id, reply));
                self.strays += u64::from(!known);
            }
            Incoming::Noise(element) => listener.noise(element.as_str().as_bytes()),
            Incoming::Garbled { id, line } => {
                // Shown as it is, for whoever asked learns only that it cannot be read.
                listener.noise(&line);
                let reply = Reply::Malformed(Malformed::Garbled);
                message::number(&id).map(|id| self.shared.pending.settle(id, reply));
            }
            Incoming::Unread { error, line } => {
                if !self.shared.pending.settle_only(Reply::Error(error)) {
                    listener.noise(&line);
                }
            }
            Incoming::Notification { method, params } => listener.notification(&method, params),
            Incoming::Request { id, method } => {
                let answer = listener.request(&method);
                let mut outbox = self.shared.outbox();
                if outbox.lines.len() <= MOST_BACKLOG {
                    let answer = answer.as_ref().map_err(|refusal| *refusal);
                    outbox.put_in(|lines| message::write_reply(lines, &id, answer));
                    self.shared.written.notify_one();
                }
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Mouth<W> {
    /// Writes some of what waits; when nothing does, waits for more. Returns after each step, for the caller to loop.
    ///
    /// # Cancel safety
    ///
    /// What was taken from the outbox and not written yet stays in `writing`.
    async fn speak(&mut self, shared: &Shared) -> Spoken {
        let Some(sink) = &mut self.writer else { return self.speak_in_vain(shared).await };
        if self.writing.is_empty() {
            let closing = {
                let mut outbox = shared.outbox();
                self.writing = outbox.lines.split();
                outbox.closing
            };
            if self.writing.is_empty() {
                if closing {
                    self.writer = None;
                } else {
                    shared.written.notified().await;
                }
                return Spoken::Something;
            }
        }
        match sink.write(&self.writing).await {
            Ok(count) if count > 0 => {
                self.writing.advance(count);
                shared.said.fetch_add(count as u64, Ordering::SeqCst);
            }
            // The peer reads no more. That alone ends nothing: it may have answered before it stopped reading.
            _ => self.writer = None,
        }
        Spoken::Something
    }

    /// Returns when there is a question that nobody takes. What is only told goes nowhere, and nobody waits for it.
    async fn speak_in_vain(&self, shared: &Shared) -> Spoken {
        loop {
            {
                let mut outbox = shared.outbox();
                outbox.lines.clear();
                // Once we leave, no question is of interest any more.
                if outbox.asked > shared.said.load(Ordering::SeqCst) && !outbox.closing {
                    return Spoken::InVain;
                }
            }
            shared.written.notified().await;
        }
    }
}

#[cfg(test)]
#[path = "rpc/tests.rs"]
mod tests;
