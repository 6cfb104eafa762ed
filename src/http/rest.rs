//! The REST dialect: a request to [`Request`], an [`Answer`] to a response.
//!
//! A good answer is what the server wrote, byte for byte; everything else is a [`Problem`]. Nothing is detached: the
//! call lives in the future of its response, or in the body of its event stream, and ends when that is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, header};
use serde::Serialize;

use super::accept::Media;
use super::body::Body;
use super::json::Pieces;
use super::problem::{Problem, Sees};
use super::route::Post;
use super::stamp::Stamp;
use super::terms::{self, Terms};
use super::{authority, sse, text};
use crate::catalog::{Catalog, Summary};
use crate::deadline::Deadline;
use crate::exchange::{
    Answer, Ask, CallError, CallId, Caller, Enforcement, Events, Instances, Introduction, LastWords, Limited,
    ListKind, Listed, OnError, Outcome, Phase, Principal, RawJson, Request, Standbys,
};

pub(super) mod steps;

pub(super) use steps::Asked;
pub(super) use steps::read as read_steps;

/// What a route can answer with, the first of it by default.
pub(super) const fn offered(post: &Post) -> &'static [Media] {
    match post {
        Post::Tool { .. } | Post::Resource | Post::Prompt { .. } => {
            &[Media::Json, Media::Text, Media::Events]
        }
        Post::Calls => &[Media::Json, Media::Events],
    }
}

/// How the outcomes are told.
#[derive(Debug)]
pub(super) enum Shape {
    /// One step, its result alone; and how its text is found.
    One(fn(&RawJson) -> Option<String>),
    /// Several steps: what each lists, if it lists, and whether a failed one fails the whole.
    Many { lists: Vec<Option<ListKind>>, on_error: OnError, who: Principal },
}

impl Shape {
    /// The shape of the answer to `asked`, under this route.
    pub(super) fn of(post: &Post, asked: &Asked, who: &Principal) -> Self {
        match post {
            Post::Tool { .. } => Self::One(text::of_tool),
            Post::Resource => Self::One(text::of_resource),
            Post::Prompt { .. } => Self::One(text::of_prompt),
            Post::Calls => Self::Many {
                lists: asked.steps.iter().map(|step| list_kind(&step.ask)).collect(),
                on_error: asked.on_error,
                who: who.clone(),
            },
        }
    }
}

const fn list_kind(ask: &Ask) -> Option<ListKind> {
    match ask {
        Ask::List(kind) => Some(*kind),
        Ask::Tool { .. } | Ask::Prompt { .. } | Ask::Resource { .. } | Ask::Complete { .. } | Ask::Ping => {
            None
        }
    }
}

/// Who asks, on which terms.
#[derive(Debug, Clone)]
pub(super) struct Asker<'h> {
    pub(super) who: Principal,
    pub(super) terms: Terms,
    pub(super) sees: Sees,
    /// Some of them may be meant for the call's process.
    pub(super) headers: &'h HeaderMap,
}

impl Asker<'_> {
    /// The time that a call of this server gets.
    pub(super) fn deadline(&self, catalog: &Catalog) -> Deadline {
        Deadline::within(self.terms.budget(catalog.deadline()))
    }

    /// The call that asks this.
    pub(super) fn request(&self, asked: Asked, catalog: &Catalog) -> Result<Request, Problem> {
        Ok(Request {
            id: new_id()?,
            principal: self.who.clone(),
            steps: asked.steps,
            on_error: asked.on_error,
            deadline: self.deadline(catalog),
            events: None,
            reply: self.terms.reply,
            credentials: terms::credentials(self.headers, catalog.header_env())?,
            trace: terms::trace(self.headers),
        })
    }

    /// The same for a question that is plain.
    pub(super) fn caller(&self, catalog: &Catalog) -> Result<Caller, Problem> {
        let (deadline, reply) = (self.deadline(catalog), self.terms.reply);
        let credentials = terms::credentials(self.headers, catalog.header_env())?;
        let trace = terms::trace(self.headers);
        Ok(Caller { id: new_id()?, principal: self.who.clone(), deadline, reply, credentials, trace })
    }
}

/// Makes a call and tells its outcome.
pub(super) async fn call(
    catalog: Arc<Catalog>,
    mut request: Request,
    shape: Shape,
    media: Media,
    sees: Sees,
) -> Result<Response<Body>, Problem> {
    if media == Media::Events {
        let events = Events::default();
        request.events = Some(events.clone());
        let id = request.id;
        let call = async move { catalog.call(request).await };
        return sse::respond(id, call, events, move |answer| outcome(&shape, answer, sees)).await;
    }
    let mut answer = catalog.call(request).await;
    let stamp = Stamp::of(&mut answer);
    let told = match (media, &shape) {
        (Media::Text, Shape::One(text_of)) => one(answer).and_then(|raw| text_alone(&raw, *text_of)),
        _ => return respond(outcome(&shape, answer, sees), stamp, Media::Json),
    };
    let told =
        told.map(|text| Pieces::from(bytes::Bytes::from(text))).map_err(|error| Problem::of(error, sees));
    respond(told, stamp, Media::Text)
}

/// One list of a server.
pub(super) async fn list(
    catalog: &Catalog,
    kind: ListKind,
    asker: Asker<'_>,
) -> Result<Response<Body>, Problem> {
    let mut answer = catalog.list(asker.caller(catalog)?, kind).await;
    let stamp = Stamp::of(&mut answer);
    let listed = match first(answer) {
        Ok(Outcome::Listed(listed)) => Ok(list_object(kind, &listed, &asker.who)),
        Ok(Outcome::Result(_)) => Err(unexpected("a list has no items")),
        Err(error) => Err(error),
    };
    respond(listed.map_err(|error| Problem::of(error, asker.sees)), stamp, Media::Json)
}

/// One server, and what it says of itself.
pub(super) async fn server(catalog: &Catalog, asker: Asker<'_>) -> Result<Response<Body>, Problem> {
    let mut answer = catalog.introduce(asker.caller(catalog)?).await;
    let stamp = Stamp::of(&mut answer);
    let told = match answer.failure {
        Some(failure) => Err(Problem::of(failure, asker.sees)),
        None => Ok(server_object(catalog.summary(), answer.introduction)),
    };
    respond(told, stamp, Media::Json)
}

/// All servers that may be used, as far as they are known without asking them.
pub(super) fn servers(all: &[Arc<Catalog>], default: Option<&str>, who: &Principal) -> Response<Body> {
    let objects = all
        .iter()
        .filter(|catalog| who.may_use(catalog.name()))
        .map(|catalog| server_object(catalog.summary(), None));
    let mut members = vec![("servers", Pieces::array(objects))];
    if let Some(default) = default.filter(|name| who.may_use(name)) {
        members.push(("default", Pieces::of(default)));
    }
    good(Pieces::object(members), Media::Json)
}

/// A good answer.
pub(super) fn good(pieces: Pieces, media: Media) -> Response<Body> {
    let mut response = Response::new(Body::from(pieces));
    let content_type = HeaderValue::from_static(media.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn respond(told: Result<Pieces, Problem>, stamp: Stamp, media: Media) -> Result<Response<Body>, Problem> {
    match told {
        Ok(pieces) => {
            let mut response = good(pieces, media);
            stamp.put_on(response.headers_mut());
            Ok(response)
        }
        Err(problem) => Err(problem.stamped(stamp)),
    }
}

/// A fresh name for a call.
pub(super) fn new_id() -> Result<CallId, Problem> {
    let mut bits = [0; 16];
    match getrandom::fill(&mut bits) {
        Ok(()) => Ok(CallId::from_bits(u128::from_ne_bytes(bits))),
        Err(error) => {
            let what = format!("the operating system gave no random bits: {error}");
            Err(Problem::of(CallError::Internal { what }, Sees::Everything))
        }
    }
}

/// The outcome of a call as JSON.
pub(super) fn outcome(shape: &Shape, answer: Answer, sees: Sees) -> Result<Pieces, Problem> {
    match shape {
        Shape::One(_) => one(answer).map(|raw| Pieces::from(&raw)).map_err(|error| Problem::of(error, sees)),
        Shape::Many { lists, on_error, who } => many(answer, lists, *on_error, (who, sees)),
    }
}

/// The result of a call of one step, as the server wrote it.
pub(super) fn one(answer: Answer) -> Result<RawJson, CallError> {
    match first(answer)? {
        Outcome::Result(raw) => Ok(raw),
        Outcome::Listed(_) => Err(unexpected("a list answered a question that was none")),
    }
}

fn first(answer: Answer) -> Result<Outcome, CallError> {
    match (answer.failure, answer.steps.into_iter().next()) {
        (Some(failure), _) => Err(failure),
        (None, Some(outcome)) => outcome,
        (None, None) => Err(unexpected("a call without failure has no outcome")),
    }
}

fn unexpected(what: &str) -> CallError {
    CallError::Internal { what: what.to_owned() }
}

/// The text of a result.
pub(super) fn text_alone(
    raw: &RawJson,
    text_of: fn(&RawJson) -> Option<String>,
) -> Result<String, CallError> {
    text_of(raw).ok_or_else(|| CallError::ProtocolViolation {
        phase: Phase::Call,
        what: "its result does not have the shape that its method prescribes".to_owned(),
        words: Box::<LastWords>::default(),
    })
}

fn many(
    mut answer: Answer,
    lists: &[Option<ListKind>],
    on_error: OnError,
    (who, sees): (&Principal, Sees),
) -> Result<Pieces, Problem> {
    let fatal = answer.failure.take().or_else(|| take_fatal(&mut answer, on_error));
    let asked = answer.steps.len();
    let mut failed = None;
    let mut told = Vec::with_capacity(asked);
    for (index, step) in answer.steps.into_iter().enumerate() {
        told.push(match step {
            Ok(Outcome::Result(raw)) => Pieces::object([("result", Pieces::from(&raw))]),
            Ok(Outcome::Listed(listed)) => {
                let kind = lists.get(index).copied().flatten().unwrap_or(ListKind::Tools);
                Pieces::object([("result", list_object(kind, &listed, who))])
            }
            Err(error) => {
                let problem = Problem::of(error, sees);
                failed.get_or_insert_with(|| (index, problem.words().to_owned()));
                Pieces::object([("problem", problem.into_object())])
            }
        });
    }
    let told = Pieces::array(told);
    match (fatal, failed) {
        (Some(fatal), _) => {
            // Before the first step is asked the call as a whole is looked at; its words say which step was meant.
            let refused = matches!(fatal, CallError::InvalidArguments { .. } | CallError::UnknownTool { .. });
            let mut problem = Problem::of(fatal, sees);
            if !refused {
                problem.member("failed_step", Pieces::of(&asked));
            }
            problem.member("steps", told);
            Err(problem)
        }
        (None, Some((index, cause))) if on_error == OnError::Stop => {
            Err(Problem::step_failed(index, &cause, told))
        }
        (None, _) => Ok(Pieces::object([("steps", told)])),
    }
}

/// A last step that ended the whole call, because its server crashed, its time ran out, or the like.
fn take_fatal(answer: &mut Answer, on_error: OnError) -> Option<CallError> {
    let last = answer.steps.pop_if(|last| match last {
        Ok(_) => false,
        // Asking back ends only what was to stop anyhow.
        Err(CallError::InputRequired { .. }) => on_error == OnError::Stop,
        Err(error) => !error.is_an_answer(),
    });
    last.and_then(Result::err)
}

/// A list, without the tools that may not be called.
fn list_object(kind: ListKind, listed: &Listed, who: &Principal) -> Pieces {
    let items = listed.items.iter().filter(|item| authority::may_see(who, kind, item));
    Pieces::object([(kind.member(), Pieces::array(items.map(Pieces::from)))])
}

#[derive(Serialize)]
struct Limits<'a> {
    concurrent: usize,
    queue: usize,
    queue_timeout_ms: u128,
    deadline_ms: u128,
    open_deadline_ms: u128,
    output_bytes: usize,
    stderr_bytes: usize,
    #[serde(flatten)]
    of_kernel: BTreeMap<&'a str, LimitOfKernel<'a>>,
}

#[derive(Serialize)]
struct LimitOfKernel<'a> {
    limit: u64,
    enforced: bool,
    how: &'a str,
}

#[derive(Serialize)]
struct Kept<'a> {
    enforced: bool,
    how: &'a str,
}

fn limit(limited: &Limited) -> (&str, LimitOfKernel<'_>) {
    let Enforcement { enforced, how, .. } = &limited.enforcement;
    (limited.member, LimitOfKernel { limit: limited.value, enforced: *enforced, how })
}

fn standby(standbys: &Standbys) -> Pieces {
    let Standbys { min, max, ready, starting, failures, retry_in } = standbys;
    let mut members = vec![
        ("min", Pieces::of(min)),
        ("max", Pieces::of(max)),
        ("ready", Pieces::of(ready)),
        ("starting", Pieces::of(starting)),
        ("failures", Pieces::of(failures)),
    ];
    members.extend(retry_in.map(|wait| ("retry_in_ms", Pieces::of(&wait.as_millis()))));
    Pieces::object(members)
}

/// What is configured, what is enforced, and what the server says of itself as far as that is known.
fn server_object(summary: Summary, introduction: Option<Arc<Introduction>>) -> Pieces {
    let limits = Limits {
        concurrent: summary.limits.concurrent,
        queue: summary.limits.queue,
        queue_timeout_ms: summary.limits.queue_timeout.as_millis(),
        deadline_ms: summary.limits.deadline.as_millis(),
        open_deadline_ms: summary.limits.open_deadline.as_millis(),
        output_bytes: summary.limits.output,
        stderr_bytes: summary.limits.stderr,
        of_kernel: summary.bounds.limits.iter().map(limit).collect(),
    };
    let mut members = vec![
        ("name", Pieces::of(&*summary.name)),
        ("strategy", Pieces::of(summary.about.strategy)),
        ("protocol", Pieces::of(summary.protocol)),
        ("era", Pieces::of(&summary.about.era)),
        ("containment", Pieces::of(summary.about.containment)),
        ("limits", Pieces::of(&limits)),
    ];
    members.extend(summary.about.instances.map(|Instances { alive, idle }| {
        ("instances", Pieces::object([("alive", Pieces::of(&alive)), ("idle", Pieces::of(&idle))]))
    }));
    members.extend(summary.about.standbys.as_ref().map(|standbys| ("standby", standby(standbys))));
    if !summary.bounds.sandbox.is_empty() {
        let kept = summary.bounds.sandbox.iter().map(|Enforcement { what, enforced, how }| {
            (what.as_str(), Pieces::of(&Kept { enforced: *enforced, how }))
        });
        members.push(("sandbox", Pieces::object(kept)));
    }
    if let Some(known) = introduction.or(summary.introduction) {
        members.push(("protocolVersion", Pieces::of(&known.protocol_version)));
        let told = [("serverInfo", &known.server_info), ("capabilities", &known.capabilities)];
        members
            .extend(told.into_iter().filter_map(|(name, value)| Some((name, Pieces::from(value.as_ref()?)))));
        if let Some(instructions) = &known.instructions {
            members.push(("instructions", Pieces::of(instructions)));
        }
    }
    Pieces::object(members)
}

#[cfg(test)]
mod tests;
