//! The few payloads that we look into; all others pass through untouched. Pure.
//!
//! From an [`Ask`] to a method and its params, and from a result or an error back to an outcome. Params are rebuilt
//! member by member: what a caller wrote is only ever a value in them.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::era::{Era, NEWEST_MODERN};
use crate::exchange::{Ask, CallError, Event, ListKind, Members, Outcome, RawJson, TraceContext};
use crate::rpc::{ErrorObject, number};

/// Names of `_meta` that only the protocol itself may use.
const RESERVED: &str = "io.modelcontextprotocol/";
/// Names of `_meta` for the trace that a request belongs to, without a prefix (SEP-414). Older revisions know neither of
/// them, and allow both: their `_meta` is open.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Whom we say we are.
#[derive(Serialize)]
pub(super) struct ClientInfo {
    name: &'static str,
    version: &'static str,
}

pub(super) const CLIENT: ClientInfo = ClientInfo { name: "spawnling", version: env!("CARGO_PKG_VERSION") };

/// The method that asks this.
pub(crate) const fn method(ask: &Ask) -> &'static str {
    match ask {
        Ask::Tool { .. } => "tools/call",
        Ask::Prompt { .. } => "prompts/get",
        Ask::Resource { .. } => "resources/read",
        Ask::List(ListKind::Tools) => "tools/list",
        Ask::List(ListKind::Resources) => "resources/list",
        Ask::List(ListKind::ResourceTemplates) => "resources/templates/list",
        Ask::List(ListKind::Prompts) => "prompts/list",
        Ask::Complete { .. } => "completion/complete",
        Ask::Ping => "ping",
    }
}

/// The method that asks this of a server of this era. The modern one has no `ping`; what it has for everybody, and at no
/// cost, is what a server says of itself.
pub(super) const fn method_in(era: Era, ask: &Ask) -> &'static str {
    match (era, ask) {
        (Era::Modern, Ask::Ping) => "server/discover",
        _ => method(ask),
    }
}

/// What goes into one request beside the question itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extras<'a> {
    /// The page of a list.
    pub(super) cursor: Option<&'a RawJson>,
    /// Asks for progress and log messages under this token.
    pub(super) token: Option<u64>,
    /// The trace that the request belongs to.
    pub(super) trace: Option<&'a TraceContext>,
}

/// The params of a question.
pub(super) fn params(ask: &Ask, era: Era, extras: Extras<'_>) -> Members {
    let mut params: Members = Vec::new();
    let mut put = |name: &str, value: RawJson| params.push((name.to_owned(), value));
    let extra: &[(String, RawJson)] = match ask {
        Ask::Tool { name, arguments, extra } | Ask::Prompt { name, arguments, extra } => {
            put("name", RawJson::of(name));
            if let Some(arguments) = arguments {
                put("arguments", arguments.clone());
            }
            extra
        }
        Ask::Resource { uri, extra } => {
            put("uri", RawJson::of(uri));
            extra
        }
        Ask::Complete { params } => params,
        Ask::List(_) => {
            if let Some(cursor) = extras.cursor {
                put("cursor", cursor.clone());
            }
            &[]
        }
        Ask::Ping => &[],
    };
    for (name, value) in extra {
        if name != "_meta" && !params.iter().any(|(taken, _)| taken == name) {
            params.push((name.clone(), value.clone()));
        }
    }
    let theirs = extra.iter().find(|(name, _)| name == "_meta").map(|(_, meta)| meta);
    if let Some(meta) = meta(era, extras, theirs) {
        params.push(("_meta".to_owned(), meta));
    }
    params
}

/// `_meta`: what the era wants, our progress token, the trace of the call, and what the caller may add.
pub(super) fn meta(era: Era, extras: Extras<'_>, theirs: Option<&RawJson>) -> Option<RawJson> {
    let mut meta: Members = theirs.and_then(|theirs| theirs.members().ok()).unwrap_or_default();
    meta.retain(|(name, _)| !name.starts_with(RESERVED) && name != "progressToken");
    // Of a trace, parent and state belong together: all of it is theirs, or all of it is ours.
    if extras.trace.is_some() {
        meta.retain(|(name, _)| !TRACE.contains(&&**name));
    }
    let mut put = |name: &str, value: RawJson| meta.push((name.to_owned(), value));
    if era == Era::Modern {
        put("io.modelcontextprotocol/protocolVersion", RawJson::of(NEWEST_MODERN));
        put("io.modelcontextprotocol/clientInfo", RawJson::of(&CLIENT));
        // What a caller over plain HTTP can answer: a form, by a further call that carries its answers. A server must
        // not ask for what is not declared, so without this nobody could ever be asked.
        put("io.modelcontextprotocol/clientCapabilities", RawJson::of(&Capabilities::default()));
    }
    if let Some(trace) = extras.trace {
        put(TRACE[0], RawJson::of(&trace.traceparent()));
        if let Some(state) = trace.tracestate() {
            put(TRACE[1], RawJson::of(state));
        }
    }
    if let Some(token) = extras.token {
        put("progressToken", RawJson::of(&token));
        if era == Era::Modern {
            // Without it a modern server must not log at all.
            put("io.modelcontextprotocol/logLevel", RawJson::of("debug"));
        }
    }
    (!meta.is_empty()).then(|| RawJson::object(&meta))
}

#[derive(Default, Serialize)]
struct Capabilities {
    elicitation: Elicitation,
}

/// Without members it means forms.
#[derive(Default, Serialize)]
struct Elicitation {}

/// What of a result decides anything. A member that occurs twice makes it unreadable, on purpose.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peek<'a> {
    #[serde(borrow, default)]
    result_type: Option<Cow<'a, str>>,
    #[serde(default)]
    is_error: Option<bool>,
    #[serde(borrow, default)]
    next_cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

/// A result that cannot be what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(pub(crate) String);

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<RawJson>,
    pub(super) next: Option<RawJson>,
    pub(super) ttl: Option<Duration>,
}

/// A good answer's meaning, for anything but a list.
pub(super) fn outcome(ask: &Ask, result: RawJson) -> Result<Result<Outcome, CallError>, Unreadable> {
    let peek = peek(&result)?;
    let failed = matches!(ask, Ask::Tool { .. }) && peek.is_error == Some(true);
    match peek.result_type.as_deref() {
        // An older server has no such member, and means "complete".
        None | Some("complete") if failed => Ok(Err(CallError::ToolError { result })),
        None | Some("complete") => Ok(Ok(Outcome::Result(result))),
        Some("input_required") => Ok(Err(CallError::InputRequired { result })),
        Some(other) => Err(unknown_type(other)),
    }
}

/// A page of a list.
pub(super) fn page(kind: ListKind, result: &RawJson) -> Result<Page, Unreadable> {
    let peek = peek(result)?;
    if let Some(other) = peek.result_type.filter(|kind| kind != "complete") {
        return Err(unknown_type(&other));
    }
    let members = result.members().map_err(|error| Unreadable(error.to_string()))?;
    let items =
        members.iter().find(|(name, _)| name == kind.member()).and_then(|(_, items)| items.elements());
    let Some(items) = items else {
        return Err(Unreadable(format!("a list without an array {:?} of reasonable length", kind.member())));
    };
    // Kept for long, and the line that it came in need not be.
    let items = items.iter().map(RawJson::detached).collect();
    // An empty string is a cursor too; only its absence, or null, ends the list.
    let next = peek.next_cursor.map(RawJson::of);
    Ok(Page { items, next, ttl: peek.ttl_ms.map(ttl) })
}

fn unknown_type(name: &str) -> Unreadable {
    Unreadable(format!("unknown resultType {name:?}"))
}

/// A hint only: one that is negative, or no number, means "stale at once" and spoils nothing.
fn ttl(milliseconds: &RawValue) -> Duration {
    let seconds = serde_json::from_str::<f64>(milliseconds.get()).map_or(0.0, |ms| ms / 1000.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Whether a result is one that only a modern server gives.
pub(super) fn is_modern(result: &RawJson) -> bool {
    peek(result).is_ok_and(|peek| peek.result_type.is_some())
}

/// `serverInfo` in a modern result's `_meta`.
pub(super) fn server_info(result: &RawJson) -> Option<RawJson> {
    let meta = RawJson::of(peek(result).ok()?.meta?);
    let found =
        meta.members().ok()?.into_iter().find(|(name, _)| name == "io.modelcontextprotocol/serverInfo");
    found.map(|(_, info)| info)
}

fn peek(result: &RawJson) -> Result<Peek<'_>, Unreadable> {
    if !result.as_str().starts_with('{') {
        return Err(Unreadable("a result that is no object".to_owned()));
    }
    result.read().map_err(|error| Unreadable(format!("an unreadable result: {error}")))
}

/// An error's meaning, by what was asked. Sources: the error codes of the protocol; -32002 and free text from older
/// servers, which say -32602 for an unknown tool and for bad arguments alike.
pub(super) fn error(ask: &Ask, error: ErrorObject) -> CallError {
    let ErrorObject { code, message, data } = error;
    let lacks = |kind: &str, name: &str| {
        let (message, name) = (message.to_lowercase(), name.to_lowercase());
        let phrases = [
            format!("unknown {kind}"),
            format!("no such {kind}"),
            format!("{kind} not found"),
            // The TypeScript SDK.
            format!("{kind} {name} not found"),
        ];
        phrases.iter().any(|phrase| message.contains(phrase))
    };
    match (code, ask) {
        (-32601 | -32602, Ask::Tool { name, .. }) if lacks("tool", name) => {
            CallError::UnknownTool { name: name.clone(), meant: None }
        }
        (-32602, Ask::Prompt { name, .. }) if lacks("prompt", name) => {
            CallError::UnknownPrompt { name: name.clone() }
        }
        // What a tool says that runs only as a task (2025-11-25), which nobody here asks for: the server does offer tools.
        (-32601, Ask::Tool { .. }) if message.to_lowercase().contains("task") => {
            CallError::CapabilityRequired { message, data }
        }
        (-32601, _) => CallError::NotOffered { what: method(ask).to_owned() },
        (-32002 | -32602, Ask::Resource { uri, .. }) => CallError::UnknownResource { uri: uri.clone() },
        // A caller has no part in what a list is asked with.
        (-32602, Ask::List(_)) => CallError::ServerError { code, message, data, words: Box::default() },
        (-32602, _) => CallError::InvalidArguments { message, violations: Vec::new() },
        (-32021, _) => CallError::CapabilityRequired { message, data },
        _ => CallError::ServerError { code, message, data, words: Box::default() },
    }
}

/// The answer to a question that is put to servers alone, such as `initialize`. Nobody asks it of us but a program that
/// writes out what it reads, `cat` for example, and from that this very answer comes back to our question.
const REPEATED: (i64, &str) = (-32600, "it repeats what it is told, and is no MCP server");

/// The answer to a server's own question. It declares no capability that would let it ask anything but `ping`; but
/// one that asks all the same, and would wait for ever, gets its answer.
pub(crate) fn answer(method: &str) -> Result<RawJson, (i64, &'static str)> {
    let of_servers = ["tools/", "resources/", "prompts/"];
    match method {
        "ping" => Ok(RawJson::empty_object()),
        "initialize" | "server/discover" => Err(REPEATED),
        _ if of_servers.iter().any(|kind| method.starts_with(kind)) => Err(REPEATED),
        _ => Err((-32601, "Method not found")),
    }
}

/// Whether an error is what we have told its author.
pub(super) fn is_repeated(error: &ErrorObject) -> bool {
    (error.code, &*error.message) == REPEATED
}

/// The token of `notifications/progress`, if it is one of ours.
pub(super) fn progress_token(params: &RawJson) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told<'a> {
        #[serde(borrow)]
        progress_token: &'a RawValue,
    }
    // Whoever writes ids differently does so with these.
    number(&RawJson::of(params.read::<Told<'_>>().ok()?.progress_token))
}

/// The lists that are others by now, as a notification tells.
pub(crate) fn changed_lists(method: &str) -> &'static [ListKind] {
    match method {
        "notifications/tools/list_changed" => &[ListKind::Tools],
        "notifications/resources/list_changed" => &[ListKind::Resources, ListKind::ResourceTemplates],
        "notifications/prompts/list_changed" => &[ListKind::Prompts],
        _ => &[],
    }
}

/// What a notification tells a caller who listens.
pub(crate) fn event(method: &str, params: Option<RawJson>) -> Option<Event> {
    match method {
        // It may wait for a slow reader, and the buffer that it was read into need not.
        "notifications/progress" => params.map(|params| Event::Progress(params.detached())),
        "notifications/message" => params.map(|params| Event::Log(params.detached())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn tool() -> Ask {
        Ask::Tool { name: "add".to_owned(), arguments: Some(raw("{\"a\":1e400}")), extra: Vec::new() }
    }

    fn shown(params: &Members) -> String {
        RawJson::object(params).as_str().to_owned()
    }

    #[test]
    fn a_legacy_request_carries_nothing_but_the_question() {
        let params = params(&tool(), Era::Legacy, Extras::default());
        assert_eq!(shown(&params), r#"{"name":"add","arguments":{"a":1e400}}"#);
    }

    #[test]
    fn a_modern_request_says_who_asks_each_time() {
        let params = params(&tool(), Era::Modern, Extras { token: Some(7), ..Extras::default() });
        let text = shown(&params);
        for part in [
            "protocolVersion\":\"2026-07-28\"",
            "clientCapabilities\":{\"elicitation\":{}}",
            "\"progressToken\":7",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_callers_members_never_replace_ours() {
        let ask = Ask::Tool {
            name: "add".to_owned(),
            arguments: None,
            extra: vec![
                ("name".to_owned(), raw("\"other\"")),
                ("requestState".to_owned(), raw("\"s\"")),
                (
                    "_meta".to_owned(),
                    raw(r#"{"traceparent":"t","progressToken":1,"io.modelcontextprotocol/x":1}"#),
                ),
            ],
        };
        let text = shown(&params(&ask, Era::Legacy, Extras::default()));
        assert_eq!(text, r#"{"name":"add","requestState":"s","_meta":{"traceparent":"t"}}"#);
    }

    #[test]
    fn of_two_traces_that_of_the_request_counts_whole() {
        let read = |parent: &str, state: &str| {
            TraceContext::read([parent.as_bytes()].into_iter(), [state.as_bytes()].into_iter()).unwrap()
        };
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let theirs = raw(r#"{"a":1,"traceparent":"t","tracestate":"s"}"#);
        let shown = |trace: Option<TraceContext>| {
            let extras = Extras { trace: trace.as_ref(), ..Extras::default() };
            super::meta(Era::Legacy, extras, Some(&theirs)).unwrap().as_str().to_owned()
        };
        assert_eq!(shown(Some(read(parent, ""))), format!(r#"{{"a":1,"traceparent":"{parent}"}}"#));
        let quoted = format!(r#"{{"a":1,"traceparent":"{parent}","tracestate":"x=\"\\"}}"#);
        assert_eq!(shown(Some(read(parent, r#"x="\"#))), quoted);
        assert_eq!(shown(None), theirs.as_str());
    }

    #[test]
    fn a_result_means_what_its_type_says() {
        let cases = [
            (r#"{"content":[]}"#, "ok"),
            (r#"{"content":[],"isError":false,"resultType":"complete"}"#, "ok"),
            (r#"{"content":[],"isError":true}"#, "tool error"),
            (r#"{"resultType":"input_required","requestState":"s"}"#, "input"),
            (r#"{"resultType":"task"}"#, "unreadable"),
            (r#"{"isError":true,"isError":false}"#, "unreadable"),
            ("[]", "unreadable"),
        ];
        for (result, expected) in cases {
            let is = match outcome(&tool(), raw(result)) {
                Ok(Ok(_)) => "ok",
                Ok(Err(CallError::ToolError { .. })) => "tool error",
                Ok(Err(CallError::InputRequired { .. })) => "input",
                Ok(Err(_)) => "other",
                Err(_) => "unreadable",
            };
            assert_eq!(is, expected, "{result}");
        }
    }

    #[test]
    fn a_progress_token_is_ours_or_nobodys() {
        for (params, expected) in [
            (r#"{"progressToken":65537,"progress":1}"#, Some(65537)),
            (r#"{"progressToken":"65537"}"#, Some(65537)),
            (r#"{"progressToken":65537.0}"#, Some(65537)),
            (r#"{"progressToken":"mine"}"#, None),
            (r#"{"progressToken":-1}"#, None),
            ("{}", None),
            ("[]", None),
        ] {
            assert_eq!(progress_token(&raw(params)), expected, "{params}");
        }
    }

    #[test]
    fn a_page_ends_the_list_only_without_a_cursor() {
        let page = |text| super::page(ListKind::Tools, &raw(text)).unwrap();
        assert!(page(r#"{"tools":[]}"#).next.is_none());
        assert!(page(r#"{"tools":[],"nextCursor":null}"#).next.is_none());
        let last = page(r#"{"tools":[{"a":1}],"nextCursor":"","ttlMs":-5}"#);
        assert_eq!(last.next.unwrap().as_str(), "\"\"");
        assert_eq!((last.items.len(), last.ttl), (1, Some(Duration::ZERO)));
        assert!(super::page(ListKind::Tools, &raw("{\"prompts\":[]}")).is_err());
    }

    #[test]
    fn an_error_is_read_by_what_was_asked() {
        let error = |ask: &Ask, code, message: &str| {
            super::error(ask, ErrorObject { code, message: message.to_owned(), data: None })
        };
        let resource = Ask::Resource { uri: "u".to_owned(), extra: Vec::new() };
        assert!(matches!(error(&tool(), -32602, "Unknown tool: x"), CallError::UnknownTool { .. }));
        let unknown = "MCP error -32602: Tool add not found";
        assert!(matches!(error(&tool(), -32602, unknown), CallError::UnknownTool { .. }));
        assert!(matches!(error(&tool(), -32602, "bad"), CallError::InvalidArguments { .. }));
        assert!(matches!(error(&resource, -32002, "bad"), CallError::UnknownResource { .. }));
        assert!(matches!(error(&resource, -32602, "bad"), CallError::UnknownResource { .. }));
        assert!(matches!(error(&tool(), -32601, "bad"), CallError::NotOffered { .. }));
        let task = "Tool add requires task augmentation (taskSupport: 'required')";
        assert!(matches!(error(&tool(), -32601, task), CallError::CapabilityRequired { .. }));
        let list = Ask::List(ListKind::Tools);
        assert!(matches!(error(&list, -32602, "cursor"), CallError::ServerError { code: -32602, .. }));
        assert!(matches!(error(&tool(), -32042, "bad"), CallError::ServerError { .. }));
    }
}
