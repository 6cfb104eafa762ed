//! The one place where a fault becomes a status: `application/problem+json` of RFC 9457.
//!
//! Every failure that leaves this gateway is a [`Problem`], made from a [`CallError`] or from a [`Refusal`]; neither is
//! ever matched with `_`, so that a new fault cannot get a status by accident. What a caller may see of the machine
//! (stderr, paths, stray output) is decided here too, by [`Sees`].

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderValue, Response, header};

use super::body::Body;
use super::json::Pieces;
use super::stamp::Stamp;
use super::text;
use crate::auth::{Denied, Mask};
use crate::exchange::fault::Violation;
use crate::exchange::{CallError, LastWords, RawJson};

mod kind;
mod refusal;
mod remedy;
mod words;

pub(super) use kind::Kind;
pub(super) use refusal::Refusal;
use remedy::remedy;
pub(super) use words::ExitShown;
use words::{capitalised, describe};

/// What a caller may see of the machine that the gateway runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// Last words, stray output and paths: for the machine's owner.
    Everything,
    /// Phase, exit and call id.
    Little,
}

/// A failure as a client sees it.
#[derive(Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    /// The tool's own words, where there are some: what a caller who takes only text wants to read.
    words: Option<String>,
    members: Vec<(&'static str, Pieces)>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    challenge: Option<Denied>,
    stamp: Option<Box<Stamp>>,
}

impl Problem {
    fn new(kind: Kind, what: &str) -> Self {
        Self::with_remedy(kind, what, kind.facts().remedy)
    }

    fn with_remedy(kind: Kind, what: &str, remedy: &str) -> Self {
        let remedy = if remedy.is_empty() { String::new() } else { format!(" {remedy}.") };
        let end = if what.ends_with('?') { "" } else { "." };
        let detail = format!("{}{end}{remedy}", capitalised(what));
        let (words, members, retry_after) = (None, Vec::new(), None);
        Self { kind, detail, words, members, retry_after, allow: None, challenge: None, stamp: None }
    }

    /// What became of a failed call, or of one failed step.
    pub(super) fn of(error: CallError, sees: Sees) -> Self {
        let kind = kind_of(&error);
        let mut problem = Self::with_remedy(kind, &describe(&error, sees), remedy(&error, sees));
        problem.member("fault", Pieces::of(error.fault().name()));
        if let Some(phase) = error.phase() {
            problem.member("phase", Pieces::of(phase.name()));
        }
        problem.explain(error, sees);
        problem
    }

    /// Several steps, of which number `index` failed with `cause`.
    pub(super) fn step_failed(index: usize, cause: &str, steps: Pieces) -> Self {
        let mut problem = Self::new(Kind::StepFailed, &format!("step {index} failed: {cause}"));
        problem.member("failed_step", Pieces::of(&index));
        problem.member("steps", steps);
        problem
    }

    /// Adds a member.
    pub(super) fn member(&mut self, name: &'static str, value: Pieces) {
        self.members.push((name, value));
    }

    /// What the server left behind that the detail may point to.
    pub(super) fn evidence(&self) -> impl Iterator<Item = (&'static str, Pieces)> {
        let shown = self.members.iter().filter(|(name, _)| matches!(*name, "stderr_tail" | "noise"));
        shown.map(|(name, pieces)| (*name, pieces.clone()))
    }

    /// The tool's own words if it spoke, else the detail.
    pub(super) fn words(&self) -> &str {
        self.words.as_deref().unwrap_or(&self.detail)
    }

    /// The problem object.
    pub(super) fn into_object(self) -> Pieces {
        let facts = self.kind.facts();
        let standard = [
            ("type", Pieces::of(&format!("/problems/{}", facts.name))),
            ("title", Pieces::of(facts.title)),
            ("status", Pieces::of(&facts.status.as_u16())),
            ("detail", Pieces::of(&self.detail)),
        ];
        Pieces::object(standard.into_iter().chain(self.members))
    }

    /// The answer to a request that failed.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        self.head(&mut response);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        *response.body_mut() = Body::from(self.into_object());
        response
    }

    /// Status and headers, whatever the body is.
    pub(super) fn head(&self, response: &mut Response<Body>) {
        *response.status_mut() = self.kind.facts().status;
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge_to(challenge)));
        }
        if let Some(stamp) = &self.stamp {
            stamp.put_on(headers);
        }
    }

    /// What is known beyond the words.
    fn explain(&mut self, error: CallError, sees: Sees) {
        match error {
            CallError::Overloaded { retry_after, .. } | CallError::QuotaExceeded { retry_after, .. } => {
                self.retry_after = Some(whole_seconds(retry_after));
            }
            CallError::DeadlineExceeded { words, .. }
            | CallError::OpenFailed { words, .. }
            | CallError::NoLongerModern { words }
            | CallError::ServerCrashed { words, .. }
            | CallError::ProtocolViolation { words, .. }
            | CallError::OutputTooLarge { words, .. } => self.last_words(&words, sees),
            CallError::ServerError { code, data, words, .. } => {
                self.member("code", Pieces::of(&code));
                self.data(data.as_ref());
                self.last_words(&words, sees);
            }
            CallError::CapabilityRequired { data, .. } => self.data(data.as_ref()),
            CallError::InvalidArguments { violations, .. } => {
                if !violations.is_empty() {
                    self.member("errors", Pieces::array(violations.iter().map(violation)));
                }
            }
            CallError::InputRequired { result } => self.input_required(&result),
            CallError::ToolError { result } => {
                self.words = text::of_tool(&result).filter(|words| !words.is_empty());
                self.member("result", Pieces::from(&result));
            }
            CallError::ShuttingDown { .. }
            | CallError::CallerGone { .. }
            | CallError::SpawnFailed { .. }
            | CallError::UnknownTool { .. }
            | CallError::UnknownResource { .. }
            | CallError::UnknownPrompt { .. }
            | CallError::NotOffered { .. }
            | CallError::Internal { .. } => {}
        }
    }

    fn last_words(&mut self, words: &LastWords, sees: Sees) {
        if let Some(exit) = ExitShown::of(words.exit, words.cause) {
            self.member("exit", Pieces::of(&exit));
        }
        if sees == Sees::Little {
            return;
        }
        if !words.stderr_tail.is_empty() {
            self.member("stderr_tail", Pieces::of(&words.stderr_tail));
        }
        if !words.noise.is_empty() {
            self.member("noise", Pieces::of(&words.noise));
        }
    }

    fn data(&mut self, data: Option<&RawJson>) {
        if let Some(data) = data {
            self.member("data", Pieces::from(data));
        }
    }

    fn input_required(&mut self, result: &RawJson) {
        for (name, value) in result.members().unwrap_or_default() {
            match name.as_str() {
                "inputRequests" => self.member("inputRequests", Pieces::from(&value)),
                "requestState" => self.member("requestState", Pieces::from(&value)),
                _further => {}
            }
        }
    }

    /// The same, our own sentence without secrets: it may quote what a caller, or a tool, has said.
    pub(super) fn masked(mut self, mask: &Mask) -> Self {
        if let Cow::Owned(detail) = mask.text(&self.detail) {
            self.detail = detail;
        }
        self
    }

    /// Says whose call it was, where its time went and how it ended.
    pub(super) fn stamped(mut self, stamp: Stamp) -> Self {
        self.member("call", Pieces::of(&stamp.id().to_string()));
        self.stamp = Some(Box::new(stamp));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = refusal.kind();
        let mut problem =
            Self::with_remedy(kind, &refusal.to_string(), refusal.remedy().unwrap_or(kind.facts().remedy));
        match refusal {
            Refusal::MethodNotAllowed { allow, .. } => problem.allow = Some(allow),
            Refusal::Unauthenticated(why) => problem.challenge = Some(why),
            // Nobody knows when the readers of large answers have taken them.
            Refusal::Exhausted => problem.retry_after = Some(1),
            _ => {}
        }
        problem
    }
}

/// The table: which kind of problem each fault is.
const fn kind_of(error: &CallError) -> Kind {
    match error {
        CallError::Overloaded { .. } => Kind::Overloaded,
        CallError::QuotaExceeded { .. } => Kind::QuotaExceeded,
        CallError::ShuttingDown { .. } => Kind::ShuttingDown,
        CallError::DeadlineExceeded { .. } => Kind::DeadlineExceeded,
        CallError::CallerGone { .. } => Kind::CallerGone,
        CallError::SpawnFailed { .. } => Kind::SpawnFailed,
        CallError::OpenFailed { .. } | CallError::NoLongerModern { .. } => Kind::OpenFailed,
        CallError::ServerCrashed { .. } => Kind::ServerCrashed,
        CallError::ProtocolViolation { .. } => Kind::ProtocolViolation,
        CallError::ServerError { .. } => Kind::ServerError,
        CallError::OutputTooLarge { .. } => Kind::OutputTooLarge,
        CallError::UnknownTool { .. } => Kind::UnknownTool,
        CallError::UnknownResource { .. } => Kind::UnknownResource,
        CallError::UnknownPrompt { .. } => Kind::UnknownPrompt,
        CallError::NotOffered { .. } => Kind::NotOffered,
        CallError::InvalidArguments { .. } => Kind::InvalidArguments,
        CallError::InputRequired { .. } => Kind::InputRequired,
        CallError::CapabilityRequired { .. } => Kind::CapabilityRequired,
        CallError::ToolError { .. } => Kind::ToolError,
        CallError::Internal { .. } => Kind::Internal,
    }
}

/// How to ask again, by RFC 6750, section 3.
const fn challenge_to(why: Denied) -> &'static str {
    match why {
        Denied::Missing => "Bearer realm=\"spawnling\"",
        Denied::Wrong => "Bearer realm=\"spawnling\", error=\"invalid_token\"",
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).clamp(1, 3600).try_into().unwrap_or(3600)
}

fn violation(violation: &Violation) -> Pieces {
    let members = [("pointer", &violation.pointer), ("message", &violation.message)];
    Pieces::object(members.map(|(name, value)| (name, Pieces::of(value))))
}

#[cfg(test)]
impl Problem {
    /// What happened and what to do, in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The kind of problem.
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }
}

#[cfg(test)]
mod tests;
