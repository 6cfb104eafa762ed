//! What is asked in an opened session, and what is made of the answers.

use super::*;

const DONE: &str = r#""result":{"content":[],"resultType":"complete"}"#;

/// What became of a question, in short.
fn shown(asked: Result<Outcome, AskError>) -> String {
    match asked {
        Ok(Outcome::Result(result)) => result.as_str().to_owned(),
        Ok(Outcome::Listed(listed)) => {
            let items: Vec<&str> = listed.items.iter().map(RawJson::as_str).collect();
            format!("[{}] {:?}", items.join(","), listed.ttl)
        }
        Err(AskError::Answered(CallError::ToolError { .. })) => "tool error".to_owned(),
        Err(AskError::Answered(CallError::InputRequired { result })) => format!("input: {}", result.as_str()),
        Err(error) => error.to_string(),
    }
}

async fn ask_once(stage: &mut Stage, session: &mut Session, answer: &str) -> String {
    let ask = tool();
    let asked = stage.play(session.ask(&ask, None, Telling::Unwanted, 1000), &[("tools/call", answer)]).await;
    shown(asked)
}

#[tokio::test(start_paused = true)]
async fn dropping_a_question_cancels_it_by_its_id() {
    for (mut stage, mut session) in [Stage::legacy().await, Stage::modern().await] {
        let ask = tool();
        let asking = tokio::time::timeout(LONG, session.ask(&ask, None, Telling::Unwanted, 1000));
        assert!(stage.play(asking, &[("tools/call", "")]).await.is_err());
        let heard = stage.heard().await;
        let [.., asked, cancelled] = heard else { panic!("{heard:?}") };
        assert_eq!(asked["method"], "tools/call");
        assert_eq!(cancelled["method"], "notifications/cancelled");
        assert_eq!(cancelled["params"], json!({"requestId": asked["id"]}));
        assert!(cancelled.get("id").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_discovery_cancels_it_too() {
    let (mut stage, mut session) = Stage::modern().await;
    let asking = async { tokio::time::timeout(LONG, session.introduce()).await.is_err() };
    assert!(stage.play(asking, &[("server/discover", "")]).await);
    assert_eq!(stage.methods().await, ["server/discover", "notifications/cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn an_answered_question_is_never_cancelled() {
    let (mut stage, mut session) = Stage::legacy().await;
    for answer in [DONE, NO_METHOD, r#""neither":1"#] {
        ask_once(&mut stage, &mut session, answer).await;
    }
    assert!(!stage.methods().await.contains(&"notifications/cancelled"));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_none_by_the_book_is_told_with_what_it_says() {
    let (mut stage, mut session) = Stage::legacy().await;
    let asked = ask_once(&mut stage, &mut session, r#""error":{"message":"the disk is full"}"#).await;
    let why = "its `error` has no integer `code`, or no `message`; it says: the disk is full";
    assert_eq!(asked, format!("an answer that is not readable: {why}"));
    let refusal = [("initialize", r#""error":"no seat is free""#)];
    let opened = Stage::new().open(Protocol::Legacy, None, &refusal).await.unwrap_err().to_string();
    assert!(opened.contains("not readable") && opened.ends_with("it says: no seat is free"), "{opened}");
}

#[tokio::test(start_paused = true)]
async fn a_list_is_all_its_pages_and_an_empty_cursor_is_one() {
    let (mut stage, mut session) = Stage::legacy().await;
    let script = [
        ("tools/list", r#""result":{"tools":[1,2],"nextCursor":"","ttlMs":9000}"#),
        ("tools/list", r#""result":{"tools":[],"nextCursor":{"a":1.0},"ttlMs":50}"#),
        ("tools/list", r#""result":{"tools":[3],"nextCursor":null,"ttlMs":700}"#),
    ];
    let asked = stage.play(session.ask(&TOOLS, None, Telling::Wanted, 1000), &script).await;
    assert_eq!(shown(asked), "[1,2,3] Some(50ms)");
    let heard = stage.heard().await;
    let params: Vec<String> = heard[2..].iter().map(|asked| asked["params"].to_string()).collect();
    assert_eq!(params, ["null", r#"{"cursor":""}"#, r#"{"cursor":{"a":1.0}}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_is_given_up() {
    let page = |cursor: &str| format!(r#""result":{{"tools":[1],"nextCursor":{cursor}}}"#);
    let (one, two) = (page("\"one\""), page("\"two\""));
    let script = [("tools/list", &*one), ("tools/list", &two), ("tools/list", &one)];
    let (mut stage, mut session) = Stage::legacy().await;
    let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1000), &script).await;
    assert_eq!(shown(asked), r#"the cursor "one" leads back to itself"#);

    let pages: Vec<String> = (0..=MOST_PAGES).map(|number| page(&number.to_string())).collect();
    let script: Vec<(&str, &str)> = pages.iter().map(|page| ("tools/list", page.as_str())).collect();
    let (mut stage, mut session) = Stage::legacy().await;
    let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1 << 20), &script).await;
    assert_eq!(shown(asked), "a list of more than 1000 pages");
    let asked = stage.methods().await.into_iter().filter(|method| *method == "tools/list").count();
    assert_eq!(asked, MOST_PAGES);
}

#[tokio::test(start_paused = true)]
async fn all_pages_together_have_so_many_items_at_most() {
    let items = "1,".repeat(MOST_ITEMS - 1) + "1";
    let first = format!(r#""result":{{"tools":[{items}],"nextCursor":"2"}}"#);
    for (second, expected) in [("[]", None), ("[1]", Some("a list of more than 100000 items"))] {
        let second = format!(r#""result":{{"tools":{second}}}"#);
        let (mut stage, mut session) = Stage::legacy().await;
        let script = [("tools/list", &*first), ("tools/list", &second)];
        let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1 << 20), &script).await;
        assert_eq!(asked.err().map(|error| error.to_string()).as_deref(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn all_pages_together_stay_below_the_limit() {
    let page = |cursor: u8| format!(r#""result":{{"tools":["{}"],"nextCursor":{cursor}}}"#, "x".repeat(300));
    let pages = [page(1), page(2), page(3)];
    let script: Vec<(&str, &str)> = pages.iter().map(|page| ("tools/list", page.as_str())).collect();
    let (mut stage, mut session) = Stage::legacy().await;
    let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 800), &script).await;
    assert!(matches!(asked, Err(AskError::TooLarge { limit: 800 })), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_an_unknown_kind_of_result_is_no_list() {
    let (mut stage, mut session) = Stage::modern().await;
    let script = [("tools/list", r#""result":{"tools":[1],"resultType":"task"}"#)];
    let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1000), &script).await;
    assert_eq!(shown(asked), r#"unknown resultType "task""#);
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_cannot_be_read_spoils_no_answer() {
    let (mut stage, mut session) = Stage::modern().await;
    for (hint, ttl) in
        [("1500.0", "Some(1.5s)"), ("-1", "Some(0ns)"), ("1e400", "Some(0ns)"), ("\"x\"", "Some(0ns)")]
    {
        let answer = format!(r#""result":{{"resultType":"complete","tools":[],"ttlMs":{hint}}}"#);
        let asked =
            stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1000), &[("tools/list", &answer)]).await;
        assert_eq!(shown(asked), format!("[] {ttl}"), "{hint}");
    }
    let answer = r#""result":{"protocolVersion":"2025-11-25","instructions":"half a \ud83d pair"}"#;
    let opened = Stage::new().open(Protocol::Auto, None, &[("initialize", answer)]).await.unwrap();
    assert_eq!(opened.introduction().instructions, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_tells_of_the_era_unless_servers_of_both_give_it() {
    use Standing::{Confirmed, Contradicted, Questioned};
    for (answer, standing) in [
        (DONE, Confirmed),
        (r#""result":{"resultType":"input_required","requestState":"s"}"#, Confirmed),
        (r#""error":{"code":-32021,"message":"elicitation"}"#, Confirmed),
        (NO_METHOD, Questioned),
        (r#""error":{"code":-32602,"message":"Invalid request parameters"}"#, Questioned),
        (r#""error":{"code":-32600,"message":"initialize first"}"#, Questioned),
        (r#""error":{"code":-32000,"message":"Server not initialized"}"#, Questioned),
        (r#""result":{"content":[]}"#, Contradicted),
        (r#""error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#, Contradicted),
        (r#""neither":1"#, Contradicted),
    ] {
        let (mut stage, mut session) = Stage::modern().await;
        assert!(session.unproven());
        ask_once(&mut stage, &mut session, answer).await;
        assert_eq!(session.standing, standing, "{answer}");
        ask_once(&mut stage, &mut session, DONE).await;
        let settled = if standing == Questioned { Confirmed } else { standing };
        assert_eq!(session.standing, settled, "{answer}");
        assert_eq!(stage.methods().await, ["tools/call", "tools/call"], "nothing is sent again");
        let (mut stage, mut session) = Stage::legacy().await;
        ask_once(&mut stage, &mut session, answer).await;
        assert_eq!(session.standing, Confirmed, "the handshake has told: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_the_era_to_a_discovery() {
    let found = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}"#;
    let of_the_future = r#""error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#;
    let only_legacy = r#""result":{"supportedVersions":["2025-11-25"],"capabilities":{}}"#;
    let wants_more = r#""error":{"code":-32021,"message":"roots"}"#;
    for (answer, modern) in [
        (found, Some(true)),
        (wants_more, Some(true)),
        (of_the_future, Some(false)),
        (only_legacy, Some(false)),
        (NO_METHOD, Some(false)),
        ("bye", None),
    ] {
        let (mut stage, mut session) = Stage::modern().await;
        ask_once(&mut stage, &mut session, NO_METHOD).await;
        assert!(session.questioned());
        let found = stage.play(session.is_modern_after_all(), &[("server/discover", answer)]).await;
        assert_eq!(found, modern, "{answer}");
        assert_eq!((session.questioned(), session.contradicted()), (modern.is_none(), modern == Some(false)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_listens_gets_a_token_of_its_own_for_each_question() {
    let ask = tool();
    for (era, (mut stage, mut session)) in
        [("legacy", Stage::legacy().await), ("modern", Stage::modern().await)]
    {
        for telling in [Telling::Wanted, Telling::Unwanted, Telling::Wanted] {
            stage.play(session.ask(&ask, None, telling, 1000), &[("tools/call", DONE)]).await.unwrap();
        }
        let heard = stage.heard().await;
        let calls = heard.iter().filter(|message| message["method"] == "tools/call");
        let metas: Vec<&Value> = calls.map(|call| &call["params"]["_meta"]).collect();
        let tokens: Vec<&Value> = metas.iter().map(|meta| &meta["progressToken"]).collect();
        assert_eq!(tokens, [&json!(1), &Value::Null, &json!(2)], "{era}");
        let level = if era == "modern" { json!("debug") } else { Value::Null };
        let levels: Vec<&Value> =
            metas.iter().map(|meta| &meta["io.modelcontextprotocol/logLevel"]).collect();
        assert_eq!(levels, [&level, &Value::Null, &level], "{era}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_taken_for_what_it_is_in_either_era() {
    let input = r#"{"resultType":"input_required","inputRequests":{},"requestState":"s"}"#;
    for (answer, expected) in [
        (r#"{"content":[],"new":1e400}"#, r#"{"content":[],"new":1e400}"#.to_owned()),
        (r#"{"content":[],"isError":true}"#, "tool error".to_owned()),
        (r#"{"content":[],"isError":true,"resultType":"complete"}"#, "tool error".to_owned()),
        (input, format!("input: {input}")),
        (r#"{"resultType":"task","taskId":"1"}"#, r#"unknown resultType "task""#.to_owned()),
        ("7", "a result that is no object".to_owned()),
    ] {
        for (mut stage, mut session) in [Stage::legacy().await, Stage::modern().await] {
            let answer = format!("\"result\":{answer}");
            assert_eq!(ask_once(&mut stage, &mut session, &answer).await, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_nothing_and_a_server_that_leaves_are_told_apart() {
    let (mut stage, mut session) = Stage::legacy().await;
    let both = r#""result":{},"error":{"code":1,"message":"m"}"#;
    let said = ask_once(&mut stage, &mut session, both).await;
    assert_eq!(said, "an answer that is not readable: it has neither a `result` nor an `error`, or both");
    assert_eq!(ask_once(&mut stage, &mut session, "bye").await, "the server ended before it had answered");
}

#[tokio::test(start_paused = true)]
async fn a_servers_own_questions_are_answered_while_it_works() {
    let (mut stage, mut session) = Stage::legacy().await;
    for line in [
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"sampling/createMessage","params":{}}"#,
    ] {
        stage.far.say(line).await;
    }
    assert_eq!(ask_once(&mut stage, &mut session, DONE).await, &DONE["\"result\":".len()..]);
    assert_eq!(stage.ears.0, ["notifications/tools/list_changed"]);
    let heard = stage.heard().await;
    let replies: Vec<&Value> = heard.iter().filter(|message| message.get("method").is_none()).collect();
    let refused =
        |id| json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}});
    assert_eq!(replies, [&json!({"jsonrpc": "2.0", "id": "a", "result": {}}), &refused(1), &refused(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_introduces_itself_once_and_a_legacy_one_has_done_so() {
    let found = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}"#;
    let (mut stage, mut session) = Stage::modern().await;
    stage.play(session.introduce(), &[("server/discover", found)]).await.unwrap();
    stage.play(session.introduce(), &[]).await.unwrap();
    assert_eq!(stage.methods().await, ["server/discover"]);
    let (mut stage, mut session) = Stage::legacy().await;
    stage.play(session.introduce(), &[]).await.unwrap();
    assert_eq!(stage.methods().await, ["initialize", "notifications/initialized"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_an_older_server_refused_is_asked_again_after_a_handshake() {
    let page = r#""result":{"tools":[1]}"#;
    for found in [NO_METHOD, ""] {
        let (mut stage, mut session) = Stage::modern().await;
        let script = [
            ("tools/list", NO_METHOD),
            ("server/discover", found),
            ("initialize", INITIALIZED),
            ("tools/list", page),
        ];
        let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1000), &script).await;
        assert_eq!(shown(asked), "[1] None");
        assert_eq!((session.era(), session.standing), (Era::Legacy, Standing::Confirmed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_a_modern_server_refused_is_refused() {
    let found = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}"#;
    let (mut stage, mut session) = Stage::modern().await;
    let script = [("tools/list", NO_METHOD), ("server/discover", found)];
    let asked = stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1000), &script).await;
    assert!(matches!(asked, Err(AskError::Answered(CallError::NotOffered { .. }))), "{asked:?}");
    assert_eq!((session.era(), session.standing), (Era::Modern, Standing::Confirmed));

    let mut stage = Stage::new();
    let mut session = stage.open(Protocol::Modern, None, &[]).await.unwrap();
    let asked =
        stage.play(session.ask(&TOOLS, None, Telling::Unwanted, 1000), &[("tools/list", NO_METHOD)]).await;
    assert!(matches!(asked, Err(AskError::Answered(CallError::NotOffered { .. }))), "{asked:?}");
    assert_eq!(stage.methods().await, ["tools/list"], "what is configured is not doubted");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_either_era_can_be_pinged() {
    let found = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}"#;
    for ((mut stage, mut session), method, answer) in
        [(Stage::legacy().await, "ping", r#""result":{}"#), (Stage::modern().await, "server/discover", found)]
    {
        let asking = session.ask(&Ask::Ping, None, Telling::Unwanted, 1000);
        assert_eq!(shown(stage.play(asking, &[(method, answer)]).await), "{}", "{method}");
    }
}
