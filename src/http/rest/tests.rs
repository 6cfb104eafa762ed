use std::time::Duration;

use super::*;
use crate::exchange::{Moment, Receipt, Record, Rung, Stage, Times, Told};

fn raw(text: &str) -> RawJson {
    RawJson::parse(text.to_owned().into()).unwrap()
}

fn answer(steps: Vec<Result<Outcome, CallError>>, failure: Option<CallError>) -> Answer {
    let id = CallId::from_bits(1);
    Answer { steps, failure, ..Answer::begun(id, Times::default()) }
}

fn result(text: &str) -> Outcome {
    Outcome::Result(raw(text))
}

fn tool_error() -> CallError {
    CallError::ToolError { result: raw(r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#) }
}

fn crash() -> CallError {
    CallError::ServerCrashed { phase: Phase::Call, words: Box::default() }
}

fn tell(on_error: OnError, answer: Answer) -> (u16, serde_json::Value) {
    let shape = Shape::Many {
        lists: vec![None, Some(ListKind::Prompts), None],
        on_error,
        who: Principal::anonymous(),
    };
    let (status, text) = match outcome(&shape, answer, Sees::Little) {
        Ok(pieces) => (200, pieces.text()),
        Err(problem) => (problem.kind().facts().status.as_u16(), problem.into_object().text()),
    };
    (status, serde_json::from_str(&text).unwrap())
}

#[test]
fn a_result_passes_byte_for_byte() {
    let text = r#"{"content":[],"n":1e400,"s":"\ud800","z":1,"z":2}"#;
    let told =
        outcome(&Shape::One(text::of_tool), answer(vec![Ok(result(text))], None), Sees::Little).unwrap();
    assert_eq!(told.text(), text);
}

#[test]
fn the_outcomes_of_steps_are_told_in_order() {
    let listed = Outcome::Listed(Arc::new(Listed { items: vec![raw(r#"{"name":"p"}"#)], ttl: None }));
    let told =
        tell(OnError::Stop, answer(vec![Ok(result(r#"{"a":1}"#)), Ok(listed), Ok(result("{}"))], None));
    let expected = serde_json::json!({"steps": [
        {"result": {"a": 1}}, {"result": {"prompts": [{"name": "p"}]}}, {"result": {}}
    ]});
    assert_eq!(told, (200, expected));
}

#[test]
fn a_failed_step_fails_the_whole_and_keeps_the_outcomes_so_far() {
    let (status, problem) = tell(OnError::Stop, answer(vec![Ok(result("{}")), Err(tool_error())], None));
    assert_eq!((status, &problem["type"]), (424, &"/problems/step-failed".into()));
    assert_eq!(problem["failed_step"], 1);
    assert_eq!(problem["steps"][0]["result"], serde_json::json!({}));
    assert_eq!(problem["steps"][1]["problem"]["type"], "/problems/tool-error");
    assert!(problem["detail"].as_str().unwrap().starts_with("Step 1 failed: no. "), "{problem}");
}

#[test]
fn with_continue_the_problems_stand_in_place() {
    let steps = vec![Ok(result("{}")), Err(tool_error()), Ok(result("{}"))];
    let (status, told) = tell(OnError::Continue, answer(steps, None));
    assert_eq!(status, 200);
    assert_eq!(told["steps"][1]["problem"]["status"], 424);
    assert_eq!(told["steps"][2]["result"], serde_json::json!({}));
}

#[test]
fn what_ends_the_whole_call_is_its_own_problem_with_the_steps_so_far() {
    for on_error in [OnError::Stop, OnError::Continue] {
        for ended in [
            answer(vec![Ok(result("{}"))], Some(crash())),
            answer(vec![Ok(result("{}")), Err(crash())], None),
        ] {
            let (status, problem) = tell(on_error, ended);
            assert_eq!((status, &problem["type"]), (502, &"/problems/server-crashed".into()));
            assert_eq!(problem["steps"], serde_json::json!([{"result": {}}]));
            assert_eq!(problem["failed_step"], 1);
        }
    }
}

#[test]
fn a_step_that_asks_back_can_be_continued() {
    let asks = || CallError::InputRequired { result: raw(r#"{"inputRequests":{},"requestState":"s"}"#) };
    let (status, problem) = tell(OnError::Stop, answer(vec![Err(asks())], None));
    assert_eq!((status, &problem["requestState"]), (409, &"s".into()));
    let (status, told) = tell(OnError::Continue, answer(vec![Err(asks())], None));
    assert_eq!((status, &told["steps"][0]["problem"]["requestState"]), (200, &"s".into()));
}

#[test]
fn an_answer_without_outcome_is_our_defect() {
    let problem = outcome(&Shape::One(text::of_tool), answer(Vec::new(), None), Sees::Little).unwrap_err();
    assert_eq!(problem.kind().facts().status, 500);
}

#[test]
fn every_answer_to_a_call_is_stamped_good_or_bad() {
    let process = Receipt {
        pid: 7,
        exit: None,
        cause: None,
        rung: Rung::Eof,
        killed: 0,
        cpu: None,
        peak_memory: None,
        containment: "group",
        end: Duration::ZERO,
    };
    let told = Told { failure: None, times: Times::default() };
    let record = Record {
        id: CallId::from_bits(1),
        principal: Principal::anonymous(),
        server: "demo".into(),
        trace: None,
        began: Moment::since_epoch(Duration::ZERO),
        stage: Stage::Ended { told, lasted: Duration::ZERO, process: Some(process.into()) },
    };
    let receipt = Some(Box::new(record));
    let stamp = Stamp::of(&mut Answer { receipt, ..answer(Vec::new(), None) });
    let good = respond(Ok(Pieces::of("x")), stamp.clone(), Media::Json).unwrap();
    let problem = respond(Err(Problem::of(crash(), Sees::Little)), stamp, Media::Json).err().unwrap();
    for response in [good, problem.into_response()] {
        assert_eq!(response.headers()["spawnling-call-id"], "00000000000000000000000000000001");
        assert_eq!(
            response.headers()["spawnling-receipt"],
            "pid=7, rung=eof, killed=0, containment=group, end-ms=0.000"
        );
    }
}

#[test]
fn two_calls_never_have_the_same_name() {
    assert_ne!(new_id().unwrap(), new_id().unwrap());
}

#[test]
fn a_server_is_described_with_what_is_known_of_it() {
    let summary = Summary {
        name: "time".into(),
        about: crate::exchange::About {
            last_start: crate::exchange::LastStart::Unknown,
            strategy: "fresh",
            era: Some("legacy"),
            containment: "group",
            standbys: None,
            instances: None,
        },
        protocol: "auto",
        limits: crate::catalog::LimitsInForce {
            concurrent: 8,
            queue: 64,
            queue_timeout: Duration::from_secs(10),
            deadline: Duration::from_mins(1),
            open_deadline: Duration::from_secs(30),
            output: 1 << 20,
            stderr: 1 << 16,
        },
        bounds: std::sync::Arc::default(),
        introduction: None,
    };
    let known = Introduction {
        protocol_version: "2025-11-25".into(),
        server_info: Some(raw(r#"{"name":"t","version":"1"}"#)),
        capabilities: None,
        instructions: Some("Ask.".into()),
    };
    let told: serde_json::Value =
        serde_json::from_str(&server_object(summary, Some(Arc::new(known))).text()).unwrap();
    assert_eq!(told["limits"]["queue_timeout_ms"], 10_000);
    assert_eq!(told["serverInfo"]["name"], "t");
    assert_eq!((&told["era"], &told["instructions"]), (&"legacy".into(), &"Ask.".into()));
    assert!(told.get("capabilities").is_none());
}
