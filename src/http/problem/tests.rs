use std::error::Error;
use std::sync::Arc;

use super::*;
use crate::exchange::{Cause, Exit, Phase};

fn raw(text: &str) -> RawJson {
    RawJson::parse(text.to_owned().into()).unwrap()
}

fn words() -> LastWords {
    LastWords {
        exit: Some(Exit::Signal(9)),
        cause: Some(Cause::Memory),
        stderr_tail: "Traceback".into(),
        noise: vec!["Starting...".into()],
    }
}

fn cause() -> Arc<dyn Error + Send + Sync> {
    Box::<dyn Error + Send + Sync>::from("No such file or directory (os error 2)").into()
}

/// One fault of every kind, with the status and the name of the table.
fn every_fault() -> Vec<(CallError, u16, &'static str)> {
    let name = || "x".to_owned();
    let (phase, message, what) = (Phase::Call, name(), name());
    let result = || raw(r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#);
    let asks = raw(r#"{"resultType":"input_required","inputRequests":{"a":{}},"requestState":"s"}"#);
    vec![
        (
            CallError::Overloaded { retry_after: Duration::from_millis(1_200), waited: None },
            503,
            "overloaded",
        ),
        (
            CallError::QuotaExceeded { principal: name(), share: 1, retry_after: Duration::from_secs(1) },
            429,
            "quota-exceeded",
        ),
        (CallError::ShuttingDown { phase }, 503, "shutting-down"),
        (
            CallError::DeadlineExceeded { phase, after: Duration::from_secs(5), words: words().into() },
            504,
            "deadline-exceeded",
        ),
        (CallError::CallerGone { phase }, 499, "caller-gone"),
        (CallError::SpawnFailed { program: "/opt/x".into(), source: cause() }, 502, "spawn-failed"),
        (CallError::OpenFailed { source: cause(), words: words().into() }, 502, "open-failed"),
        (CallError::NoLongerModern { words: words().into() }, 502, "open-failed"),
        (CallError::ServerCrashed { phase, words: words().into() }, 502, "server-crashed"),
        (
            CallError::ProtocolViolation { phase, what: name(), words: words().into() },
            502,
            "protocol-violation",
        ),
        (
            CallError::ServerError {
                code: -32_000,
                message: name(),
                data: Some(raw("1e400")),
                words: words().into(),
            },
            502,
            "server-error",
        ),
        (CallError::OutputTooLarge { phase, limit: 10, words: words().into() }, 502, "output-too-large"),
        (CallError::UnknownTool { name: name(), meant: None }, 404, "unknown-tool"),
        (CallError::UnknownResource { uri: name() }, 404, "unknown-resource"),
        (CallError::UnknownPrompt { name: name() }, 404, "unknown-prompt"),
        (CallError::NotOffered { what: name() }, 404, "not-offered"),
        (CallError::InvalidArguments { message, violations: Vec::new() }, 422, "invalid-arguments"),
        (CallError::InputRequired { result: asks }, 409, "input-required"),
        (CallError::CapabilityRequired { message: name(), data: None }, 424, "capability-required"),
        (CallError::ToolError { result: result() }, 424, "tool-error"),
        (CallError::Internal { what }, 500, "internal-error"),
    ]
}

fn object(error: CallError, sees: Sees) -> serde_json::Value {
    let text = Problem::of(error, sees).into_object().text();
    // A number beyond any float has no place in a generic value.
    serde_json::from_str(&text.replace("1e400", "\"1e400\""))
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_fault_has_the_status_of_the_table_and_a_page() {
    for (error, status, name) in every_fault() {
        // The record of a call, which knows of no HTTP, goes by the same name.
        assert_eq!(error.name(), name);
        let problem = Problem::of(error, Sees::Everything);
        assert!(Kind::named(name).is_some(), "{name}");
        assert_eq!(problem.kind().facts().name, name);
        assert_eq!(problem.into_response().status(), status, "{name}");
    }
}

#[test]
fn every_detail_says_what_happened_and_what_to_do() {
    for (error, _, name) in every_fault() {
        let remedy = remedy(&error, Sees::Everything);
        let problem = Problem::of(error, Sees::Everything);
        let detail = problem.detail();
        assert!(detail.contains(remedy) && !remedy.ends_with('.'), "{name}: {detail}");
        assert!(detail.starts_with(char::is_uppercase) && detail.ends_with('.'), "{name}: {detail}");
        assert!(!detail.contains(".."), "{name}: {detail}");
    }
}

#[test]
fn the_owner_sees_the_last_words_and_nobody_else_does() {
    for (error, _, name) in every_fault() {
        let text = Problem::of(error, Sees::Little).into_object().text();
        for secret in ["Traceback", "Starting...", "/opt/x", "os error"] {
            assert!(!text.contains(secret), "{name}: {text}");
        }
    }
    let crash = || CallError::ServerCrashed { phase: Phase::Call, words: words().into() };
    let seen = object(crash(), Sees::Everything);
    assert_eq!(seen["stderr_tail"], "Traceback");
    assert_eq!(seen["noise"][0], "Starting...");
    let little = object(crash(), Sees::Little);
    for object in [seen, little] {
        assert_eq!(object["exit"]["signal"], 9);
        assert_eq!(
            (&object["exit"]["name"], &object["exit"]["cause"]),
            (&"SIGKILL".into(), &"memory".into())
        );
        assert_eq!((&object["phase"], &object["fault"]), (&"call".into(), &"server".into()));
        assert!(object["detail"].as_str().unwrap().contains("SIGKILL"));
    }
}

#[test]
fn causes_are_told_once() {
    let error = CallError::SpawnFailed { program: "/opt/x".into(), source: cause() };
    let object = object(error, Sees::Everything);
    let detail = object["detail"].as_str().unwrap();
    assert!(detail.starts_with("Cannot start /opt/x: No such file or directory (os error 2). "), "{detail}");
    assert_eq!(detail.matches("No such file").count(), 1);
}

#[test]
fn a_program_that_could_not_be_started_for_want_of_something_is_not_blamed_for_that() {
    let (eagain, emfile, eacces) = (11, 24, 13);
    let object = |errno| {
        let source = Arc::new(std::io::Error::from_raw_os_error(errno));
        object(CallError::SpawnFailed { program: "/x".into(), source }, Sees::Everything)
    };
    let detail = |errno| object(errno)["detail"].as_str().unwrap().to_owned();
    assert_eq!((&object(eagain)["fault"], &object(eacces)["fault"]), (&"overload".into(), &"server".into()));
    assert!(detail(eagain).contains("`TasksMax=`") && !detail(eagain).contains("`command`"));
    assert!(detail(emfile).contains("`ulimit -n`"));
    assert!(detail(eacces).contains("`command`"));
}

#[test]
fn whoever_may_raise_a_limit_is_told_which_one_was_met() {
    for (cause, limit) in [
        (Cause::Memory, "`limits.memory`"),
        (Cause::Cpu, "`limits.cpu_time`"),
        (Cause::Processes, "`limits.processes`"),
    ] {
        let words = || Box::new(LastWords { cause: Some(cause), ..LastWords::default() });
        for error in [
            CallError::ServerCrashed { phase: Phase::Call, words: words() },
            CallError::OpenFailed { source: self::cause(), words: words() },
        ] {
            let told = |sees| object(error.clone(), sees)["detail"].as_str().unwrap().to_owned();
            let (all, little) = (told(Sees::Everything), told(Sees::Little));
            assert!(all.contains(limit) && !all.contains("by hand"), "{all}");
            assert!(!little.contains(limit) && little.contains("Ask the operator"), "{little}");
        }
    }
}

#[test]
fn a_file_that_the_system_does_not_run_is_told_what_it_lacks() {
    let source = Arc::new(std::io::Error::from_raw_os_error(8));
    let error = CallError::SpawnFailed { program: "/x".into(), source };
    let object = object(error, Sees::Everything);
    assert!(object["detail"].as_str().unwrap().contains("`#!`"), "{object}");
}

#[test]
fn who_is_told_too_much_before_the_server_opened_is_not_to_ask_for_less() {
    let told =
        |phase, sees| object(CallError::OutputTooLarge { phase, limit: 9, words: Box::default() }, sees);
    let early = told(Phase::Open, Sees::Everything);
    let detail = early["detail"].as_str().unwrap();
    assert!(detail.contains("MCP server on stdio") && !detail.contains("sk for less"), "{early}");
    assert_eq!(early["phase"], "open");
    assert!(told(Phase::Open, Sees::Little)["detail"].as_str().unwrap().contains("Ask the operator"));
    assert!(told(Phase::Call, Sees::Little)["detail"].as_str().unwrap().contains("Ask for less"));
}

#[test]
fn a_compressed_body_is_not_said_to_lack_its_content_type() {
    let problem = Problem::from(Refusal::ContentEncoded);
    let detail = problem.detail();
    assert!(detail.contains("`Content-Encoding`") && !detail.contains("`Content-Type"), "{detail}");
    // One title for both.
    assert!(problem.kind().facts().title.contains("plain JSON"));
}

#[test]
fn a_tool_error_carries_the_whole_result_and_quotes_its_text() {
    let result = raw(r#"{"content":[{"type":"text","text":"no page"}],"isError":true,"n":1e400}"#);
    let problem = Problem::of(CallError::ToolError { result: result.clone() }, Sees::Little);
    assert_eq!(problem.words(), "no page");
    assert!(problem.detail().starts_with("The tool reported an error: no page. "));
    assert!(problem.into_object().text().contains(&format!("\"result\":{}", result.as_str())));
}

#[test]
fn a_server_that_asks_back_is_quoted() {
    let result = raw(r#"{"resultType":"input_required","inputRequests":{"a":{}},"requestState":"s"}"#);
    let object = object(CallError::InputRequired { result }, Sees::Little);
    assert_eq!(object["inputRequests"], serde_json::json!({"a": {}}));
    assert_eq!(object["requestState"], "s");
}

#[test]
fn violations_are_listed_with_their_places() {
    let violations = vec![Violation { pointer: "/n".into(), message: "is not a number".into() }];
    let error = CallError::InvalidArguments { message: "one violation".into(), violations };
    let object = object(error, Sees::Little);
    assert_eq!(object["errors"], serde_json::json!([{"pointer": "/n", "message": "is not a number"}]));
    assert!(object["detail"].as_str().unwrap().contains("is not a number at /n"));
}

#[test]
fn server_errors_keep_code_and_data() {
    let error = CallError::ServerError {
        code: -32_000,
        message: "no".into(),
        data: Some(raw("[1]")),
        words: Box::default(),
    };
    let object = object(error, Sees::Little);
    assert_eq!((&object["code"], &object["data"][0]), (&(-32_000).into(), &1.into()));
}

#[test]
fn an_overloaded_gateway_says_when_to_come_back() {
    let response = |time| {
        Problem::of(CallError::Overloaded { retry_after: time, waited: None }, Sees::Little).into_response()
    };
    assert_eq!(response(Duration::from_millis(1_200)).headers()["retry-after"], "2");
    assert_eq!(response(Duration::ZERO).headers()["retry-after"], "1");
}

#[test]
fn a_refused_method_comes_with_those_that_are_allowed() {
    let refusal = Refusal::MethodNotAllowed { method: "PUT".into(), allow: "GET, HEAD" };
    let response = Problem::from(refusal).into_response();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, HEAD");
}

#[test]
fn a_missing_content_type_is_told_which_header_to_add() {
    let problem = Problem::from(Refusal::UnsupportedMediaType { got: None });
    assert!(problem.detail().contains("`Content-Type: application/json`"), "{}", problem.detail());
}

#[test]
fn a_refused_name_is_told_which_setting_lets_it_in() {
    let problem = Problem::from(Refusal::ForeignHost { host: "tools.example".into() });
    assert!(problem.detail().contains("`hosts = [\"name\"]` in spawnling.toml"), "{}", problem.detail());
}

#[test]
fn an_unknown_server_is_told_which_ones_there_are() {
    let known = vec!["time".into(), "browser".into()];
    let problem = Problem::from(Refusal::UnknownServer { name: "tiem".into(), known });
    assert!(problem.detail().contains("time, browser"), "{}", problem.detail());
}

#[test]
fn what_to_do_when_time_ran_out_depends_on_the_phase() {
    for (phase, advice, not) in [
        (Phase::Queue, "`limits.concurrent`", "`open_deadline`"),
        (Phase::Open, "`open_deadline`", "`limits.concurrent`"),
        (Phase::Call, "`Spawnling-Timeout`", "`open_deadline`"),
    ] {
        let error =
            CallError::DeadlineExceeded { phase, after: Duration::from_secs(5), words: words().into() };
        let problem = Problem::of(error, Sees::Everything);
        assert!(problem.detail().contains(advice), "{}", problem.detail());
        assert!(!problem.detail().contains(not), "{}", problem.detail());
    }
}

#[test]
fn nobody_is_sent_to_what_is_not_there() {
    for (error, _, name) in every_fault() {
        let object = object(error, Sees::Little);
        for member in ["stderr_tail", "noise"] {
            assert!(!object["detail"].as_str().unwrap().contains(member), "{name}: {object}");
        }
    }
    for (tail, noise) in
        [("", vec![]), ("why", vec![]), ("", vec!["Hi".to_owned()]), ("why", vec!["Hi".to_owned()])]
    {
        let words = || {
            Box::new(LastWords { stderr_tail: tail.to_owned(), noise: noise.clone(), ..LastWords::default() })
        };
        let (phase, what) = (Phase::Call, "x".to_owned());
        for error in [
            CallError::OpenFailed { source: cause(), words: words() },
            CallError::ServerCrashed { phase, words: words() },
            CallError::ProtocolViolation { phase, what, words: words() },
        ] {
            let object = object(error, Sees::Everything);
            let detail = object["detail"].as_str().unwrap();
            let named = |member: &str| detail.contains(&format!("`{member}`"));
            assert!(!named("stderr_tail") || object["stderr_tail"].is_string(), "{object}");
            assert!(!named("noise") || object["noise"].is_array(), "{object}");
            assert_eq!(
                named("stderr_tail") || named("noise"),
                !tail.is_empty() || !noise.is_empty(),
                "{object}"
            );
            assert_eq!(detail.contains("by hand"), tail.is_empty() && noise.is_empty(), "{object}");
        }
    }
}
