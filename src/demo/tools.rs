//! The tools that behave. Each takes a call and returns its outcome; only `sleep` and the browser take time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{env, fs, process};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

use super::eras::Revision;
use super::faults::Fault;
use super::server::{Call, Server};
use super::wire::RpcError;
use super::{browse, fault_tool};

/// Longest sleep that is granted, in seconds.
const LONGEST_SLEEP: f64 = 3600.0;

/// Environment variables whose values are no secret and tell how the process was started.
const HARMLESS: [&str; 9] = ["HOME", "LANG", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "TZ", "USER"];

/// A tool by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Echo,
    Raw,
    Add,
    Sleep,
    Environment,
    Counter,
    Fail,
    Browser,
    Fault,
    /// One of those whose schema is the trouble.
    Broken,
}

impl Tool {
    /// The tool of that name, if this process has it.
    pub(super) fn named(name: &str, server: &Server) -> Option<Tool> {
        match name {
            "echo" => Some(Tool::Echo),
            "raw" => Some(Tool::Raw),
            "add" => Some(Tool::Add),
            "sleep" => Some(Tool::Sleep),
            "environment" => Some(Tool::Environment),
            "counter" => Some(Tool::Counter),
            "fail" => Some(Tool::Fail),
            "run_browser_agent" => Some(Tool::Browser),
            "fault" if server.fault_tool => Some(Tool::Fault),
            "broken" | "remote-ref" if server.faults.has(&Fault::BrokenSchema) => Some(Tool::Broken),
            _ => None,
        }
    }

    /// Whether it is not worth a thread: a start costs more than the whole call.
    pub(super) fn is_done_at_once(self) -> bool {
        !matches!(self, Tool::Sleep | Tool::Browser | Tool::Fault)
    }
}

/// What comes of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A `CallToolResult`.
    Result(Value),
    Error(RpcError),
    /// A whole line as it is, for answers that no JSON library would write.
    Line(String),
    /// No answer at all.
    Silence,
}

/// Runs a tool to its end.
pub(super) fn run(tool: Tool, call: &Call) -> Outcome {
    let done = match tool {
        Tool::Echo => arguments(call).map(|Echo { message }| text(&message)),
        Tool::Raw => Ok(text(call.params.arguments.as_deref().map_or("", RawValue::get))),
        Tool::Add => arguments(call).map(|Add { a, b }| add(&a, &b)),
        Tool::Sleep => arguments(call).map(|order| sleep(call, &order)),
        Tool::Environment => Ok(structured(&environment())),
        Tool::Counter => {
            Ok(structured(&json!({"count": call.server.counter.fetch_add(1, Ordering::Relaxed) + 1})))
        }
        Tool::Fail => {
            arguments(call).map(|Fail { message }| failure(message.as_deref().unwrap_or("failed, as asked")))
        }
        Tool::Browser => arguments(call).map(|task| browser(call, &task)),
        Tool::Fault => arguments(call).map(|order| fault_tool::run(call, &order)),
        Tool::Broken => Ok(text("called in spite of its schema")),
    };
    done.unwrap_or_else(|refused| refused)
}

#[derive(Deserialize)]
struct Echo {
    message: String,
}

#[derive(Deserialize)]
struct Add {
    a: Number,
    b: Number,
}

#[derive(Deserialize)]
struct Sleep {
    seconds: f64,
    #[serde(default)]
    steps: Option<u32>,
}

#[derive(Deserialize)]
struct Fail {
    #[serde(default)]
    message: Option<String>,
}

/// Reads the arguments of a tool. Bad ones are a tool's failure since 2025-11-25 and were a request's before.
fn arguments<T: DeserializeOwned>(call: &Call) -> Result<T, Outcome> {
    let raw = call.params.arguments.as_deref().map_or("{}", RawValue::get);
    let read = if raw.starts_with('{') { serde_json::from_str(raw) } else { serde_json::from_str("{}") };
    read.map_err(|error| {
        let complaint = format!("bad arguments: {error}");
        if call.revision >= Revision::V2025_11_25 {
            failure(&complaint)
        } else {
            Outcome::Error(RpcError::invalid_params(complaint))
        }
    })
}

/// A result of one text.
pub(super) fn text(text: &str) -> Outcome {
    Outcome::Result(json!({"content": [{"type": "text", "text": text}], "isError": false}))
}

/// A result of one object, as text too for clients that know no other.
pub(super) fn structured(value: &Value) -> Outcome {
    let content = json!([{"type": "text", "text": value.to_string()}]);
    Outcome::Result(json!({"content": content, "structuredContent": value, "isError": false}))
}

/// A result that says that the tool could not do it.
pub(super) fn failure(message: &str) -> Outcome {
    Outcome::Result(json!({"content": [{"type": "text", "text": message}], "isError": true}))
}

fn add(a: &Number, b: &Number) -> Outcome {
    let whole = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b)).map(Number::from);
    let real = || Number::from_f64(a.as_f64()? + b.as_f64()?);
    match whole.or_else(real) {
        Some(sum) => structured(&json!({"sum": sum})),
        None => failure("the sum is out of range"),
    }
}

fn sleep(call: &Call, order: &Sleep) -> Outcome {
    let seconds = if order.seconds.is_nan() { 0.0 } else { order.seconds.clamp(0.0, LONGEST_SLEEP) };
    let steps = order.steps.unwrap_or(1).clamp(1, 10_000);
    call.log("info", &json!(format!("sleeping {seconds} s in {steps} steps")));
    for step in 1..=steps {
        if call.cancel.wait(Duration::from_secs_f64(seconds / f64::from(steps))) {
            return Outcome::Silence;
        }
        call.progress(f64::from(step), f64::from(steps), &format!("step {step} of {steps}"));
    }
    text(&format!("slept {seconds} s"))
}

fn browser(call: &Call, task: &browse::Task) -> Outcome {
    let mut step = 0.0;
    let mut tell = |what: &str| {
        step += 1.0;
        call.progress(step, 3.0, what);
    };
    Outcome::Result(browse::run(task, &call.server.reach, &mut tell))
}

/// What this process sees of itself. Values of variables stay secret, but for a few harmless ones.
fn environment() -> Value {
    let mut names: Vec<String> =
        env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let values: BTreeMap<&str, String> =
        HARMLESS.iter().filter_map(|name| Some((*name, env::var(name).ok()?))).collect();
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    json!({
        "variables": names,
        "values": values,
        "cwd": env::current_dir().map(|path| path.to_string_lossy().into_owned()).ok(),
        "descriptors": descriptors(),
        "open_file_limit": {"soft": open_files.current, "hard": open_files.maximum},
        "pid": process::id(),
        "ppid": std::os::unix::process::parent_id(),
    })
}

/// Open descriptors and where they lead, without the one that lists them; `None` where there is no /proc.
fn descriptors() -> Option<BTreeMap<u32, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let (Some(number), Ok(target)) =
            (entry.file_name().to_str().and_then(|name| name.parse().ok()), fs::read_link(entry.path()))
        else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        // The pid in it may be that of another namespace, so it is not compared.
        if !(target.starts_with("/proc/") && target.ends_with("/fd")) {
            found.insert(number, target);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stay_whole_while_they_can() {
        for (a, b, sum) in
            [("1", "2", "3"), ("1.5", "2", "3.5"), ("9223372036854775807", "1", "9.223372036854775807e18")]
        {
            let (a, b) = (serde_json::from_str(a).unwrap(), serde_json::from_str(b).unwrap());
            let Outcome::Result(result) = add(&a, &b) else { panic!("a sum is a result") };
            assert_eq!(result["structuredContent"]["sum"], serde_json::from_str::<Value>(sum).unwrap());
        }
    }

    #[test]
    fn the_environment_shows_names_and_not_values() {
        let told = environment();
        assert!(told["variables"].as_array().unwrap().iter().any(|name| name == "PATH"));
        let shown: Vec<&String> = told["values"].as_object().unwrap().keys().collect();
        assert!(shown.iter().all(|name| HARMLESS.contains(&name.as_str())));
        assert_eq!(told["pid"], process::id());
    }
}
