//! What the HTTP room refuses by itself, before anything is asked of a server. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::Kind;
use crate::auth::Denied;
use crate::exchange::JsonError;

/// Why a request went no further than the edge.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum Refusal {
    /// A shape, a value or a parameter that cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The body is not JSON that we take.
    #[error("the body is not accepted: {0}{cause}", cause = cause(.0))]
    Json(JsonError),
    /// Nothing under this path.
    #[error("there is no {method} {path}")]
    UnknownRoute { method: String, path: String },
    /// No such server.
    #[error("there is no server {name:?}; configured: {}", list(known))]
    UnknownServer { name: String, known: Vec<Arc<str>> },
    /// No receipt that the caller may see.
    #[error("no receipt of a call {id:?} is kept")]
    UnknownCall { id: String },
    /// The path exists, the method does not.
    #[error("{method} is not allowed here, only {allow}")]
    MethodNotAllowed { method: String, allow: &'static str },
    /// `Accept` leaves nothing.
    #[error("this route answers with {}, and `Accept` takes none of them", offered.join(", "))]
    NotAcceptable { offered: Vec<&'static str> },
    /// The body did not come.
    #[error("the body did not arrive within {after:?}")]
    BodyTimeout { after: Duration },
    /// The body is too large.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    /// There is no room for it beside all others.
    #[error("the bodies and answers that are on their way take up all the memory that they may")]
    Exhausted,
    /// The body is not declared as JSON.
    #[error("the body is {}", got.as_ref().map_or("not declared as JSON".to_owned(), |got| format!("declared as {got:?}")))]
    UnsupportedMediaType { got: Option<String> },
    /// The body is compressed.
    #[error("the body is compressed, which is not supported")]
    ContentEncoded,
    /// The body comes in another framing than we can undo.
    #[error("the body comes in the transfer coding {got:?}; only `chunked` is known here")]
    TransferCoded { got: String },
    /// Addressed by a name that is not ours.
    #[error("this gateway is not known as {host:?}")]
    ForeignHost { host: String },
    /// Sent by a foreign page.
    #[error("a page of {origin:?} may not use this gateway")]
    ForeignOrigin { origin: String },
    /// Sent by a foreign page, says the browser.
    #[error("a page of another site may not use this gateway")]
    CrossSite,
    /// No token, or none of ours.
    #[error("{}", denied(*.0))]
    Unauthenticated(Denied),
    /// More than the token allows.
    #[error("the token {token:?} does not allow {what}")]
    NotAllowed { token: String, what: String },
}

impl Refusal {
    /// A malformed request, and what is wrong with it.
    pub(in crate::http) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    /// The kind of problem that it is.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) | Self::Json(_) => Kind::MalformedRequest,
            Self::UnknownRoute { .. } => Kind::UnknownRoute,
            Self::UnknownServer { .. } => Kind::UnknownServer,
            Self::UnknownCall { .. } => Kind::UnknownCall,
            Self::MethodNotAllowed { .. } => Kind::MethodNotAllowed,
            Self::NotAcceptable { .. } => Kind::NotAcceptable,
            Self::BodyTimeout { .. } => Kind::BodyTimeout,
            Self::BodyTooLarge { .. } => Kind::BodyTooLarge,
            Self::Exhausted => Kind::Overloaded,
            Self::UnsupportedMediaType { .. } | Self::ContentEncoded => Kind::UnsupportedMediaType,
            Self::TransferCoded { .. } => Kind::UnknownTransferCoding,
            Self::ForeignHost { .. }
            | Self::ForeignOrigin { .. }
            | Self::CrossSite
            | Self::NotAllowed { .. } => Kind::Forbidden,
            Self::Unauthenticated(_) => Kind::Unauthenticated,
        }
    }
}

impl Refusal {
    /// What to do, where the kind of problem alone does not say it; one sentence without its end. Empty: what is wrong
    /// says it already.
    pub(super) const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(_)
            | Self::Json(_)
            | Self::NotAcceptable { .. }
            | Self::MethodNotAllowed { .. } => Some(""),
            Self::CrossSite => {
                Some("Pages of other sites are kept out, whatever `hosts` says; programs are not")
            }
            Self::NotAllowed { .. } => {
                Some("Use a token that may, or let this one: `servers` and `tools` of its `[[tokens]]`")
            }
            Self::Exhausted => {
                Some("Try again after the time in `Retry-After`, or raise `in_flight` of the gateway")
            }
            Self::UnsupportedMediaType { .. } => Some("Add the header `Content-Type: application/json`"),
            Self::ContentEncoded => Some("Send the body as it is, without the header `Content-Encoding`"),
            _ => None,
        }
    }
}

const fn denied(why: Denied) -> &'static str {
    match why {
        Denied::Missing => "this gateway asks for a token",
        Denied::Wrong => "the token is none of this gateway's",
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

fn cause(error: &JsonError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"))
}

fn list(names: &[Arc<str>]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
