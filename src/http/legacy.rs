//! The original API: three routes that a Flask service once answered, kept for those who still call them.
//!
//! - `POST /api/browser-agent` with `{"task":"..."}` (and `"add_infos":"..."`) runs one tool of one configured server.
//! - `GET /api/health`, `GET /health` say whether the configuration is complete. Nothing is started.
//! - `POST /api/disconnect` says that there is nothing to disconnect.
//!
//! Answers come in an envelope, `{"success":true,"result":"...","structured":...}` or
//! `{"success":false,"error":"..."}`, with the statuses that every other route has.

use std::sync::Arc;

use http::Response;
use serde::Serialize;

use super::accept::Media;
use super::body::Body;
use super::json::Pieces;
use super::problem::{Problem, Refusal, Sees};
use super::rest::{self, Asked};
use super::stamp::Stamp;
use super::text;
use crate::catalog::Catalog;
use crate::exchange::{Ask, Members, OnError, RawJson, Request};

/// Where the original API finds its tool.
#[derive(Clone)]
pub(crate) struct BrowserApi {
    /// The configured server.
    pub(crate) server: Arc<str>,
    /// Its tool, `run_browser_agent` for example.
    pub(crate) tool: String,
    /// Whether the configuration is complete.
    pub(crate) available: Arc<dyn Fn() -> bool + Send + Sync>,
}

#[derive(Serialize)]
struct Arguments<'a> {
    task: &'a RawJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    add_infos: Option<&'a RawJson>,
}

/// The call of this tool that does the task in `body`.
pub(super) fn asked(tool: &str, body: &RawJson) -> Result<Asked, Refusal> {
    let ask = Ask::Tool { name: tool.to_owned(), arguments: Some(arguments(body)?), extra: Members::new() };
    Ok(Asked { steps: vec![ask.into()], on_error: OnError::Stop })
}

/// Makes a call of one tool, and tells its result in the envelope.
pub(super) async fn enveloped(
    catalog: &Catalog,
    request: Request,
    sees: Sees,
) -> Result<Response<Body>, Problem> {
    let mut answer = catalog.call(request).await;
    let stamp = Stamp::of(&mut answer);
    let told = rest::one(answer).and_then(|raw| Ok((rest::text_alone(&raw, text::of_tool)?, raw)));
    match told {
        Ok((text, raw)) => {
            let mut response = rest::good(success(&text, &raw), Media::Json);
            stamp.put_on(response.headers_mut());
            Ok(response)
        }
        Err(error) => Err(Problem::of(error, sees).stamped(stamp)),
    }
}

/// The arguments of the tool: the task, and what the original passed along with it.
fn arguments(body: &RawJson) -> Result<RawJson, Refusal> {
    let members = body.members()?;
    let string = |name: &str| {
        let named = members.iter().find(|(member, _)| member == name);
        named.map(|(_, value)| value).filter(|value| value.as_str().starts_with('"'))
    };
    let task = string("task")
        .filter(|task| task.read::<String>().is_ok_and(|task| !task.trim().is_empty()))
        .ok_or_else(|| Refusal::malformed("the body needs a `task`: a string that is not empty"))?;
    Ok(RawJson::of(&Arguments { task, add_infos: string("add_infos") }))
}

fn success(text: &str, raw: &RawJson) -> Pieces {
    let structured = raw.members().unwrap_or_default().into_iter();
    let structured = structured.filter(|(name, _)| name == "structuredContent");
    let members = [("success", Pieces::of(&true)), ("result", Pieces::of(text))].into_iter();
    Pieces::object(members.chain(structured.take(1).map(|(_, value)| ("structured", Pieces::from(&value)))))
}

/// A failure of any kind, in the envelope: the tool's own words if it spoke, and what of the server's there is to be read.
pub(super) fn failure(problem: &Problem) -> Response<Body> {
    let members = [("success", Pieces::of(&false)), ("error", Pieces::of(problem.words()))].into_iter();
    let mut response = rest::good(Pieces::object(members.chain(problem.evidence())), Media::Json);
    problem.head(&mut response);
    response
}

/// Whether the configuration is complete; no connection is held.
pub(super) fn health(api: &BrowserApi) -> Response<Body> {
    let available = (api.available)();
    let members = [("status", Pieces::of("healthy")), ("mcp_available", Pieces::of(&available))];
    rest::good(Pieces::object(members), Media::Json)
}

/// Nothing to disconnect.
pub(super) fn disconnect() -> Response<Body> {
    const MESSAGE: &str = "No persistent connection maintained. Each request uses a fresh connection.";
    let members = [("success", Pieces::of(&true)), ("message", Pieces::of(MESSAGE))];
    rest::good(Pieces::object(members), Media::Json)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::exchange::CallError;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned().into()).unwrap()
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_task_and_strings_that_belong_to_it_are_passed_along() {
        for (body, expected) in [
            (r#"{"task":"Go to example.com"}"#, r#"{"task":"Go to example.com"}"#),
            (r#"{"add_infos":"x","task":"a\u0041"}"#, r#"{"task":"a\u0041","add_infos":"x"}"#),
            (r#"{"task":"a","add_infos":3,"other":[1]}"#, r#"{"task":"a"}"#),
        ] {
            assert_eq!(arguments(&raw(body)).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_body_without_a_task_is_refused() {
        for body in ["{}", r#"{"task":""}"#, r#"{"task":" \n"}"#, r#"{"task":3}"#, r#"{"task":null}"#, "[]"] {
            assert!(arguments(&raw(body)).is_err(), "{body}");
        }
    }

    #[test]
    fn a_success_carries_text_and_structure() {
        let plain = success("a\nb", &raw(r#"{"content":[]}"#));
        assert_eq!(plain.text(), r#"{"success":true,"result":"a\nb"}"#);
        let both = success("", &raw(r#"{"content":[],"structuredContent":{"n":1e400}}"#));
        assert_eq!(both.text(), r#"{"success":true,"result":"","structured":{"n":1e400}}"#);
    }

    #[tokio::test]
    async fn a_failure_keeps_its_status_and_tells_the_tools_own_words() {
        let result = raw(r#"{"content":[{"type":"text","text":"no browser"}],"isError":true}"#);
        let response = failure(&Problem::of(CallError::ToolError { result }, Sees::Everything));
        assert_eq!(response.status(), 424);
        assert_eq!(text(response).await, r#"{"success":false,"error":"no browser"}"#);
        let response = failure(&Problem::from(arguments(&raw("{}")).unwrap_err()));
        assert_eq!(response.status(), 400);
        assert!(text(response).await.contains("`task`"));
    }

    #[tokio::test]
    async fn health_and_disconnect_answer_as_they_always_did() {
        let api = BrowserApi { server: "browser".into(), tool: "t".into(), available: Arc::new(|| false) };
        assert_eq!(text(health(&api)).await, r#"{"status":"healthy","mcp_available":false}"#);
        assert_eq!(
            text(disconnect()).await,
            r#"{"success":true,"message":"No persistent connection maintained. Each request uses a fresh connection."}"#
        );
    }
}
