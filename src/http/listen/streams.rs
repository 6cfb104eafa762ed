//! What is open on a connection, and whether its answers are taken.
//!
//! hyper bounds neither for HTTP/2: a peer that answers pings may idle for ever, and one that grants no window keeps an
//! answer for ever. The first is seen by counting requests. The second shows in how hyper reads a body: it asks for the
//! next frame once there is window for it, and not before. So a frame that was handed out with no question after it is
//! a frame that the peer does not take. Frames are cut small, lest one of them be the whole answer.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::http::Body;

/// How much of an answer one frame holds.
const FRAME: usize = 16 << 10;

/// The requests of one connection.
#[derive(Clone, Default)]
pub(super) struct Requests(watch::Sender<Count>);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    open: usize,
    begun: u64,
    /// Whether they are streams of HTTP/2.
    streams: bool,
    /// When the last of them ended.
    idle_since: Option<Instant>,
}

impl Requests {
    /// One more, open until this is dropped.
    pub(super) fn enter(&self, version: Version) -> Open {
        self.0.send_modify(|count| {
            count.open += 1;
            count.begun += 1;
            count.streams = version == Version::HTTP_2;
        });
        Open(self.0.clone())
    }

    /// One of them is still open, or again: what was answered is not yet taken.
    pub(super) fn hold(&self) -> Open {
        self.0.send_modify(|count| count.open += 1);
        Open(self.0.clone())
    }

    /// Whether they are streams of HTTP/2: the last frame of an answer, which may be all of it, may wait for its peer when none
    /// is open any more.
    pub(super) fn are_streams(&self) -> bool {
        self.0.borrow().streams
    }

    /// Whether none is open.
    pub(super) fn none(&self) -> bool {
        self.0.borrow().open == 0
    }

    /// Waits for the first, if there was none yet. `true`: it has come just now.
    ///
    /// # Cancel safety
    ///
    /// Dropping this forgets the time waited so far.
    pub(super) async fn first_within(&self, time: Duration) -> bool {
        if self.0.borrow().begun > 0 {
            return false;
        }
        let mut count = self.0.subscribe();
        let first = async { count.wait_for(|count| count.begun > 0).await.is_ok() };
        tokio::time::timeout(time, first).await.unwrap_or(false)
    }

    /// Returns when none has been open for this long. Requests that come and go meanwhile wake nobody here: they are
    /// looked for when the time is up.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped, the time waited so far included, unless none was ever open.
    pub(super) async fn none_for(&self, time: Duration) {
        let began = Instant::now();
        let mut look_again = pin!(tokio::time::sleep(time));
        loop {
            look_again.as_mut().await;
            let (open, idle_since) = {
                let count = self.0.borrow();
                (count.open, count.idle_since.unwrap_or(began))
            };
            let now = Instant::now();
            let end = if open == 0 { idle_since.checked_add(time) } else { now.checked_add(time) };
            // Too far away to be told is far enough.
            let Some(end) = end else { return std::future::pending().await };
            if end <= now {
                return;
            }
            look_again.as_mut().reset(end);
        }
    }
}

/// A request that is being answered.
pub(super) struct Open(watch::Sender<Count>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| {
            count.open -= 1;
            count.idle_since = Some(Instant::now());
        });
    }
}

tokio::task_local! {
    /// The stream of HTTP/2 that the present task serves.
    static STREAM: Arc<Progress>;
}

/// Since when a part of the answer waits for its peer; none: it waits for us.
#[derive(Debug, Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    fn set(&self, waits_since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waits_since;
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one stream of HTTP/2, and gives it up when its peer takes nothing of the answer for `limit`: hyper then resets
/// the stream, and the connection goes on.
///
/// # Cancel safety
///
/// That of `stream`.
pub(super) async fn unless_stuck<F: Future>(stream: F, limit: Duration) -> Option<F::Output> {
    let progress = Arc::new(Progress::default());
    let mut stream = pin!(STREAM.scope(Arc::clone(&progress), stream));
    let mut patience = pin!(tokio::time::sleep(limit));
    std::future::poll_fn(|cx| {
        // The stream first: only its own polls change its progress.
        if let Poll::Ready(output) = stream.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(since) = progress.get() else { return Poll::Pending };
        let end = since + limit;
        if patience.deadline() != end {
            patience.as_mut().reset(end);
        }
        patience.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// An answer, its request open until it was handed out.
pub(super) struct Answer {
    body: Body,
    /// What is left of a larger piece.
    rest: Bytes,
    /// Under HTTP/2 only; other connections are watched as a whole.
    progress: Option<Arc<Progress>>,
    _open: Open,
}

impl Answer {
    /// To be made where the request is answered, in the task of its stream.
    pub(super) fn new(body: Body, open: Open) -> Self {
        let progress = STREAM.try_with(Arc::clone).ok();
        let answer = Self { body, rest: Bytes::new(), progress, _open: open };
        // The window may be closed from the start.
        answer.wait_for_peer(true);
        answer
    }

    fn wait_for_peer(&self, waits: bool) {
        if let Some(progress) = &self.progress {
            progress.set(waits.then(Instant::now));
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.wait_for_peer(false);
        if this.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        this.wait_for_peer(true);
        let length = if this.progress.is_some() { this.rest.len().min(FRAME) } else { this.rest.len() };
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .len()
            .map_or_else(SizeHint::default, |len| SizeHint::with_exact(len + self.rest.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    fn answer(body: Body) -> Answer {
        Answer::new(body, Requests::default().enter(Version::HTTP_2))
    }

    fn large() -> Body {
        Body::from("x".repeat(4 * FRAME))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        for taken in [0, 1, 3] {
            let start = Instant::now();
            let stream = async {
                let mut answer = answer(large());
                for _ in 0..taken {
                    answer.frame().await.unwrap().unwrap();
                }
                std::future::pending::<()>().await;
            };
            assert_eq!(unless_stuck(stream, LIMIT).await, None);
            assert!(start.elapsed() < LIMIT * 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_slowly_is_not() {
        let stream = async {
            let mut answer = answer(large());
            let mut length = 0;
            while let Some(frame) = answer.frame().await {
                length += frame.unwrap().into_data().unwrap().len();
                tokio::time::sleep(LIMIT * 2 / 3).await;
            }
            length
        };
        assert_eq!(unless_stuck(stream, LIMIT).await, Some(4 * FRAME));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_we_have_yet_to_find_may_take_its_time() {
        let stream = async {
            tokio::time::sleep(LIMIT * 2).await;
            let events = futures_util::stream::once(async {
                tokio::time::sleep(LIMIT * 2).await;
                Bytes::from_static(b"late")
            });
            answer(Body::Stream(Box::pin(events))).collect().await.unwrap().to_bytes()
        };
        assert_eq!(unless_stuck(stream, LIMIT).await.unwrap(), "late");
    }

    #[tokio::test(start_paused = true)]
    async fn idling_begins_anew_with_every_request() {
        let requests = Requests::default();
        let start = Instant::now();
        let asking = async {
            for _ in 0..3 {
                tokio::time::sleep(LIMIT / 2).await;
                drop(requests.enter(Version::HTTP_2));
            }
            let _open = requests.enter(Version::HTTP_2);
            tokio::time::sleep(LIMIT * 2).await;
        };
        tokio::join!(requests.none_for(LIMIT), asking);
        assert_eq!(start.elapsed().as_secs(), (LIMIT * 9 / 2).as_secs());
    }
}
