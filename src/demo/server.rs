//! One process's worth of server: takes a line, decides its era, answers it or starts the tool that will.
//!
//! ```text
//! line -> messages -> judged by era -> lists, texts: answered at once
//!                                   -> tools that are done at once: answered at once
//!                                   -> tools that take time: a thread each, until done or cancelled
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::browse::Reach;
use super::eras::{self, Era, Meta, Revision};
use super::faults::{Fault, Faults};
use super::tools::{self, Outcome, Tool};
use super::wire::{self, Message, Output, RpcError, complain};
use super::{Args, offers};

/// How urgent a log message is, lowest first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// All state of the process.
pub(super) struct Server {
    era: Era,
    exit_on_probe: bool,
    silent_on_probe: bool,
    pub(super) fault_tool: bool,
    pub(super) faults: Faults,
    pub(super) reach: Reach,
    pub(super) output: Output,
    /// Calls of `counter` so far.
    pub(super) counter: AtomicU64,
    met: AtomicBool,
    refused_modern: AtomicBool,
    session: Mutex<Option<Revision>>,
    log_level: Mutex<usize>,
    running: Mutex<HashMap<String, Arc<Cancel>>>,
    questions: Mutex<HashMap<String, mpsc::Sender<String>>>,
}

/// The parameters of all methods together; each method looks at its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Params {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<Box<RawValue>>,
    pub(super) request_state: Option<String>,
    pub(super) input_responses: Option<Value>,
    uri: Option<String>,
    cursor: Option<String>,
    level: Option<String>,
    protocol_version: Option<String>,
    request_id: Option<Value>,
    r#ref: Value,
    argument: Value,
    #[serde(rename = "_meta")]
    pub(super) meta: Meta,
}

/// One tool call under way.
pub(super) struct Call {
    pub(super) server: Arc<Server>,
    pub(super) id: Box<RawValue>,
    pub(super) revision: Revision,
    pub(super) params: Params,
    pub(super) cancel: Arc<Cancel>,
}

/// Tells a running tool that nobody wants its answer any more.
#[derive(Default)]
pub(super) struct Cancel {
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl Cancel {
    fn set(&self) {
        *lock(&self.cancelled) = true;
        self.changed.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *lock(&self.cancelled)
    }

    /// Waits that long, or until cancelled; says whether it was.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut cancelled = lock(&self.cancelled);
        while !*cancelled {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            cancelled = self.changed.wait_timeout(cancelled, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *cancelled
    }
}

/// Locks; a thread that panicked with the lock leaves plain values, which are still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub(super) fn new(args: &Args) -> Server {
        let faults = Faults::new(&args.fault);
        Server {
            era: args.era,
            exit_on_probe: args.exit_on_probe,
            silent_on_probe: args.silent_on_probe,
            fault_tool: args.faults,
            output: Output::new(faults.clone()),
            reach: Reach::new(&args.allow_origin, args.allow_private),
            counter: AtomicU64::new(0),
            faults,
            met: AtomicBool::new(false),
            refused_modern: AtomicBool::new(false),
            session: Mutex::new(None),
            log_level: Mutex::new(0),
            running: Mutex::new(HashMap::new()),
            questions: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one line of input.
    pub(super) fn take(self: &Arc<Self>, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match wire::parse(line) {
            Ok(messages) => messages.into_iter().for_each(|message| self.take_message(message)),
            Err(error) => self.output.error(None, &error),
        }
    }

    fn take_message(self: &Arc<Self>, message: Message) {
        if !self.met.swap(true, Ordering::Relaxed) {
            self.meet(&message);
        }
        match message {
            Message { jsonrpc, .. } if jsonrpc != "2.0" => {
                self.output.error(None, &RpcError::new(-32600, "jsonrpc must be \"2.0\""));
            }
            Message { id: Some(id), method: Some(method), params, .. } => {
                if is_id(&id) {
                    self.take_request(id, &method, params.as_deref());
                } else {
                    self.output.error(None, &RpcError::new(-32600, "an id must be a string or an integer"));
                }
            }
            Message { id: None, method: Some(method), params, .. } => {
                self.take_notification(&method, params.as_deref());
            }
            Message { id: Some(id), result, error, .. } if result.is_some() || error.is_some() => {
                let answer = result.or(error).map(|raw| raw.get().to_owned()).unwrap_or_default();
                if let Some(asker) = lock(&self.questions).remove(&key(id.get())) {
                    let _ = asker.send(answer); // the asker may have been cancelled meanwhile
                }
            }
            _ => self
                .output
                .error(None, &RpcError::new(-32600, "neither a request, a notification nor a response")),
        }
    }

    /// What some servers do over the very first message.
    fn meet(&self, message: &Message) {
        self.faults.at_first_message();
        let method = message.method.as_deref().unwrap_or_default();
        if self.exit_on_probe && !matches!(method, "initialize" | "ping") {
            complain(&format!("expected initialize, but got {method:?}: connection closed"));
            std::process::exit(1);
        }
    }

    fn take_notification(&self, method: &str, params: Option<&RawValue>) {
        if method != "notifications/cancelled" {
            return;
        }
        let Ok(Params { request_id: Some(id), .. }) = read_params(params) else { return };
        if let Some(cancel) = lock(&self.running).get(&key(&id.to_string())) {
            cancel.set();
        }
    }

    fn take_request(self: &Arc<Self>, id: Box<RawValue>, method: &str, params: Option<&RawValue>) {
        if self.silent_on_probe && method == "server/discover" {
            return;
        }
        let judged = read_params(params).and_then(|params| Ok((self.judge(method, &params)?, params)));
        match judged {
            Ok((revision, params)) if method == "tools/call" => self.call(id, revision, params),
            Ok((revision, params)) => match self.respond(method, &params, revision) {
                Ok(result) => self.output.result(&id, &eras::dress(result, method, revision)),
                Err(error) => self.output.error(Some(&id), &error),
            },
            Err(error) => self.output.error(Some(&id), &error),
        }
    }

    fn judge(&self, method: &str, params: &Params) -> Result<Revision, RpcError> {
        let modern = params.meta.is_modern();
        if method == "initialize" && self.era == Era::Modern && !modern {
            return Err(eras::unsupported(params.protocol_version.as_deref().unwrap_or_default()));
        }
        if modern
            && self.faults.has(&Fault::RefuseFirstModern)
            && !self.refused_modern.swap(true, Ordering::Relaxed)
        {
            return Err(eras::no_method(method));
        }
        eras::judge(self.era, *lock(&self.session), method, &params.meta)
    }

    /// Answers everything but `tools/call`.
    fn respond(&self, method: &str, params: &Params, revision: Revision) -> Result<Value, RpcError> {
        let cursor = params.cursor.as_deref();
        let paged = |member, all: &[Value]| offers::paged(member, all, cursor, &self.faults);
        match method {
            "initialize" if !revision.is_modern() => self.initialize(params),
            "ping" if !revision.is_modern() => Ok(json!({})),
            "logging/setLevel" if !revision.is_modern() => self.set_level(params.level.as_deref()),
            "server/discover" if revision.is_modern() => Ok(json!({
                "supportedVersions": [eras::MODERN],
                "capabilities": offers::capabilities(revision),
                "instructions": offers::INSTRUCTIONS,
            })),
            "tools/list" => paged("tools", &offers::tools(revision, self.fault_tool, &self.faults)),
            "resources/list" => paged("resources", &offers::resources()),
            "resources/templates/list" => paged("resourceTemplates", &offers::resource_templates()),
            "prompts/list" => paged("prompts", &offers::prompts()),
            "resources/read" => offers::read_resource(required(params.uri.as_deref(), "uri")?, revision),
            "prompts/get" => {
                let arguments = params.arguments.as_deref().map(|raw| serde_json::from_str(raw.get()));
                let arguments: Value = arguments
                    .transpose()
                    .map_err(|error| RpcError::invalid_params(format!("arguments: {error}")))?
                    .unwrap_or_default();
                offers::get_prompt(required(params.name.as_deref(), "name")?, &arguments)
            }
            "completion/complete" => offers::complete(&params.r#ref, &params.argument),
            _ => Err(eras::no_method(method)),
        }
    }

    fn initialize(&self, params: &Params) -> Result<Value, RpcError> {
        let revision = Revision::negotiate(required(params.protocol_version.as_deref(), "protocolVersion")?);
        *lock(&self.session) = Some(revision);
        Ok(json!({
            "protocolVersion": revision.name(),
            "capabilities": offers::capabilities(revision),
            "serverInfo": eras::server_info(revision),
            "instructions": offers::INSTRUCTIONS,
        }))
    }

    fn set_level(&self, name: Option<&str>) -> Result<Value, RpcError> {
        let name = required(name, "level")?;
        *lock(&self.log_level) =
            level(name).ok_or_else(|| RpcError::invalid_params(format!("unknown level: {name}")))?;
        Ok(json!({}))
    }

    fn call(self: &Arc<Self>, id: Box<RawValue>, revision: Revision, params: Params) {
        let found = required(params.name.as_deref(), "name").and_then(|name| {
            Tool::named(name, self).ok_or_else(|| RpcError::invalid_params(format!("unknown tool: {name}")))
        });
        let tool = match found {
            Ok(tool) => tool,
            Err(error) => return self.output.error(Some(&id), &error),
        };
        let call = Call { server: Arc::clone(self), id, revision, params, cancel: Arc::default() };
        if tool.is_done_at_once() && !self.faults.has(&Fault::AskClient) {
            return call.finish(tools::run(tool, &call));
        }
        let call_key = key(call.id.get());
        lock(&self.running).insert(call_key.clone(), Arc::clone(&call.cancel));
        std::thread::spawn(move || {
            let asked = call.ask_client();
            let outcome = tools::run(tool, &call);
            lock(&call.server.running).remove(&call_key);
            call.finish(append(outcome, asked));
        });
    }
}

impl Call {
    /// Sends the outcome, unless nobody wants it any more.
    fn finish(&self, outcome: Outcome) {
        if self.cancel.is_set() {
            return;
        }
        let output = &self.server.output;
        match outcome {
            Outcome::Result(result) => {
                output.result(&self.id, &eras::dress(result, "tools/call", self.revision));
            }
            Outcome::Error(error) => output.error(Some(&self.id), &error),
            Outcome::Line(line) => output.line(&line),
            Outcome::Silence => return,
        }
        if self.server.faults.has(&Fault::AnswerAndExit) {
            std::process::exit(0);
        }
    }

    /// Reports progress, if the client asked for it.
    pub(super) fn progress(&self, progress: f64, total: f64, message: &str) {
        let Some(token) = &self.params.meta.progress_token else { return };
        // A token is a string or an integer; anything else is echoed as null rather than not at all.
        let token: Value = serde_json::from_str(token.get()).unwrap_or_default();
        let mut params = json!({"progressToken": token, "progress": progress, "total": total});
        if self.revision >= Revision::V2025_03_26 {
            params["message"] = json!(message);
        }
        self.server.output.notification("notifications/progress", &params);
    }

    /// Logs to the client: a legacy one unless it raised the level, a modern one only if it asked with this request.
    pub(super) fn log(&self, name: &str, data: &Value) {
        let wanted = match (&self.params.meta.log_level, self.revision.is_modern()) {
            (Some(wanted), true) => level(wanted),
            (None, true) => None,
            (_, false) => Some(*lock(&self.server.log_level)),
        };
        if wanted.is_some_and(|wanted| level(name) >= Some(wanted)) {
            let params = json!({"level": name, "logger": "demo", "data": data});
            self.server.output.notification("notifications/message", &params);
        }
    }

    /// Fault: asks the client two things before the tool runs, and waits for both answers.
    ///
    /// Only in a legacy session; a modern server has no way to ask.
    fn ask_client(&self) -> Option<String> {
        if !self.server.faults.has(&Fault::AskClient) || self.revision.is_modern() {
            return None;
        }
        let mut heard = Vec::new();
        for method in ["ping", "roots/list"] {
            let id = format!("demo-{method}-{}", self.id.get().trim_matches('"'));
            let (tell, told) = mpsc::channel();
            lock(&self.server.questions).insert(key(&json!(id).to_string()), tell);
            self.server.output.request(&id, method);
            let answer = loop {
                match told.recv_timeout(Duration::from_millis(20)) {
                    Ok(answer) => break answer,
                    Err(_) if self.cancel.is_set() => return None,
                    Err(_) => {}
                }
            };
            complain(&format!("the client answered {method} with {answer}"));
            heard.push(format!("{method}: {answer}"));
        }
        Some(heard.join("\n"))
    }
}

/// Puts what the client said behind a result's text.
fn append(mut outcome: Outcome, asked: Option<String>) -> Outcome {
    if let (Outcome::Result(result), Some(text)) = (&mut outcome, asked)
        && let Some(content) = result["content"].as_array_mut()
    {
        content.push(json!({"type": "text", "text": text}));
    }
    outcome
}

fn read_params(params: Option<&RawValue>) -> Result<Params, RpcError> {
    let Some(params) = params else { return Ok(Params::default()) };
    // A struct would be read from an array as well, by position.
    if !params.get().starts_with('{') {
        return Err(RpcError::invalid_params("params must be an object"));
    }
    serde_json::from_str(params.get()).map_err(|error| RpcError::invalid_params(format!("params: {error}")))
}

fn required<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str, RpcError> {
    value.ok_or_else(|| RpcError::invalid_params(format!("params need {name}, a string")))
}

fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|level| *level == name)
}

fn is_id(id: &RawValue) -> bool {
    id.get().starts_with('"') || serde_json::from_str::<i128>(id.get()).is_ok()
}

/// An id in one spelling, so that ids can be compared.
fn key(id: &str) -> String {
    serde_json::from_str::<Value>(id).map_or_else(|_| id.to_owned(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_or_integers() {
        for (id, good) in
            [("1", true), ("-3", true), ("\"a\"", true), ("null", false), ("1.5", false), ("[1]", false)]
        {
            assert_eq!(is_id(&RawValue::from_string(id.to_owned()).unwrap()), good, "{id}");
        }
        assert_eq!(key("\"\\u0061\""), key("\"a\""));
        assert_ne!(key("\"1\""), key("1"));
    }

    #[test]
    fn a_cancel_ends_a_wait_at_once() {
        let cancel = Arc::new(Cancel::default());
        assert!(!cancel.wait(Duration::from_millis(1)));
        let waiter = {
            let cancel = Arc::clone(&cancel);
            std::thread::spawn(move || cancel.wait(Duration::from_mins(1)))
        };
        cancel.set();
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn params_must_be_an_object_of_the_right_types() {
        for bad in ["[]", "3", r#"{"name":3}"#, r#"{"_meta":3}"#, r#"{"name":"a","name":"b"}"#] {
            let raw = RawValue::from_string(bad.to_owned()).unwrap();
            assert_eq!(read_params(Some(&raw)).unwrap_err().code, -32602, "{bad}");
        }
    }
}
