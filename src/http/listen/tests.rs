//! Over real sockets of the loopback, with a stand-in for the service.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const LIMITS: Limits = Limits {
    connections: 16,
    header: Duration::from_secs(5),
    write: Duration::from_secs(5),
    newcomer: Duration::from_millis(10),
};

fn listener() -> Listener {
    let manner = Manner { mode: 0o600, unacknowledged: Duration::from_mins(1) };
    Listener::bind(&address::Address::Tcp("127.0.0.1:0".parse().unwrap()), manner).unwrap()
}

/// More than any socket takes at once.
const LARGE: usize = 16 << 20;

/// How many requests are being answered.
#[derive(Clone, Default)]
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn enter(&self) -> impl Drop + Send + use<> {
        struct Left(Arc<AtomicUsize>);
        impl Drop for Left {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Left(Arc::clone(&self.0))
    }

    async fn becomes(&self, number: usize) {
        tokio::time::timeout(Duration::from_secs(5), async {
            while self.0.load(Ordering::SeqCst) != number {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("it becomes so");
    }
}

struct Served {
    address: SocketAddr,
    stop: Stop,
    busy: Busy,
    go_on: CancellationToken,
    serving: tokio::task::JoinSet<()>,
}

impl Served {
    /// Answers `/` at once and every other path when told to go on.
    fn with(limits: Limits) -> Self {
        Self::at(listener(), limits, Stop::default())
    }

    fn at(listener: Listener, limits: Limits, stop: Stop) -> Self {
        let address = listener.plain().unwrap();
        let (busy, go_on) = (Busy::default(), CancellationToken::new());
        let answer = {
            let (busy, go_on) = (busy.clone(), go_on.clone());
            move |_ends: Ends, request: Request<Incoming>| {
                let (busy, go_on) = (busy.clone(), go_on.clone());
                async move {
                    let _busy = busy.enter();
                    if request.uri().path() != "/" {
                        go_on.cancelled().await;
                    }
                    if request.uri().path() == "/large" {
                        return Response::new(Body::from("x".repeat(LARGE)));
                    }
                    Response::new(Body::from("done".to_owned()))
                }
            }
        };
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve(vec![listener], (answer, Level::default()), limits, stop.clone()));
        Self { address, stop, busy, go_on, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn end(mut self) {
        let over = tokio::time::timeout(Duration::from_secs(5), self.serving.join_next()).await;
        over.expect("in time").expect("it was running").expect("without panic");
    }
}

async fn everything_from(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut text)).await;
    read.expect("in time").expect("an orderly end");
    String::from_utf8_lossy(&text).into_owned()
}

/// An HTTP/2 request by hand: preface, empty SETTINGS, HEADERS of `GET /wait` (RFC 9113, RFC 7541).
fn http2_request() -> Vec<u8> {
    http2_request_for("/wait")
}

/// The like for another path.
fn http2_request_for(path: &str) -> Vec<u8> {
    let mut block = b"\x82\x86\x04".to_vec();
    block.push(u8::try_from(path.len()).unwrap());
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x09localhost");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

#[tokio::test]
async fn a_caller_who_leaves_drops_its_request() {
    let served = Served::with(LIMITS);
    let stream = served.ask("/wait").await;
    served.busy.becomes(1).await;
    drop(stream);
    served.busy.becomes(0).await;
}

#[tokio::test]
async fn a_caller_who_closes_its_half_has_left() {
    let served = Served::with(LIMITS);
    let mut stream = served.ask("/wait").await;
    served.busy.becomes(1).await;
    stream.shutdown().await.unwrap();
    served.busy.becomes(0).await;
    assert_eq!(everything_from(stream).await, "");
}

#[tokio::test]
async fn a_caller_who_leaves_with_a_second_request_in_the_pipe_drops_the_first() {
    let served = Served::with(LIMITS);
    let mut stream = served.ask("/wait").await;
    served.busy.becomes(1).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // Longer than the watch takes to look: a caller who is still there is not taken for gone.
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(served.busy.0.load(Ordering::SeqCst), 1);
    drop(stream);
    served.busy.becomes(0).await;
}

#[tokio::test]
async fn requests_in_the_pipe_are_answered_in_order() {
    let served = Served::with(LIMITS);
    let mut stream = served.ask("/wait").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    served.busy.becomes(1).await;
    served.go_on.cancel();
    assert_eq!(everything_from(stream).await.matches("done").count(), 2);
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let served = Served::with(LIMITS);
    let mut stream = served.ask("/large").await;
    served.go_on.cancel();
    let mut most = vec![0; LARGE];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut most)).await.unwrap().unwrap();
    assert!(most.ends_with(b"xxxx"));
}

#[tokio::test]
async fn an_answer_that_is_taken_slowly_is_not_taken_for_idleness() {
    let limits = Limits { header: Duration::from_millis(50), ..LIMITS };
    let served = Served::with(limits);
    served.go_on.cancel();
    for last in ["", "Connection: close\r\n"] {
        let mut stream = served.connect().await;
        let head = format!("GET /large HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        // Longer than a connection may idle, and than it may take to part then.
        tokio::time::sleep(limits.header * 4).await;
        assert!(
            everything_from(stream).await.len() > LARGE,
            "{last:?}: it arrives whole, and the end after it"
        );
    }
}

#[tokio::test]
async fn a_caller_who_writes_everything_before_it_reads_gets_an_early_answer() {
    let served = Served::with(LIMITS);
    let mut stream = served.connect().await;
    let body = vec![b'x'; 8 << 20];
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // The whole answer is there before the body begins.
    stream.readable().await.unwrap();
    stream.write_all(&body).await.expect("all of it is taken");
    assert!(everything_from(stream).await.ends_with("done"));
}

#[tokio::test]
async fn a_caller_who_writes_without_end_is_closed() {
    let served = Served::with(LIMITS);
    let mut stream = served.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", u64::MAX >> 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b'x'; 64 << 10];
    let endless = async { while stream.write_all(&chunk).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), endless).await.expect("it is closed");
}

#[tokio::test]
async fn a_caller_who_leaves_drops_its_request_under_http2_too() {
    let served = Served::with(LIMITS);
    let mut stream = served.connect().await;
    stream.write_all(&http2_request()).await.unwrap();
    served.busy.becomes(1).await;
    drop(stream);
    served.busy.becomes(0).await;
}

#[tokio::test]
async fn a_reset_stream_drops_its_request_alone() {
    let served = Served::with(LIMITS);
    let mut stream = served.connect().await;
    stream.write_all(&http2_request()).await.unwrap();
    served.busy.becomes(1).await;
    // RST_STREAM, CANCEL
    stream.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8]).await.unwrap();
    served.busy.becomes(0).await;
}

#[tokio::test]
async fn a_gentle_stop_lets_answers_finish_and_ends_idle_connections() {
    let served = Served::with(LIMITS);
    let idle = served.connect().await;
    let busy = served.ask("/wait").await;
    served.busy.becomes(1).await;
    served.stop.gently.cancel();
    assert_eq!(everything_from(idle).await, "");
    assert!(!served.stop.hard.is_cancelled());
    served.go_on.cancel();
    assert!(everything_from(busy).await.ends_with("done"));
    let address = served.address;
    served.end().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_hard_stop_drops_what_is_left() {
    let served = Served::with(LIMITS);
    let _first = served.ask("/wait").await;
    let mut second = served.connect().await;
    second.write_all(&http2_request()).await.unwrap();
    served.busy.becomes(2).await;
    served.stop.gently.cancel();
    served.stop.hard.cancel();
    served.busy.becomes(0).await;
    served.end().await;
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_for_its_turn() {
    let served = Served::with(Limits { connections: 1, ..LIMITS });
    let first = served.ask("/wait").await;
    served.busy.becomes(1).await;
    let mut second = served.ask("/").await;
    let early = tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(early.is_err(), "its turn has not come");
    drop(first);
    assert_eq!(second.read_u8().await.unwrap(), b'H');
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let limits = Limits { header: Duration::from_millis(50), ..LIMITS };
    let served = Served::with(limits);
    let silent = served.connect().await;
    let mut half = served.connect().await;
    half.write_all(b"GET / HT").await.unwrap();
    let mut preface = served.connect().await;
    preface.write_all(b"PRI * HT").await.unwrap();
    for stream in [silent, half, preface] {
        assert_eq!(everything_from(stream).await, "");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_a_busy_one_is_not() {
    let limits = Limits { header: Duration::from_millis(50), ..LIMITS };
    let served = Served::with(limits);
    let busy = served.ask("/wait").await;
    served.busy.becomes(1).await;
    let idle = everything_from(served.ask("/").await).await;
    assert!(idle.ends_with("done"), "{idle}");
    served.go_on.cancel();
    assert!(everything_from(busy).await.ends_with("done"));
}

/// Reads frames of HTTP/2 until one of this type, and returns its payload; answers nothing.
async fn http2_frame(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    let found = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload =
                vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == wanted {
                return payload;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), found).await.expect("in time")
}

#[tokio::test]
async fn an_idle_connection_is_closed_under_http2_too() {
    let time = Duration::from_millis(50);
    let limits = Limits { header: time, write: time, ..LIMITS };
    let served = Served::with(limits);
    let mut stream = served.connect().await;
    stream.write_all(&http2_request_for("/")).await.unwrap();
    // GOAWAY, and the end.
    assert_eq!(http2_frame(&mut stream, 7).await[4..8], [0; 4], "no error");
    everything_from(stream).await;
}

#[tokio::test]
async fn a_busy_connection_is_not_idle_under_http2_either() {
    let limits = Limits { header: Duration::from_millis(20), write: Duration::from_millis(20), ..LIMITS };
    let served = Served::with(limits);
    let idle = served.ask("/").await;
    let mut busy = served.connect().await;
    busy.write_all(&http2_request()).await.unwrap();
    served.busy.becomes(1).await;
    everything_from(idle).await;
    served.go_on.cancel();
    assert_eq!(http2_frame(&mut busy, 0).await, b"done");
}

#[tokio::test]
async fn the_end_of_an_answer_waits_for_its_window_however_idle_the_connection_is() {
    let limits = Limits { header: Duration::from_millis(50), ..LIMITS };
    let served = Served::with(limits);
    let mut stream = served.connect().await;
    // SETTINGS_INITIAL_WINDOW_SIZE 1, in the place of the empty SETTINGS.
    let request = http2_request_for("/");
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1];
    stream.write_all(&[&request[..24], &settings, &request[24 + 9..]].concat()).await.unwrap();
    assert_eq!(http2_frame(&mut stream, 0).await, b"d");
    // GOAWAY: nothing more is waited for but that.
    http2_frame(&mut stream, 7).await;
    tokio::time::sleep(limits.header * 4).await;
    // WINDOW_UPDATE of the stream
    stream.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 1, 0]).await.unwrap();
    assert_eq!(http2_frame(&mut stream, 0).await, b"one");
}

#[tokio::test]
async fn an_answer_without_a_window_is_given_up_and_the_connection_goes_on() {
    let served = Served::with(Limits { write: Duration::from_millis(50), ..LIMITS });
    served.go_on.cancel();
    let mut stream = served.connect().await;
    stream.write_all(&http2_request_for("/large")).await.unwrap();
    // RST_STREAM, CANCEL
    assert_eq!(http2_frame(&mut stream, 3).await, [0, 0, 0, 8]);
    // WINDOW_UPDATE of the connection, then a second request: the first, without the preface, as stream 3.
    stream.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0]).await.unwrap();
    let mut second = http2_request_for("/").split_off(24 + 9);
    second[8] = 3;
    stream.write_all(&second).await.unwrap();
    assert_eq!(http2_frame(&mut stream, 0).await, b"done");
}

#[tokio::test]
async fn who_has_connected_before_a_stop_is_answered_though_nobody_had_accepted_it() {
    let listener = listener();
    let mut callers = Vec::new();
    for _ in 0..8 {
        let mut caller = TcpStream::connect(listener.plain().unwrap()).await.unwrap();
        caller.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        callers.push(caller);
    }
    let stop = Stop::default();
    stop.gently.cancel();
    let mut served = Served::at(listener, LIMITS, stop);
    for mut caller in callers {
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    served.serving.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn who_has_connected_before_a_stop_is_answered_beyond_the_bound_too() {
    let served = Served::with(Limits { connections: 1, ..LIMITS });
    let busy = served.ask("/wait").await;
    served.busy.becomes(1).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(served.ask("/").await);
    }
    served.stop.gently.cancel();
    for caller in waiting {
        assert!(everything_from(caller).await.ends_with("done"));
    }
    served.go_on.cancel();
    assert!(everything_from(busy).await.ends_with("done"));
    served.end().await;
}

#[tokio::test]
async fn who_has_connected_before_a_stop_and_asks_nothing_does_not_hold_it_up() {
    let listener = listener();
    let mut idle = TcpStream::connect(listener.plain().unwrap()).await.unwrap();
    let stop = Stop::default();
    stop.gently.cancel();
    let mut served = Served::at(listener, Limits { header: Duration::from_hours(1), ..LIMITS }, stop);
    served.serving.join_next().await.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn who_has_connected_before_a_stop_may_ask_after_it() {
    let served = Served::with(Limits { newcomer: Duration::from_secs(5), ..LIMITS });
    let (mut early, mut late) = (served.connect().await, served.connect().await);
    early.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    served.busy.becomes(1).await;
    served.stop.gently.cancel();
    // Once nobody is let in any more, the stop has been dealt with.
    while TcpStream::connect(served.address).await.is_ok() {}
    late.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    served.go_on.cancel();
    for caller in [&mut early, &mut late] {
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
    }
}
