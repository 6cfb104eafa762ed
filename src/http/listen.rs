//! Sockets, connections, graceful stop.
//!
//! Each connection is a task in one tracker; it owns everything that its requests start, and so do the streams of
//! HTTP/2, which hyper wants to run as tasks of their own. Two tokens end them: after the first nothing more is
//! accepted but who has connected already, and each connection ends with the answer that it is giving, or that its
//! first request gets; after the second each is dropped where it stands, which hangs up on its calls.
//!
//! A connection is bounded in every direction: their number, the time to the first request and between requests, the
//! time in which a reader takes nothing. hyper does little of it, and its clock for heads does not ask whether the answer
//! before was taken; `streams.rs` and `stall.rs` do the rest. `half_close` stays off, for with it hyper would not notice a leaving caller;
//! where bytes wait behind a request it does not notice either, and `shared.rs` does.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Body, Ends, Live};
use crate::telemetry::metrics::Level;

pub(crate) mod address;
mod dates;
mod shared;
mod sockets;
mod stall;
mod streams;
mod tls;

pub(crate) use sockets::{Inherited, Listener, Manner};
pub(crate) use tls::{Certificates, Files as TlsFiles, TlsError};

use shared::{Socket, left, linger};
use sockets::is_of_the_connection;
use stall::Stalling;
use streams::{Answer, Requests, unless_stuck};
use tls::{Wire, shake_hands};

/// The waits after failed accepts, such as for want of descriptors: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long a connection that has asked nothing yet may take for its first request once we stop: it may be on its way.
const NEWCOMER: Duration = Duration::from_millis(250);
/// How long a connection that has idled may take to end in good order: its peer may be asking just then.
const PARTING: Duration = Duration::from_secs(1);
/// How often an HTTP/2 peer is asked whether it still lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// How many requests one HTTP/2 connection may have open.
const STREAMS: u32 = 32;
/// How large the head of a request may be, and how much of a body is read at once.
const HEAD: usize = 64 << 10;

/// How serving ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Accept nothing more; let each connection finish what it is answering.
    pub(crate) gently: CancellationToken,
    /// Drop what is left.
    pub(crate) hard: CancellationToken,
}

/// Serves until stopped, and returns when the last connection is gone.
///
/// # Cancel safety
///
/// Dropping this stops accepting; connections go on until [`Stop`] says otherwise, unobserved. Await it.
pub(crate) async fn run(listeners: Vec<Listener>, live: Arc<Live>, stop: Stop) {
    let config = live.config();
    let limits = Limits {
        connections: config.max_connections,
        header: config.header_timeout,
        write: config.write_timeout,
        newcomer: NEWCOMER,
    };
    let open = config.metrics.connections();
    let answer = move |ends, request: Request<Incoming>| {
        let live = Arc::clone(&live);
        async move { live.answer(ends, request).await }
    };
    serve(listeners, (answer, open), limits, stop).await;
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    header: Duration,
    write: Duration,
    newcomer: Duration,
}

/// What all connections share.
struct Shared<A> {
    answer: A,
    open: Level,
    limits: Limits,
    stop: Stop,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// Answers requests by `A`, on whatever connections, each of which is counted.
async fn serve<A, F>(listeners: Vec<Listener>, (answer, open): (A, Level), limits: Limits, stop: Stop)
where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let tasks = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let shared = Arc::new(Shared { answer, open, limits, stop, room, tasks: tasks.clone() });
    let mut shown: Vec<&Arc<Certificates>> = listeners.iter().filter_map(Listener::certificates).collect();
    shown.dedup_by(|one, other| Arc::ptr_eq(one, other));
    for certificates in shown {
        let (certificates, gently) = (Arc::clone(certificates), shared.stop.gently.clone());
        tasks.spawn(async move { gently.run_until_cancelled(certificates.watch()).await });
    }
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&shared)));
    }
    drop(shared);
    tasks.close();
    tasks.wait().await;
}

async fn accept<A, F>(listener: Listener, shared: Arc<Shared<A>>)
where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut pause = PAUSE.0;
    let tls = listener.certificates().map(Arc::clone);
    let accepting = async {
        loop {
            let room = Arc::clone(&shared.room).acquire_owned().await.expect("nobody closes it");
            match listener.accept().await {
                Ok(socket) => {
                    pause = PAUSE.0;
                    welcome(socket, tls.as_ref(), Some(room), &shared);
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    // Not one connection's fault: no descriptors, no memory. Those who wait are served later.
                    tracing::warn!(%error, "cannot accept connections for now");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    };
    shared.stop.gently.run_until_cancelled(accepting).await;
    // Whoever has connected by now was promised an answer, also where there is no room: it is a short one, since no call is
    // let in any more, and nobody comes after them.
    let closed = listener.close(|socket| {
        let room = Arc::clone(&shared.room).try_acquire_owned().ok();
        welcome(socket, tls.as_ref(), room, &shared);
    });
    if let Err(error) = closed {
        tracing::warn!(%error, "cannot accept the connections that wait");
    }
}

/// Serves a connection in a task of its own, which has the room.
fn welcome<A, F>(
    socket: Socket,
    tls: Option<&Arc<Certificates>>,
    room: Option<OwnedSemaphorePermit>,
    shared: &Arc<Shared<A>>,
) where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (tls, all, counted) = (tls.map(Arc::clone), Arc::clone(shared), shared.open.enter());
    shared.tasks.spawn(async move {
        // Made in here: a future that is moved into another and awaited there has room for itself twice.
        connection(socket, tls, all).await;
        drop((room, counted));
    });
}

/// Serves one connection to its end.
async fn connection<A, F>(socket: Socket, tls: Option<Arc<Certificates>>, shared: Arc<Shared<A>>)
where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Ok(ends) = socket.settle() else { return };
    let socket = Arc::new(socket);
    let requests = Requests::default();
    let raw = Stalling::new(shared::Shared(Arc::clone(&socket)), shared.limits.write, requests.clone());
    let served = async {
        let wire = match &tls {
            None => Wire::Plain(raw),
            Some(certificates) => {
                match in_time(shake_hands(certificates, &socket, raw), &shared).await {
                    Ok(wire) => wire,
                    // A last word, that of TLS or a plain one, may be about to be read.
                    Err(error) => {
                        tracing::debug!(?ends, %error, "no handshake");
                        return Close::Lingering;
                    }
                }
            }
        };
        converse(wire, requests, ends, &shared).await
    };
    let close = tokio::select! {
        biased;
        close = served => close,
        () = left(&socket) => Close::AtOnce,
        () = shared.stop.hard.cancelled() => Close::AtOnce,
    };
    if close == Close::Lingering {
        shared.stop.hard.run_until_cancelled(linger(socket)).await;
    }
}

/// What comes before the first request must be done within its time.
async fn in_time<A, T>(work: impl Future<Output = io::Result<T>>, shared: &Shared<A>) -> io::Result<T> {
    let hurried = async {
        shared.stop.gently.cancelled().await;
        tokio::time::sleep(shared.limits.newcomer).await;
    };
    tokio::select! {
        done = work => done,
        () = tokio::time::sleep(shared.limits.header) => Err(io::ErrorKind::TimedOut.into()),
        () = hurried => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Answers requests until there are no more.
async fn converse<A, F>(wire: Wire, requests: Requests, ends: Ends, shared: &Arc<Shared<A>>) -> Close
where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = {
        let (answer, requests) = (shared.answer.clone(), requests.clone());
        service_fn(move |request: Request<Incoming>| {
            let open = requests.enter(request.version());
            let rest = Rest::of(request.headers());
            let answered = answer(ends, request);
            // Not awaited within another future, which would have room for it twice.
            answered.map(move |response| {
                let mut response = response.map(|body| Answer::new(body, open));
                if rest.ends_with(response.status()) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            })
        })
    };
    let builder = builder(shared);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(wire), service));
    let say = |ended: Result<(), Box<dyn std::error::Error + Send + Sync>>| {
        if let Err(error) = ended {
            tracing::debug!(?ends, error, "connection ended");
        }
    };
    let (newly_asked, patience) = tokio::select! {
        ended = connection.as_mut() => {
            say(ended);
            return Close::Lingering;
        }
        // hyper-util waits without end for the first bytes, and hyper for further requests over HTTP/2. Its own limit for the
        // head of a request runs from the moment that it has an answer as a whole, taken or not: it would cut slow readers off.
        () = requests.none_for(shared.limits.header) => {
            (false, if requests.are_streams() { shared.limits.write } else { shared.limits.header.min(PARTING) })
        }
        first = async {
            shared.stop.gently.cancelled().await;
            requests.first_within(shared.limits.newcomer).await
        } => (first, shared.limits.header),
    };
    let close = if requests.none() && !newly_asked { Close::AtOnce } else { Close::Lingering };
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection.as_mut() => say(ended),
        () = requests.none_for(patience) => {}
    }
    close
}

/// What may be left of a request on its connection once it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Its body was there as soon as its head, or soon after.
    Nothing,
    /// Its body, if it was refused before that: hyper then ends the connection, but does not say so.
    Body,
    /// It may have had a length beside its `Transfer-Encoding`, which hyper takes away: who of us and a proxy in front goes by
    /// which? What follows such a request is not for us to tell (RFC 9112, section 6.1).
    Anything,
}

impl Rest {
    fn of(headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if headers.contains_key(TRANSFER_ENCODING) {
            Self::Anything
        } else if headers.contains_key(EXPECT) || length > Some(HEAD) {
            Self::Body
        } else {
            Self::Nothing
        }
    }

    /// Whether nothing more is read after an answer of this status, which is then to be said in it (RFC 9112, section 9.6; of
    /// `Expect`, RFC 9110, section 10.1.1).
    fn ends_with(self, status: StatusCode) -> bool {
        match self {
            Self::Anything => true,
            Self::Body => status.is_client_error(),
            Self::Nothing => matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE),
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// Nothing that its caller waits for was written of late.
    AtOnce,
    /// Its caller may be about to read the last answer.
    Lingering,
}

fn builder<A>(shared: &Shared<A>) -> auto::Builder<Tracked> {
    let executor =
        Tracked { tasks: shared.tasks.clone(), hard: shared.stop.hard.clone(), write: shared.limits.write };
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HEAD)
        // Who comes in at the last moment is told that there will be no other.
        .keep_alive(!shared.stop.gently.is_cancelled());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_concurrent_streams(STREAMS);
    builder
}

/// Runs what hyper runs apart: the streams of HTTP/2. They end with the rest.
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    hard: CancellationToken,
    write: Duration,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        // Each of those who hold it has room for it twice.
        let stream = unless_stuck(Box::pin(future), self.write);
        self.tasks.spawn(self.hard.clone().run_until_cancelled_owned(stream));
    }
}

#[cfg(test)]
mod tests;
