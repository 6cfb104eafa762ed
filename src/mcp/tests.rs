//! Sessions with a scripted peer on the other end of a pipe in memory.
//!
//! The clock is paused: waiting for something that never comes takes no time, so "nothing more was said" is certain.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::era::Protocol;
use super::*;
use crate::rpc::{Listener, Wire, connect};

const INITIALIZED: &str = r#""result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s"},"instructions":"use it"}"#;
const NO_METHOD: &str = r#""error":{"code":-32601,"message":"what?"}"#;
const LONG: Duration = Duration::from_secs(1);

/// Answers a server's questions like an instance does.
#[derive(Default)]
struct Ears(Vec<String>);

impl Listener for Ears {
    fn request(&mut self, method: &str) -> Result<RawJson, (i64, &'static str)> {
        types::answer(method)
    }
    fn notification(&mut self, method: &str, _params: Option<RawJson>) {
        self.0.push(method.to_owned());
    }
    fn noise(&mut self, line: &[u8]) {
        panic!("noise: {}", String::from_utf8_lossy(line));
    }
}

/// Our side of the pipe, and the script of the other.
struct Stage {
    peer: Peer,
    wire: Wire<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>,
    ears: Ears,
    far: Far,
}

struct Far {
    stream: Option<DuplexStream>,
    unread: String,
    /// All that was said to the peer.
    heard: Vec<Value>,
}

impl Stage {
    fn new() -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(near);
        let (peer, wire) = connect(reader, writer, 1 << 20);
        let far = Far { stream: Some(far), unread: String::new(), heard: Vec::new() };
        Self { peer, wire, ears: Ears::default(), far }
    }

    /// Does `work` against a peer that takes requests in the order of `script` and answers each with what stands
    /// beside its method: members of the reply; nothing for no answer; "bye" to hang up.
    async fn play<T>(&mut self, work: impl Future<Output = T>, script: &[(&str, &str)]) -> T {
        let Self { wire, ears, far, .. } = self;
        let mut work = std::pin::pin!(work);
        let near = async {
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                _ = wire.run(ears) => {}
            }
            work.await
        };
        tokio::select! {
            biased;
            done = near => done,
            () = far.follow(script) => unreachable!("the peer waits for ever at the end"),
        }
    }

    /// All that was said, once nothing more is being said.
    async fn heard(&mut self) -> &[Value] {
        let silence = tokio::time::sleep(LONG);
        self.play(silence, &[]).await;
        &self.far.heard
    }

    async fn methods(&mut self) -> Vec<&str> {
        self.heard().await.iter().map(|message| message["method"].as_str().unwrap_or("(reply)")).collect()
    }

    async fn open(
        &mut self,
        protocol: Protocol,
        remembered: Option<Era>,
        script: &[(&str, &str)],
    ) -> Result<Session, OpenError> {
        let peer = self.peer.clone();
        self.play(open(&peer, protocol, remembered), script).await
    }

    async fn legacy() -> (Self, Session) {
        let mut stage = Self::new();
        let session = stage.open(Protocol::Auto, None, &[("initialize", INITIALIZED)]).await.unwrap();
        (stage, session)
    }

    async fn modern() -> (Self, Session) {
        let mut stage = Self::new();
        let session = stage.open(Protocol::Auto, Some(Era::Modern), &[]).await.unwrap();
        (stage, session)
    }
}

impl Far {
    async fn follow(&mut self, script: &[(&str, &str)]) {
        for (method, answer) in script {
            let id = loop {
                let said = self.hear().await;
                if let Some(id) = said.get("id").filter(|_| said["method"] == *method) {
                    break id.clone();
                }
                assert!(said.get("id").is_none(), "{method} was expected, not {said}");
            };
            match *answer {
                "" => {}
                "bye" => self.stream = None,
                members => self.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},{members}}}"#)).await,
            }
        }
        loop {
            self.hear().await;
        }
    }

    async fn hear(&mut self) -> Value {
        while !self.unread.contains('\n') {
            let read = self.read_once().await;
            self.unread.push_str(&read);
        }
        let (line, rest) = self.unread.split_once('\n').unwrap();
        let message: Value = serde_json::from_str(line).unwrap();
        self.unread = rest.to_owned();
        self.heard.push(message.clone());
        message
    }

    async fn read_once(&mut self) -> String {
        let Some(stream) = &mut self.stream else { return std::future::pending().await };
        let mut chunk = vec![0; 1 << 16];
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(count > 0, "our side never hangs up here");
        String::from_utf8(chunk[..count].to_vec()).unwrap()
    }

    async fn say(&mut self, line: &str) {
        self.stream.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
}

fn tool() -> Ask {
    let arguments = RawJson::parse(Bytes::from_static(br#"{"a":1}"#)).unwrap();
    Ask::Tool { name: "t".to_owned(), arguments: Some(arguments), extra: Vec::new() }
}

const TOOLS: Ask = Ask::List(ListKind::Tools);

/// What was opened, in short.
fn shown(opened: Result<Session, OpenError>) -> String {
    match opened {
        Ok(session) => format!("{} {}", session.era().name(), session.introduction().protocol_version),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_says_who_we_are_and_learns_who_they_are() {
    let (mut stage, session) = Stage::legacy().await;
    assert_eq!(session.era(), Era::Legacy);
    let introduction = session.introduction();
    assert_eq!(introduction.protocol_version, "2025-06-18");
    assert_eq!(introduction.server_info.as_ref().unwrap().as_str(), r#"{"name":"s"}"#);
    assert_eq!(introduction.capabilities.as_ref().unwrap().as_str(), r#"{"tools":{}}"#);
    assert_eq!(introduction.instructions.as_deref(), Some("use it"));
    let heard = stage.heard().await;
    let client = json!({"name": "spawnling", "version": env!("CARGO_PKG_VERSION")});
    assert_eq!(
        heard[0]["params"],
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
    );
    assert_eq!(heard[1], json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(heard.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_legacy_revision_is_taken_and_no_other() {
    for (version, expected) in [
        ("2024-11-05", "legacy 2024-11-05"),
        ("2025-03-26", "legacy 2025-03-26"),
        ("2025-06-18", "legacy 2025-06-18"),
        ("2025-11-25", "legacy 2025-11-25"),
        ("2026-07-28", r#"it speaks protocol version "2026-07-28", which is not known here"#),
        ("1.0", r#"it speaks protocol version "1.0", which is not known here"#),
    ] {
        for remembered in [None, Some(Era::Legacy)] {
            let mut stage = Stage::new();
            let answer = format!(r#""result":{{"protocolVersion":{version:?},"capabilities":{{}}}}"#);
            let opened = stage.open(Protocol::Auto, remembered, &[("initialize", &answer)]).await;
            assert_eq!(shown(opened), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_modern_servers_refusal_turns_the_session_modern_without_another_request() {
    for refusal in [
        r#""error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}"#,
        r#""error":{"code":-32022,"message":"m","data":{"supported":["2025-11-25","2026-07-28"]}}"#,
        r#""error":{"code":-32022,"message":"it should name versions, but does not"}"#,
        r#""error":{"code":-32022,"message":"m","data":"nonsense"}"#,
        r#""error":{"code":-32020,"message":"m"}"#,
        r#""error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}"#,
    ] {
        for remembered in [None, Some(Era::Legacy)] {
            let mut stage = Stage::new();
            let opened = stage.open(Protocol::Auto, remembered, &[("initialize", refusal)]).await;
            assert_eq!(shown(opened), "modern 2026-07-28", "{refusal}");
            assert_eq!(stage.methods().await, ["initialize"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_no_revision_of_ours_is_an_error_and_no_loop() {
    let refusal = r#""error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01","2028-01-01"]}}"#;
    let unknown =
        "it supports none of the modern protocol versions that are known here, but 2027-01-01, 2028-01-01";
    let mut stage = Stage::new();
    let opened = stage.open(Protocol::Auto, None, &[("initialize", refusal)]).await;
    assert_eq!(shown(opened), unknown);
    assert_eq!(stage.methods().await, ["initialize"]);

    let found = r#""result":{"resultType":"complete","supportedVersions":["2027-01-01","2028-01-01"],"capabilities":{}}"#;
    let mut stage = Stage::new();
    let script = [("initialize", NO_METHOD), ("server/discover", found)];
    assert_eq!(shown(stage.open(Protocol::Auto, None, &script).await), unknown);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_knows_no_initialize_is_discovered_on_the_same_pipe() {
    let found = r#""result":{"resultType":"complete","supportedVersions":["2025-06-18","2026-07-28"],"capabilities":{"tools":{}},"instructions":"i","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"m"}}}"#;
    for refusal in
        [NO_METHOD, r#""error":{"code":-32602,"message":"no _meta"}"#, r#""error":{"code":7,"message":""}"#]
    {
        let mut stage = Stage::new();
        let script = [("initialize", refusal), ("server/discover", found)];
        let session = stage.open(Protocol::Auto, None, &script).await.unwrap();
        assert_eq!(session.era(), Era::Modern);
        assert_eq!(session.introduction().capabilities.as_ref().unwrap().as_str(), r#"{"tools":{}}"#);
        assert_eq!(session.introduction().server_info.as_ref().unwrap().as_str(), r#"{"name":"m"}"#);
        let discover = stage.heard().await[1].clone();
        assert_eq!(discover["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(
            discover["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"],
            json!({"elicitation": {}})
        );
        assert_eq!(stage.methods().await, ["initialize", "server/discover"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_both_is_quoted_on_the_first() {
    let first = r#""error":{"code":-32000,"message":"no licence"}"#;
    for second in [NO_METHOD, r#""result":{}"#, r#""neither":1"#] {
        let mut stage = Stage::new();
        let script = [("initialize", first), ("server/discover", second)];
        let opened = stage.open(Protocol::Auto, None, &script).await;
        assert_eq!(shown(opened), "it refused with error -32000: no licence");
    }
    let mut stage = Stage::new();
    let opened = stage.open(Protocol::Legacy, None, &[("initialize", first)]).await;
    assert_eq!(shown(opened), "it refused with error -32000: no licence");
    assert_eq!(stage.methods().await, ["initialize"], "a server that is configured as legacy is not probed");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_in_the_handshake_has_hung_up() {
    for script in [&[("initialize", "bye")][..], &[("initialize", NO_METHOD), ("server/discover", "bye")]] {
        let opened = Stage::new().open(Protocol::Auto, None, script).await;
        assert!(matches!(opened, Err(OpenError::HungUp)), "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_handshake_opens_nothing() {
    for answer in [
        r#""neither":1"#,
        r#""result":{"protocolVersion":"2025-06-18"},"error":{"code":1,"message":"both"}"#,
        r#""error":"no object""#,
        r#""result":{}"#,
        r#""result":{"protocolVersion":20250618}"#,
        r#""result":{"protocolVersion":"2025-06-18","protocolVersion":"2024-11-05"}"#,
        r#""result":"2025-06-18""#,
    ] {
        let mut stage = Stage::new();
        let opened = stage.open(Protocol::Auto, None, &[("initialize", answer)]).await;
        assert!(matches!(opened, Err(OpenError::Malformed { .. })), "{answer}");
        assert_eq!(stage.methods().await, ["initialize"], "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_before_initialize_is_answered() {
    let mut stage = Stage::new();
    let peer = stage.peer.clone();
    let opening = tokio::time::timeout(LONG, open(&peer, Protocol::Auto, None));
    assert!(stage.play(opening, &[("initialize", "")]).await.is_err());
    assert_eq!(stage.methods().await, ["initialize"], "and it was dropped without a word");
}

#[tokio::test(start_paused = true)]
async fn initialized_and_the_first_request_leave_together() {
    let (mut stage, mut session) = Stage::legacy().await;
    let ask = tool();
    let chunk = tokio::select! {
        biased;
        asked = session.ask(&ask, None, Telling::Unwanted, 1000) => panic!("{asked:?}"),
        closed = stage.wire.run(&mut stage.ears) => panic!("{closed:?}"),
        chunk = stage.far.read_once() => chunk,
    };
    let lines: Vec<Value> = chunk.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["method"], "notifications/initialized");
    assert_eq!(
        lines[1],
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "t", "arguments": {"a": 1}}})
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_known_to_be_modern_costs_one_round_trip() {
    for (protocol, remembered) in
        [(Protocol::Auto, Some(Era::Modern)), (Protocol::Modern, None), (Protocol::Modern, Some(Era::Legacy))]
    {
        let mut stage = Stage::new();
        let mut session = stage.open(protocol, remembered, &[]).await.unwrap();
        assert!(stage.heard().await.is_empty());
        let answer = r#""result":{"content":[],"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"m"}}}"#;
        let ask = tool();
        let asked =
            stage.play(session.ask(&ask, None, Telling::Unwanted, 1000), &[("tools/call", answer)]).await;
        assert!(matches!(asked, Ok(Outcome::Result(_))), "{asked:?}");
        assert_eq!(session.standing, Standing::Confirmed);
        assert_eq!(session.introduction().server_info.as_ref().unwrap().as_str(), r#"{"name":"m"}"#);
        let heard = stage.heard().await;
        assert_eq!(heard.len(), 1);
        let meta = &heard[0]["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "spawnling");
        assert_eq!(meta.as_object().unwrap().len(), 3, "{meta}");
    }
}

#[path = "tests/asking.rs"]
mod asking;
