//! The tool `fault`, there only with `--faults`: misbehaves as one call orders it.

use std::time::Duration;
use std::{env, fs, process, thread};

use serde::Deserialize;
use serde_json::{Value, json};

use super::eras;
use super::faults::{self, Fault, LONGEST};
use super::server::Call;
use super::tools::{self, Outcome};
use super::wire::RpcError;

/// All kinds, in the order of `Kind`.
pub(super) const KINDS: [&str; 26] = [
    "exit",
    "abort",
    "signal",
    "hang",
    "hang-ignoring-all",
    "garbage",
    "non-utf8",
    "endless-line",
    "wrong-id",
    "both-result-and-error",
    "stderr-flood",
    "notification-flood",
    "big-reply",
    "answer-and-exit",
    "answer-twice",
    "close-stdout",
    "child",
    "setsid-child",
    "daemon-child",
    "rpc-error",
    "input-required",
    "surrogate",
    "scratch-file",
    "null-id",
    "no-content",
    "unknown-result-type",
];

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Exit,
    Abort,
    Signal,
    Hang,
    HangIgnoringAll,
    Garbage,
    #[serde(rename = "non-utf8")]
    NonUtf8,
    EndlessLine,
    WrongId,
    BothResultAndError,
    StderrFlood,
    NotificationFlood,
    BigReply,
    AnswerAndExit,
    AnswerTwice,
    CloseStdout,
    Child,
    SetsidChild,
    DaemonChild,
    RpcError,
    InputRequired,
    Surrogate,
    ScratchFile,
    NullId,
    NoContent,
    UnknownResultType,
}

/// The tool's arguments.
#[derive(Debug, Deserialize)]
pub(super) struct Order {
    kind: Kind,
    code: Option<i32>,
    signal: Option<i32>,
    bytes: Option<u64>,
    count: Option<u32>,
    seconds: Option<f64>,
    message: Option<String>,
}

/// Waits `seconds`, if given, and misbehaves.
pub(super) fn run(call: &Call, order: &Order) -> Outcome {
    let delay = order.seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.0).clamp(0.0, 3600.0);
    if call.cancel.wait(Duration::from_secs_f64(delay)) {
        return Outcome::Silence;
    }
    match order.kind {
        Kind::Exit => process::exit(order.code.unwrap_or(1)),
        Kind::Abort => faults::abort(),
        Kind::Signal => signal(order.signal.unwrap_or(9)),
        Kind::Hang => Outcome::Silence,
        Kind::HangIgnoringAll => {
            faults::hang_ignoring_all();
            Outcome::Silence
        }
        Kind::CloseStdout => {
            faults::close_stdout();
            Outcome::Silence
        }
        Kind::Child => leave_behind(&Fault::Child),
        Kind::SetsidChild => leave_behind(&Fault::SetsidChild),
        Kind::DaemonChild => leave_behind(&Fault::DaemonChild),
        Kind::RpcError => {
            let message = order.message.as_deref().unwrap_or("an error, as asked");
            Outcome::Error(
                RpcError::new(order.code.unwrap_or(-32603).into(), message).with(json!({"kind": "demo"})),
            )
        }
        Kind::InputRequired => input_required(call),
        Kind::ScratchFile => scratch_file(),
        Kind::AnswerAndExit => {
            call.server.output.line(&line(call, &json!({"text": "goodbye"})));
            process::exit(0)
        }
        _ => on_the_wire(call, order),
    }
}

/// The kinds that are about what is written.
fn on_the_wire(call: &Call, order: &Order) -> Outcome {
    let output = &call.server.output;
    let count = order.count.unwrap_or(3);
    match order.kind {
        Kind::Garbage => (0..count).for_each(|n| output.line(&format!("print #{n}: this is not JSON"))),
        Kind::NonUtf8 => {
            (0..count).for_each(|_| output.bytes(b"\xff\xfe caf\xe9 {\"jsonrpc\":\"2.0\"", true));
        }
        Kind::StderrFlood => faults::flood_stderr(order.bytes.unwrap_or(10 << 20)),
        Kind::NotificationFlood => flood(call, order.bytes.unwrap_or(20_000_000)),
        Kind::AnswerTwice => output.line(&line(call, &json!({"text": "once"}))),
        Kind::EndlessLine => {
            endless_line(call, order.bytes);
            return Outcome::Silence;
        }
        Kind::BigReply => {
            let length = usize::try_from(order.bytes.unwrap_or(1 << 20)).unwrap_or(usize::MAX).min(1 << 30);
            return tools::text(&"x".repeat(length));
        }
        Kind::WrongId => {
            return Outcome::Line(r#"{"jsonrpc":"2.0","id":"wrong","result":{"content":[]}}"#.to_owned());
        }
        Kind::NullId => {
            return Outcome::Line(r#"{"jsonrpc":"2.0","id":null,"result":{"content":[]}}"#.to_owned());
        }
        Kind::BothResultAndError => {
            let id = call.id.get();
            return Outcome::Line(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}},"error":{{"code":-32603,"message":"and yet"}}}}"#
            ));
        }
        Kind::Surrogate => return Outcome::Line(surrogate(call)),
        Kind::NoContent => return Outcome::Result(json!({"surprise": true})),
        Kind::UnknownResultType => return Outcome::Result(json!({"resultType": "mystery", "content": []})),
        _ => {}
    }
    tools::text(&format!("answered after {:?}", order.kind))
}

/// A good answer as a whole line, to be sent beside or before the ordinary one.
fn line(call: &Call, item: &Value) -> String {
    let mut item = item.clone();
    item["type"] = json!("text");
    let result = eras::dress(json!({"content": [item], "isError": false}), "tools/call", call.revision);
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id.get())
}

/// An answer that is good JSON and that a careless relay would change or refuse.
fn surrogate(call: &Call) -> String {
    let result_type = if call.revision.is_modern() { "\"resultType\":\"complete\",\r" } else { "" };
    let id = call.id.get();
    format!(
        "{{\"jsonrpc\":\"2.0\",\r\"id\":{id},\r\"result\":{{\r{result_type}\"content\":[{{\"type\":\"text\",\
         \"text\":\"lone \\ud800 surrogate\"}}],\r\"structuredContent\":{{\"huge\":1e400,\"long\":{LONG},\
         \"twice\":1,\"twice\":2,\"trailing\":1.10}},\"unknownField\":{{\"z\":1,\"a\":[ 1 ,\r2 ]}},\"isError\":false}}}}"
    )
}

/// An integer of 40 digits.
const LONG: &str = "1234567890123456789012345678901234567890";

fn signal(number: i32) -> Outcome {
    use rustix::process::{Signal, getpid, kill_process};
    let Some(signal) = Signal::from_named_raw(number) else {
        return tools::failure(&format!("there is no signal {number}"));
    };
    faults::forbid_cores();
    if let Err(error) = kill_process(getpid(), signal) {
        return tools::failure(&format!("cannot send signal {number}: {error}"));
    }
    // A signal to the own process may be delivered to another thread, a moment later.
    thread::sleep(Duration::from_millis(50));
    tools::text(&format!("survived signal {number}"))
}

fn leave_behind(fault: &Fault) -> Outcome {
    match faults::leave_behind(fault) {
        Ok(pid) => tools::structured(&json!({"pid": pid, "seconds": LONGEST.as_secs()})),
        Err(error) => tools::failure(&format!("cannot start a process: {error}")),
    }
}

/// Starts a line and never ends it.
fn endless_line(call: &Call, bytes: Option<u64>) {
    let output = &call.server.output;
    output.bytes(br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":""#, false);
    let chunk = vec![b'x'; 1 << 16];
    let mut left = bytes.unwrap_or(u64::MAX);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        output.bytes(&chunk[..length], false);
        left -= length as u64;
    }
}

/// Notifications in their thousands: progress for whoever gave a token, and logs, asked for or not.
fn flood(call: &Call, bytes: u64) {
    let filler = "flood ".repeat(160);
    let each = filler.len() as u64 + 90; // a message with at least that much envelope
    for number in 1..=bytes.div_ceil(each) {
        if call.cancel.is_set() {
            return;
        }
        if number % 2 == 0 && call.params.meta.progress_token.is_some() {
            #[expect(clippy::cast_precision_loss, reason = "a count of messages is far below 2^52")]
            call.progress(number as f64, bytes.div_ceil(each) as f64, &filler);
        } else {
            let params = json!({"level": "debug", "logger": "demo", "data": filler});
            call.server.output.notification("notifications/message", &params);
        }
    }
}

/// The state that the client must bring back unread.
const STATE: &str = "demo-state/1:who?=%\u{e9}";

/// Asks back in the modern way, and completes when the answer comes with the retry.
fn input_required(call: &Call) -> Outcome {
    if !call.revision.is_modern() {
        return tools::failure("input-required exists only in the modern era");
    }
    let params = &call.params;
    let who = params.input_responses.as_ref().and_then(|all| all.get("who"));
    match (params.request_state.as_deref(), who) {
        (Some(STATE), Some(answer)) => tools::structured(&json!({"answered": answer})),
        (None | Some(STATE), _) if !params.meta.declares("elicitation") => Outcome::Error(
            RpcError::new(-32021, "this call needs elicitation")
                .with(json!({"requiredCapabilities": {"elicitation": {}}})),
        ),
        (None | Some(STATE), _) => Outcome::Result(json!({
            "resultType": "input_required",
            "inputRequests": {"who": {"method": "elicitation/create", "params": {
                "mode": "form", "message": "What is your name?",
                "requestedSchema": {"type": "object", "required": ["name"],
                                    "properties": {"name": {"type": "string", "title": "Name"}}}}}},
            "requestState": STATE,
        })),
        (Some(_), _) => Outcome::Error(RpcError::invalid_params("requestState is not what was given")),
    }
}

/// Leaves files where a tidy owner will look for them.
fn scratch_file() -> Outcome {
    let name = format!("spawnling-demo-{}.txt", process::id());
    let places = [env::current_dir().unwrap_or_default(), env::temp_dir()];
    let mut written = Vec::new();
    for path in places.map(|place| place.join(&name)) {
        if let Err(error) = fs::write(&path, "left by the demo server\n") {
            return tools::failure(&format!("cannot write {}: {error}", path.display()));
        }
        written.push(path.to_string_lossy().into_owned());
    }
    tools::structured(&json!({"files": written}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_shown_is_understood() {
        for kind in KINDS {
            assert!(serde_json::from_value::<Order>(json!({"kind": kind})).is_ok(), "{kind}");
        }
    }
}
