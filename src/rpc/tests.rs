//! A peer on the other end of a pipe in memory, well-behaved and not.

use bytes::Bytes;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, DuplexStream, ReadHalf, WriteHalf};

use super::*;

#[derive(Default)]
struct Heard {
    requests: Vec<String>,
    notifications: Vec<String>,
    noise: Vec<Vec<u8>>,
}

impl Listener for Heard {
    fn request(&mut self, method: &str) -> Result<RawJson, (i64, &'static str)> {
        self.requests.push(method.to_owned());
        if method == "yes" { Ok(RawJson::empty_object()) } else { Err((-32601, "no")) }
    }
    fn notification(&mut self, method: &str, _params: Option<RawJson>) {
        self.notifications.push(method.to_owned());
    }
    fn noise(&mut self, line: &[u8]) {
        self.noise.push(line.to_vec());
    }
}

type Near = (Peer, Wire<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>);

fn pair(room: usize) -> (Near, DuplexStream) {
    let (near, far) = tokio::io::duplex(room);
    let (reader, writer) = tokio::io::split(near);
    (connect(reader, writer, 1 << 20), far)
}

async fn say(far: &mut DuplexStream, lines: &[&str]) {
    for line in lines {
        far.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
}

fn result_text(reply: Reply) -> String {
    match reply {
        Reply::Result(result) => result.as_str().to_owned(),
        other => panic!("a result, not {other:?}"),
    }
}

#[tokio::test]
async fn foreign_late_and_repeated_answers_and_noise_never_break_a_question() {
    let ((peer, mut wire), mut far) = pair(4096);
    let mut heard = Heard::default();
    let mut question = peer.ask("m", &Vec::new());
    say(
        &mut far,
        &[
            "starting up",
            r#"{"jsonrpc":"2.0","id":99,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"one","result":{"wrong":true}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#,
            r#"[{"jsonrpc":"2.0","method":"told"},{"jsonrpc":"2.0","id":1,"result":{"right":true}}]"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"again":true}}"#,
        ],
    )
    .await;
    let reply = tokio::select! {
        biased;
        reply = question.answer() => reply.unwrap(),
        closed = wire.run(&mut heard) => panic!("{closed:?}"),
    };
    assert_eq!(result_text(reply), r#"{"right":true}"#);
    assert_eq!(heard.notifications, ["told"]);
    // An error without an id concerns nobody, and is no message that we know.
    assert_eq!(heard.noise.len(), 2);
    assert_eq!(wire.strays, 3);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_one_all_the_same() {
    let parse_error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#;
    let garbled = r#"{"jsonrpc":"2.0","id":1,"result":{"x":NaN}}"#;
    for (line, noise) in [(parse_error, 0), (garbled, 1)] {
        let ((peer, mut wire), mut far) = pair(4096);
        let mut heard = Heard::default();
        let mut question = peer.ask("m", &Vec::new());
        say(&mut far, &[line]).await;
        let reply = tokio::select! {
            biased;
            reply = question.answer() => reply.unwrap(),
            closed = wire.run(&mut heard) => panic!("{closed:?}"),
        };
        assert_eq!(matches!(reply, Reply::Error(ErrorObject { code: -32700, .. })), noise == 0, "{reply:?}");
        assert_eq!(matches!(reply, Reply::Malformed(Malformed::Garbled)), noise == 1, "{reply:?}");
        assert_eq!((heard.noise.len(), wire.strays), (noise, 0), "{line}");
        // Nobody has asked any more.
        say(&mut far, &[line]).await;
        assert!(wire.run(&mut heard).now_or_never().is_none());
        assert_eq!(heard.noise.len(), noise + 1, "{line}");
    }
}

#[tokio::test]
async fn a_peers_own_questions_are_answered() {
    let ((_peer, mut wire), far) = pair(4096);
    let (read, mut write) = tokio::io::split(far);
    write.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"yes\"}\n").await.unwrap();
    write.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"other\"}\n").await.unwrap();
    let mut lines = BufReader::new(read).lines();
    let mut heard = Heard::default();
    let answers =
        async { [lines.next_line().await, lines.next_line().await].map(|line| line.unwrap().unwrap()) };
    let answers = tokio::select! {
        answers = answers => answers,
        closed = wire.run(&mut heard) => panic!("{closed:?}"),
    };
    assert_eq!(answers[0], r#"{"jsonrpc":"2.0","id":"a","result":{}}"#);
    assert_eq!(answers[1], r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"no"}}"#);
}

#[tokio::test]
async fn a_peer_that_answers_before_it_reads_blocks_nobody() {
    // Neither direction has room for a whole message: one-sided reading or writing would deadlock.
    let ((peer, mut wire), far) = pair(64);
    let large = RawJson::of(&"x".repeat(100_000));
    let mut question = peer.ask("m", &vec![("p".to_owned(), large)]);
    let (mut read, mut write) = tokio::io::split(far);
    let far_side = async {
        let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{:?}}}\n", "y".repeat(100_000));
        write.write_all(answer.as_bytes()).await.unwrap();
        read.read_exact(&mut vec![0; 100_000]).await.unwrap();
        std::future::pending::<()>().await;
    };
    let mut heard = Heard::default();
    let reply = tokio::select! {
        reply = question.answer() => reply.unwrap(),
        closed = wire.run(&mut heard) => panic!("{closed:?}"),
        () = far_side => unreachable!(),
    };
    assert_eq!(result_text(reply).len(), 100_002);
}

#[tokio::test]
async fn what_was_said_before_leaving_is_heard_and_then_everybody_is_told() {
    let ((peer, mut wire), mut far) = pair(4096);
    let (mut first, mut second) = (peer.ask("a", &Vec::new()), peer.ask("b", &Vec::new()));
    say(&mut far, &[r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "half a li"]).await;
    drop(far);
    assert!(matches!(wire.hear_out(&mut Heard::default()).await, Closed::Eof));
    assert!(first.answer().await.is_ok());
    assert!(second.answer().await.is_err());
    assert!(peer.ask("c", &Vec::new()).answer().await.is_err());
}

/// Both ends of a conversation with a peer whose side for listening is closed already.
fn deaf_peer() -> (Peer, Wire<DuplexStream, DuplexStream>, DuplexStream) {
    let (peer_reads, ours) = tokio::io::duplex(64);
    let (theirs, we_read) = tokio::io::duplex(4096);
    drop(peer_reads);
    let (peer, wire) = connect(we_read, ours, 1 << 20);
    (peer, wire, theirs)
}

#[tokio::test]
async fn a_question_that_cannot_be_said_is_reported_each_time_and_what_is_told_is_not() {
    let (peer, mut wire, mut theirs) = deaf_peer();
    peer.notify("told", &Vec::new());
    say(&mut theirs, &[r#"{"jsonrpc":"2.0","method":"n"}"#, r#"{"jsonrpc":"2.0","id":1,"method":"yes"}"#])
        .await;
    let mut heard = Heard::default();
    assert!(wire.run(&mut heard).now_or_never().is_none(), "nothing is over by that");
    assert_eq!((heard.notifications.len(), heard.requests.len()), (1, 1), "it is heard all the same");
    for _ in 0..2 {
        let _question = peer.ask("m", &Vec::new());
        assert!(matches!(wire.run(&mut heard).await, Closed::Deaf));
    }
}

#[tokio::test]
async fn what_a_deaf_peer_has_answered_is_heard() {
    let (peer, mut wire, mut theirs) = deaf_peer();
    let mut question = peer.ask("m", &Vec::new());
    assert!(matches!(wire.run(&mut Heard::default()).await, Closed::Deaf));
    say(&mut theirs, &[r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]).await;
    drop(theirs);
    assert!(matches!(wire.hear_out(&mut Heard::default()).await, Closed::Eof));
    assert!(question.answer().await.is_ok());
}

#[tokio::test]
async fn leaving_a_deaf_peer_hears_it_to_its_end() {
    let (peer, wire, mut theirs) = deaf_peer();
    let _question = peer.ask("m", &Vec::new());
    say(&mut theirs, &[r#"{"jsonrpc":"2.0","method":"n"}"#]).await;
    drop(theirs);
    let mut heard = Heard::default();
    wire.leave(&mut heard).await;
    assert_eq!(heard.notifications, ["n"]);
}

#[tokio::test]
async fn who_is_told_that_all_is_over_knows_whether_the_question_was_said() {
    let ((peer, mut wire), mut far) = pair(64);
    let (mut said, mut unsaid) = (peer.ask(&"x".repeat(100), &Vec::new()), peer.ask("m", &Vec::new()));
    assert!(wire.run(&mut Heard::default()).now_or_never().is_none(), "the pipe is full");
    wire.give_up();
    let mut late = peer.ask("m", &Vec::new());
    for (question, expected) in [(&mut said, true), (&mut unsaid, false), (&mut late, false)] {
        assert_eq!(question.answer().await.unwrap_err().said, expected);
    }
    // Nothing of it is said any more, not even on the way out.
    let (mut all, mut heard) = (Vec::new(), Heard::default());
    tokio::join!(wire.leave(&mut heard), async {
        far.shutdown().await.unwrap();
        far.read_to_end(&mut all).await.unwrap();
    });
    assert_eq!(all.len(), 64);
}

#[tokio::test]
async fn what_the_writer_took_is_counted() {
    let ((peer, mut wire), mut far) = pair(4096);
    peer.notify("told", &Vec::new());
    assert!(wire.run(&mut Heard::default()).now_or_never().is_none());
    let mut said = vec![0; 4096];
    let read = far.read(&mut said).await.unwrap();
    assert_eq!((wire.said(), wire.heard()), (read as u64, false));
    say(&mut far, &["noise"]).await;
    assert!(wire.run(&mut Heard::default()).now_or_never().is_none());
    assert!(!wire.heard());
    say(&mut far, &[r#"{"jsonrpc":"2.0","method":"n"}"#]).await;
    assert!(wire.run(&mut Heard::default()).now_or_never().is_none());
    assert!(wire.heard());
}

#[tokio::test]
async fn leaving_closes_our_side_after_the_last_word_whether_the_peer_has_ended_or_not() {
    for peer_ends in [false, true] {
        let (peer_reads, ours) = tokio::io::duplex(64);
        let (theirs, we_read) = tokio::io::duplex(64);
        let (peer, wire) = connect(we_read, ours, 1 << 20);
        peer.notify("bye", &Vec::new());
        let theirs = (!peer_ends).then_some(theirs);
        let mut lines = BufReader::new(peer_reads);
        let mut text = String::new();
        let mut heard = Heard::default();
        let far_side = async {
            lines.read_to_string(&mut text).await.unwrap();
            drop(theirs);
        };
        tokio::join!(wire.leave(&mut heard), far_side);
        assert_eq!(text, "{\"jsonrpc\":\"2.0\",\"method\":\"bye\"}\n");
    }
}

#[tokio::test]
async fn a_peer_that_never_stops_talking_is_answered_all_the_same() {
    let ((peer, mut wire), far) = pair(1 << 12);
    let (read, mut write) = tokio::io::split(far);
    let flood = async { while write.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n").await.is_ok() {} };
    peer.notify("told", &Vec::new());
    let mut lines = BufReader::new(read).lines();
    let mut heard = Heard::default();
    tokio::select! {
        line = lines.next_line() => assert!(line.unwrap().unwrap().contains("told")),
        () = flood => unreachable!(),
        closed = wire.run(&mut heard) => panic!("{closed:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_asks_without_reading_does_not_fill_our_memory() {
    let ((_peer, mut wire), mut far) = pair(1 << 16);
    let mut heard = Heard::default();
    let id = "i".repeat(10_000);
    let question = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id:?},\"method\":\"yes\"}}\n");
    let flood = async {
        for _ in 0..1_000 {
            far.write_all(question.as_bytes()).await.unwrap();
        }
    };
    tokio::select! {
        () = flood => {}
        closed = wire.run(&mut heard) => panic!("{closed:?}"),
    }
    assert!(wire.shared.outbox().lines.len() < MOST_BACKLOG + 2 * question.len());
}

proptest! {
    #[test]
    fn answers_in_any_order_find_their_questions(order in Just((1..=9u64).collect::<Vec<_>>()).prop_shuffle()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((peer, mut wire), mut far) = pair(1 << 16);
            let mut questions: Vec<Question> = (1..=9).map(|_| peer.ask("m", &Vec::new())).collect();
            for id in order {
                say(&mut far, &[&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{id}}}")]).await;
            }
            drop(far);
            wire.hear_out(&mut Heard::default()).await;
            for question in &mut questions {
                let text = result_text(question.answer().await.unwrap());
                assert_eq!(text, question.id().to_string());
            }
        });
    }

    #[test]
    fn no_line_makes_the_reader_fail(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = message::read(&Bytes::from(line));
    }
}
