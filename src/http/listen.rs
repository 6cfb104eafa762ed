//! Sockets, connections, graceful stop.
//!
//! Each connection is a task in one tracker; it owns everything that its requests start, and so do the streams of
//! HTTP/2, which hyper wants to run as tasks of their own. Two tokens end them: after the first nothing more is
//! accepted but who has connected already, and each connection ends with the answer that it is giving, or that its
//! first request gets; after the second each is dropped where it stands, which hangs up on its calls.
//!
//! A connection is bounded in every direction: their number, the time to the first request and between requests, the
//! time in which a reader takes nothing. hyper does some of it for HTTP/1 and little for HTTP/2; `streams.rs` does the
//! rest. `half_close` stays off, for with it hyper would not notice a leaving caller;
//! where bytes wait behind a request it does not notice either, and `shared.rs` does.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Body, Ends, Live};
use crate::telemetry::metrics::Level;

mod shared;
mod stall;
mod streams;

use shared::{left, linger};
use stall::Stalling;
use streams::{Answer, Requests, unless_stuck};

/// How many connections the kernel keeps for us until we accept them.
const BACKLOG: u32 = 1024;
/// The waits after failed accepts, such as for want of descriptors: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long a connection that has asked nothing yet may take for its first request once we stop: it may be on its way.
const NEWCOMER: Duration = Duration::from_millis(250);
/// How often an HTTP/2 peer is asked whether it still lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// How many requests one HTTP/2 connection may have open.
const STREAMS: u32 = 32;

/// A socket that listens, its connections not yet accepted.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: TcpListener,
    local: SocketAddr,
}

impl Listener {
    /// Listens at `address`; port 0 picks a free one.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit these, so that they cost no call each.
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        socket.bind(address)?;
        let tcp = socket.listen(BACKLOG)?;
        let local = tcp.local_addr()?;
        Ok(Self { tcp, local })
    }

    /// Where it listens, the real port included.
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

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
    let accepting = async {
        loop {
            let room = Arc::clone(&shared.room).acquire_owned().await.expect("nobody closes it");
            match listener.tcp.accept().await {
                Ok((stream, peer)) => {
                    pause = PAUSE.0;
                    welcome(stream, (listener.local, peer), room, &shared);
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
    let Listener { tcp, local } = listener;
    if let Err(error) = accept_the_rest(tcp, local, &shared) {
        tracing::warn!(%error, "cannot accept the connections that wait");
    }
}

/// Accepts who has connected already, as the kernel says, and then closes the socket: it would reset those who wait, and
/// they were promised an answer. Asked through the runtime, the socket might seem to have none until the next event.
fn accept_the_rest<A, F>(tcp: TcpListener, local: SocketAddr, shared: &Arc<Shared<A>>) -> io::Result<()>
where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let tcp = tcp.into_std()?;
    // No more than can have waited when we stopped.
    for _ in 0..BACKLOG {
        let Ok(room) = Arc::clone(&shared.room).try_acquire_owned() else { break };
        match tcp.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                welcome(TcpStream::from_std(stream)?, (local, peer), room, shared);
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Serves a connection in a task of its own, which has the room.
fn welcome<A, F>(
    stream: TcpStream,
    ends: (SocketAddr, SocketAddr),
    room: OwnedSemaphorePermit,
    shared: &Arc<Shared<A>>,
) where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connection = connection(stream, ends, Arc::clone(shared));
    let counted = shared.open.enter();
    shared.tasks.spawn(async move {
        connection.await;
        drop((room, counted));
    });
}

/// The peer gave up before it was accepted: `accept(2)` reports that too.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Serves one connection to its end.
async fn connection<A, F>(stream: TcpStream, (bound, peer): (SocketAddr, SocketAddr), shared: Arc<Shared<A>>)
where
    A: Fn(Ends, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { return };
    let ends = Ends { bound, local, peer };
    let requests = Requests::default();
    let service = {
        let (answer, requests) = (shared.answer.clone(), requests.clone());
        service_fn(move |request| {
            let open = requests.enter();
            let answered = answer(ends, request);
            async move { Ok::<_, Infallible>(answered.await.map(|body| Answer::new(body, open))) }
        })
    };
    let builder = builder(&shared);
    let stream = Arc::new(stream);
    let io = TokioIo::new(Stalling::new(shared::Shared(Arc::clone(&stream)), shared.limits.write));
    let served = async {
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        let newly_asked = tokio::select! {
            ended = connection.as_mut() => return (ended, Close::Lingering),
            // hyper-util waits without end for the first bytes, and hyper for further requests over HTTP/2.
            () = requests.none_for(shared.limits.header) => false,
            first = async {
                shared.stop.gently.cancelled().await;
                requests.first_within(shared.limits.newcomer).await
            } => first,
        };
        let close = if requests.none() && !newly_asked { Close::AtOnce } else { Close::Lingering };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => (ended, close),
            () = requests.none_for(shared.limits.header) => (Ok(()), close),
        }
    };
    let close = tokio::select! {
        biased;
        (ended, close) = served => {
            if let Err(error) = ended {
                tracing::debug!(%peer, error, "connection ended");
            }
            close
        }
        () = left(&stream) => Close::AtOnce,
        () = shared.stop.hard.cancelled() => Close::AtOnce,
    };
    if close == Close::Lingering
        && let Some(stream) = Arc::into_inner(stream)
    {
        shared.stop.hard.run_until_cancelled(linger(stream)).await;
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
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header)
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
        let stream = unless_stuck(future, self.write);
        self.tasks.spawn(self.hard.clone().run_until_cancelled_owned(stream));
    }
}

#[cfg(test)]
mod tests;
