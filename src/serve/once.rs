//! What the command line asks once, without HTTP: one call, one list.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::progress::{Progress, Screen};
use super::signals::Signals;
use super::{Rooms, ServeError, check, hint, receipt, runtime, tools};
use crate::auth::Mask;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::exchange::fault::{Violation, chain};
use crate::exchange::{
    Answer, Ask, CallError, CallId, Caller, Credentials, Events, LastWords, ListKind, Listed, OnError,
    Outcome, Principal, RawJson, Reply, Request,
};

/// A call, and what is learned for whoever took a wrong tool: no command asks more often.
const RECEIPTS: usize = 8;

/// So many lines of a server's stderr are shown: a traceback fits, a flood does not.
const LAST_LINES: usize = 40;

/// The configuration, and what none may tell of it.
pub(crate) type Given<'a> = (&'a Config, &'a Mask);

/// Why a command failed, in words for a person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OnceError {
    /// The rooms could not be built.
    #[error(transparent)]
    Setup(#[from] ServeError),
    /// No such server.
    #[error("there is no server {name:?}; there are: {}", known.join(", "))]
    UnknownServer { name: String, known: Vec<String> },
    /// The call failed.
    #[error("{0}")]
    Failed(String),
    /// The tool ran, and reported an error.
    #[error("{0}")]
    Tool(String),
    /// Time ran out.
    #[error("{0}")]
    Late(String),
    /// The result cannot be shown.
    #[error("cannot write to stdout")]
    Stdout(#[from] io::Error),
}

/// One call of one tool.
pub(crate) struct OneCall {
    pub(crate) server: String,
    pub(crate) tool: String,
    pub(crate) arguments: RawJson,
    /// Members of these, each as it was typed, that are strings if the tool wants strings there.
    pub(crate) loose: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
    /// Whether what is known of the server's end is shown too, on stderr.
    pub(crate) receipt: bool,
    pub(crate) progress: Progress,
    /// The command that lists the tools of the same server, for whoever took a wrong one.
    pub(crate) list: String,
}

/// Calls a tool and prints its result: its text if it has nothing else, the whole JSON otherwise.
pub(crate) fn call(given: Given<'_>, call: &OneCall) -> Result<(), OnceError> {
    with_rooms(given, async |rooms| {
        let catalog = find(rooms, &call.server)?;
        let mut answer = put(catalog, call, call.arguments.clone()).await;
        if let Some(CallError::InvalidArguments { violations, .. }) = &answer.failure
            && let Some(arguments) = as_the_tool_has_it(catalog, call, violations).await
        {
            // It was we who refused them: no tool has been asked yet.
            answer = put(catalog, call, arguments).await;
        }
        let id = answer.id;
        let done = match (answer.failure.take(), answer.steps.pop()) {
            (None, Some(Ok(Outcome::Result(result)))) => {
                Ok(writeln!(io::stdout(), "{}", show_result(&result))?)
            }
            (Some(error), _) | (None, Some(Err(error))) => {
                let next = next_step(catalog, call, &error).await;
                let told = explain(&error) + &advise(rooms, &call.server, &error) + &next;
                Err(match error {
                    CallError::ToolError { .. } => OnceError::Tool(told),
                    CallError::DeadlineExceeded { .. } => OnceError::Late(told),
                    _ => OnceError::Failed(told),
                })
            }
            (None, _) => Err(OnceError::Failed("the call has no result".to_owned())),
        };
        if call.receipt
            && let Some(record) = rooms.shared.calls.receipts.find_ended(id, &Principal::anonymous()).await
        {
            // Whoever closed our stderr does not want to know.
            let _ = writeln!(io::stderr(), "{}", receipt::show(&record));
        }
        done
    })
}

/// Makes the call with these arguments, and shows how it goes on.
async fn put(catalog: &Catalog, call: &OneCall, arguments: RawJson) -> Answer {
    let budget = call.timeout.map_or(catalog.deadline(), |wanted| wanted.min(catalog.deadline()));
    let ask = Ask::Tool { name: call.tool.clone(), arguments: Some(arguments), extra: Vec::new() };
    let (screen, events) = (Screen::open(call.progress), Events::default());
    let request = Request {
        id: new_id(),
        principal: Principal::anonymous(),
        steps: vec![ask.into()],
        on_error: OnError::Stop,
        deadline: Deadline::within(budget),
        events: screen.is_some().then(|| events.clone()),
        reply: Reply::WhenKnown,
        credentials: Credentials::default(),
        trace: None,
    };
    match screen {
        Some(screen) => screen.during(&events, catalog.call(request)).await,
        None => catalog.call(request).await,
    }
}

/// The arguments once more, strings where the tool's schema has strings; `None`: they would be the same.
async fn as_the_tool_has_it(catalog: &Catalog, call: &OneCall, violations: &[Violation]) -> Option<RawJson> {
    let wrong = |key: &str| violations.iter().any(|violation| hint::points_at(violation, key));
    let loose: Vec<_> = call.loose.iter().filter(|(key, _)| wrong(key)).collect();
    if loose.is_empty() {
        return None;
    }
    let listed = listed(catalog).await?;
    let mut members = call.arguments.members().ok()?;
    let mut changed = false;
    for (name, value) in &mut members {
        if let Some((_, text)) = loose.iter().find(|(key, _)| key == name)
            && tools::takes_string(&listed.items, &call.tool, name)
        {
            (*value, changed) = (RawJson::of(text), true);
        }
    }
    changed.then(|| RawJson::object(&members))
}

/// The tools that there are. Known by now, as a rule: no call is refused without them.
async fn listed(catalog: &Catalog) -> Option<Arc<Listed>> {
    match catalog.list(whoever(catalog), ListKind::Tools).await.steps.into_iter().next()? {
        Ok(Outcome::Listed(listed)) => Some(listed),
        _ => None,
    }
}

/// What whoever made this call could do next; empty: that depends.
async fn next_step(catalog: &Catalog, call: &OneCall, error: &CallError) -> String {
    match error {
        CallError::UnknownTool { name, .. } => {
            let listed = listed(catalog).await;
            hint::other_tool(&call.list, name, listed.as_ref().map_or(&[], |listed| &listed.items))
        }
        CallError::InvalidArguments { violations, .. } => {
            let strings = hint::as_strings(&call.arguments, violations);
            if strings.is_empty() { format!("\n`{}` shows what it takes", call.list) } else { strings }
        }
        _ => String::new(),
    }
}

/// Lists the tools of a server: a line each, or the list as the server gave it.
pub(crate) fn tools(given: Given<'_>, server: &str, json: bool) -> Result<(), OnceError> {
    with_rooms(given, async |rooms| {
        let catalog = find(rooms, server)?;
        let answer = catalog.list(whoever(catalog), ListKind::Tools).await;
        let listed = match (answer.failure, answer.steps.into_iter().next()) {
            (None, Some(Ok(Outcome::Listed(listed)))) => listed,
            (Some(error), _) | (None, Some(Err(error))) => {
                return Err(OnceError::Failed(explain(&error) + &advise(rooms, server, &error)));
            }
            (None, _) => return Err(OnceError::Failed("the server gave no list".to_owned())),
        };
        let mut out = io::stdout().lock();
        if json {
            let items: Vec<&str> = listed.items.iter().map(RawJson::as_str).collect();
            writeln!(out, "{{\"tools\":[{}]}}", items.join(","))?;
        } else {
            listed.items.iter().try_for_each(|item| writeln!(out, "{}", tools::show(item)))?;
        }
        Ok(())
    })
}

/// Does `work` with every room in place, and ends with nothing left, interrupted or not.
pub(super) fn with_rooms(
    (config, mask): Given<'_>,
    work: impl AsyncFnOnce(&Rooms) -> Result<(), OnceError>,
) -> Result<(), OnceError> {
    runtime()?.block_on(async {
        let mut signals = Signals::new(false).map_err(ServeError::Runtime)?;
        let rooms = Rooms::build(config, RECEIPTS, None, mask).await?;
        // What would be learned beside the call serves later ones, and here there is one only.
        rooms.catalogs().iter().for_each(|catalog| catalog.calls().by_call_only());
        let done = tokio::select! {
            done = work(&rooms) => done,
            () = signals.stop() => Err(OnceError::Failed("interrupted".to_owned())),
        };
        // What is still alive has nobody waiting for it: its ladder is all the grace that it needs.
        let drained = rooms.drain(config.drain, signals.stop()).await;
        rooms.leave().await;
        done.and(drained.map_err(|_| ServeError::StillAlive.into()))
    })
}

/// The server of that name; one that is refused says why.
pub(super) fn find<'a>(rooms: &'a Rooms, name: &str) -> Result<&'a Arc<Catalog>, OnceError> {
    if let Some(refused) = rooms.refused.iter().find(|refused| refused.server == name) {
        return Err(OnceError::Failed(format!("{name}: {}", chain(refused))));
    }
    let known = || {
        let served = rooms.servers.iter().map(|(server, _)| &server.name);
        served.chain(rooms.refused.iter().map(|refused| &refused.server)).cloned().collect()
    };
    rooms.find(name).ok_or_else(|| OnceError::UnknownServer { name: name.to_owned(), known: known() })
}

/// What to try, of this server.
fn advise(rooms: &Rooms, name: &str, error: &CallError) -> String {
    let server = rooms.servers.iter().find(|(server, _)| server.name == name);
    server.map(|(server, _)| check::advise(server, error)).unwrap_or_default()
}

/// Whoever typed the command, who has all the time that there is.
pub(super) fn whoever(catalog: &Catalog) -> Caller {
    let (principal, deadline) = (Principal::anonymous(), Deadline::within(catalog.deadline()));
    let (reply, credentials) = (Reply::WhenKnown, Credentials::default());
    Caller { id: new_id(), principal, deadline, reply, credentials, trace: None }
}

fn new_id() -> CallId {
    // Nobody else will ever ask for this call: if the system has no random bits, a constant does.
    CallId::from_bits(getrandom::u64().map_or(0, u128::from))
}

/// An error, its causes, and what the server left behind, for a person.
pub(super) fn explain(error: &CallError) -> String {
    let mut text = chain(error);
    match error {
        CallError::ToolError { result } => {
            let _ = write!(text, ":\n{}", show_result(result));
        }
        CallError::InvalidArguments { violations, .. } => {
            // One alone is the message already.
            for Violation { pointer, message } in violations.iter().filter(|_| violations.len() > 1) {
                let place = if pointer.is_empty() { "the arguments" } else { pointer };
                let _ = write!(text, "\n  {place}: {message}");
            }
        }
        _ => {}
    }
    text + &error.words().map(show_words).unwrap_or_default()
}

fn show_words(words: &LastWords) -> String {
    let mut text = words.exit.map(|exit| format!("\nit {}", exit.words())).unwrap_or_default();
    if let Some(cause) = words.cause {
        let _ = write!(text, "\nit {}", cause.words());
    }
    for line in &words.noise {
        let _ = write!(text, "\nit wrote to stdout what is no message: {line}");
    }
    if !words.stderr_tail.is_empty() {
        let (left_out, tail) = last_lines(words.stderr_tail.trim_end());
        let left_out = if left_out == 0 { String::new() } else { format!(" ({left_out} lines before)") };
        let _ = write!(text, "\nits stderr ended with{left_out}:\n{tail}");
    }
    text
}

/// As much of the end of a text as a person will look at, and how many lines stand before that.
fn last_lines(text: &str) -> (usize, &str) {
    match text.rmatch_indices('\n').nth(LAST_LINES - 1) {
        Some((before, _)) => (text[..before].lines().count(), &text[before + 1..]),
        None => (0, text),
    }
}

/// The text of a result that is nothing but text; everything else as it is.
fn show_result(result: &RawJson) -> String {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        content: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Text {
        r#type: String,
        text: String,
    }
    let text =
        |item: &RawValue| serde_json::from_str(item.get()).ok().filter(|text: &Text| text.r#type == "text");
    let texts =
        result.read::<Whole<'_>>().ok().and_then(|whole| whole.content.into_iter().map(text).collect());
    match texts {
        Some::<Vec<Text>>(texts) if !texts.is_empty() => {
            texts.into_iter().map(|text| text.text).collect::<Vec<_>>().join("\n")
        }
        _ => result.as_str().to_owned(),
    }
}
