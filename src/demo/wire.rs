//! Lines in, lines out: JSON-RPC 2.0 as this server speaks it, written apart from the gateway's own `rpc`.
//!
//! One message per line. A line goes out whole or not at all (one lock, one write), unless a fault asks for worse.
//! Envelopes are parsed strictly: duplicate or malformed members are refused. `params` stay raw, so that a tool can see
//! the very bytes that arrived.

use std::io::{self, BufRead, Read, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::faults::{Fault, Faults};

/// Longest line that is read; a client that sends more is not one.
const LONGEST_LINE: u64 = 1 << 30;

/// Any message that a client may send; which kind it is follows from what is present.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub(super) jsonrpc: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) id: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) params: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) result: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) error: Option<Box<RawValue>>,
}

/// Tells a member that is `null` from one that is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// A JSON-RPC error on its way out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> RpcError {
        RpcError { code, message: message.into(), data: None }
    }

    pub(super) fn with(self, data: Value) -> RpcError {
        RpcError { data: Some(data), ..self }
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> RpcError {
        RpcError::new(-32602, message)
    }

    fn to_value(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

/// Reads the next line without its ending and without a byte order mark; `None` at the end of input.
pub(super) fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    // A last line without its newline is no message (a client died while writing it).
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.starts_with(b"\xef\xbb\xbf") {
        line.drain(..3);
    }
    Ok(Some(line))
}

/// Parses one line into its messages: one, or those of a batch.
pub(super) fn parse(line: &[u8]) -> Result<Vec<Message>, RpcError> {
    let unreadable = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Data => RpcError::new(-32600, format!("not a request: {error}")),
        _ => RpcError::new(-32700, format!("not JSON: {error}")),
    };
    if line.trim_ascii_start().starts_with(b"[") {
        return serde_json::from_slice(line).map_err(unreadable);
    }
    serde_json::from_slice(line).map(|message| vec![message]).map_err(unreadable)
}

/// Where messages leave. Shared by all threads.
pub(super) struct Output {
    begun: Mutex<bool>,
    faults: Faults,
}

impl Output {
    pub(super) fn new(faults: Faults) -> Output {
        Output { begun: Mutex::new(false), faults }
    }

    pub(super) fn result(&self, id: &RawValue, result: &Value) {
        self.reply(id.get(), "result", &result.to_string());
    }

    pub(super) fn error(&self, id: Option<&RawValue>, error: &RpcError) {
        self.reply(id.map_or("null", RawValue::get), "error", &error.to_value().to_string());
    }

    pub(super) fn notification(&self, method: &str, params: &Value) {
        self.line(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// Asks the client something; the answer comes back through the reader.
    pub(super) fn request(&self, id: &str, method: &str) {
        self.line(&json!({"jsonrpc": "2.0", "id": id, "method": method}).to_string());
    }

    fn reply(&self, id: &str, member: &str, body: &str) {
        let reply = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":{body}}}"#);
        if self.faults.has(&Fault::WrongIds) {
            self.line(&reply(r#""an-id-nobody-used""#));
            // The right id within an array: never equal to the id asked with.
            self.line(&reply(&format!("[{id}]")));
        }
        if self.faults.has(&Fault::Batch) {
            let stray = json!({"jsonrpc": "2.0", "method": "notifications/message",
                               "params": {"level": "info", "logger": "demo", "data": "a stray one"}});
            self.line(&format!("[{},{stray}]", reply(id)));
        } else {
            self.line(&reply(id));
        }
        if self.faults.has(&Fault::WrongIds) {
            self.line(&reply(id));
        }
    }

    /// Writes one line, whatever is in it.
    pub(super) fn line(&self, text: &str) {
        self.bytes(text.as_bytes(), true);
    }

    /// Writes bytes, with or without a line's end.
    ///
    /// Ends the process when nobody reads any more: there is no one left to serve.
    pub(super) fn bytes(&self, bytes: &[u8], end_line: bool) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let odd = self.faults.has(&Fault::BomAndCrlf);
        let mut whole = Vec::with_capacity(bytes.len() + 5);
        if odd && !*begun {
            whole.extend_from_slice(b"\xef\xbb\xbf");
        }
        whole.extend_from_slice(bytes);
        if end_line {
            whole.extend_from_slice(if odd { b"\r\n" } else { b"\n" });
        }
        *begun = true;
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(&whole).and_then(|()| stdout.flush()) {
            complain(&format!("cannot write: {error}"));
            std::process::exit(1);
        }
    }
}

/// Writes a line to stderr, if anybody reads it.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "spawnling-demo: {text}"); // a closed stderr is the client's choice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_endings_and_their_mark() {
        let mut input = &b"\xef\xbb\xbf{}\r\n\n[1]\npartial"[..];
        assert_eq!(read_line(&mut input).unwrap().unwrap(), b"{}");
        assert_eq!(read_line(&mut input).unwrap().unwrap(), b"");
        assert_eq!(read_line(&mut input).unwrap().unwrap(), b"[1]");
        assert_eq!(read_line(&mut input).unwrap(), None);
    }

    #[test]
    fn bad_lines_are_refused_with_the_right_code() {
        for (line, code) in [
            ("nonsense", -32700),
            ("{", -32700),
            ("3", -32600),
            (r#"{"id":1,"id":2}"#, -32600),
            (r#"{"id":1,"method":5}"#, -32600),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().code, code, "{line}");
        }
    }

    #[test]
    fn params_keep_their_bytes_and_null_ids_are_seen() {
        let line = r#"{"id":null,"method":"m","params":{"b": 1e400,"a":"\ud800","b":2}}"#;
        let message = parse(line.as_bytes()).unwrap().remove(0);
        assert_eq!(message.id.unwrap().get(), "null");
        assert_eq!(message.params.unwrap().get(), r#"{"b": 1e400,"a":"\ud800","b":2}"#);
        assert_eq!(parse(b"[{},{}]").unwrap().len(), 2);
    }
}
