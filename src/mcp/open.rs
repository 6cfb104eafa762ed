//! Discover or initialize: returns a [`Session`] or an error, never half of one.
//!
//! The protocol advises to probe with `server/discover` first. With a process per call that is the wrong default:
//! some servers exit on it, silent ones cost the whole time limit, and every legacy one costs a round trip. So, with
//! nothing known, `initialize` goes out at once: every legacy and every dual-era server takes it, and a modern-only
//! one refuses it, on which the session turns modern on the same pipe.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::era::{Era, NEWEST_LEGACY, NEWEST_MODERN, Protocol, is_legacy, newest_legacy_of};
use super::types::{CLIENT, Extras, is_repeated, meta, server_info};
use super::{InFlight, Session, Standing};
use crate::exchange::{Introduction, Members, RawJson};
use crate::rpc::{ErrorObject, HungUp, Peer, Reply};

/// Errors that only a modern server gives: a header mismatch, a missing capability, an unsupported version.
const MODERN_ERRORS: [i64; 3] = [-32020, -32021, -32022];

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It left, or closed its stdout.
    #[error("it ended before it had answered")]
    HungUp,
    /// It closed its stdin, and lives on.
    #[error("it closed its stdin before it had read what it was asked")]
    Deaf,
    /// It writes out what it reads.
    #[error("it repeats what it is told, and is no MCP server")]
    Repeated,
    /// It refused.
    #[error("it refused with error {code}: {message}")]
    Refused { code: i64, message: String },
    /// It speaks a revision that we do not.
    #[error("it speaks protocol version {offered:?}, which is not known here")]
    Version { offered: String },
    /// It is modern, but of another revision.
    #[error("it supports none of the modern protocol versions that are known here, but {supported}")]
    NoCommonVersion { supported: String },
    /// Its answer could not be read.
    #[error("its answer to {method} is not readable: {why}")]
    Malformed { method: &'static str, why: String },
}

impl From<HungUp> for OpenError {
    fn from(_: HungUp) -> Self {
        Self::HungUp
    }
}

/// Opens a conversation, by what is configured and what is remembered of the server.
///
/// # Cancel safety
///
/// Dropping it leaves a peer to which an unknown part of the handshake was said: fit for ending only.
pub(crate) async fn open(
    peer: &Peer,
    protocol: Protocol,
    remembered: Option<Era>,
) -> Result<Session, OpenError> {
    match (protocol, remembered) {
        (Protocol::Modern, _) => Ok(Session::modern(peer, None, Standing::Confirmed)),
        (Protocol::Auto, Some(Era::Modern)) => Ok(Session::modern(peer, None, Standing::Assumed)),
        (Protocol::Legacy, _) => match initialize(peer).await? {
            Ok(session) => Ok(session),
            Err(error) => Err(OpenError::Refused { code: error.code, message: error.message }),
        },
        (Protocol::Auto, _) => match initialize(peer).await? {
            Ok(session) => Ok(session),
            Err(error) => turn_modern(peer, error).await,
        },
    }
}

/// Asks `server/discover`: what a modern server says of itself.
///
/// # Cancel safety
///
/// Dropping it tells the server that the request was cancelled.
pub(crate) async fn discover(peer: &Peer) -> Result<Introduction, OpenError> {
    let params: Members = meta(Era::Modern, Extras::default(), None)
        .map(|meta| ("_meta".to_owned(), meta))
        .into_iter()
        .collect();
    match InFlight::new(peer, "server/discover", &params).answer().await? {
        Reply::Result(result) => read_discovery(&result),
        Reply::Error(error) if is_repeated(&error) => Err(OpenError::Repeated),
        Reply::Error(error) => Err(OpenError::Refused { code: error.code, message: error.message }),
        Reply::Malformed(why) => Err(malformed("server/discover", why)),
    }
}

/// Whether a refusal of `server/discover` proves that its author can be asked in the modern revision that we speak:
/// it wants something else, but does not mind the version. One that does is left with its handshake.
pub(crate) fn proves_modern(error: &OpenError) -> bool {
    matches!(error, OpenError::Refused { code: -32021 | -32020, .. })
}

/// `initialize`, in the newest legacy revision, or in the newest that a server names when it refuses that one. It
/// should answer with one of its own instead of refusing, but both are seen.
pub(super) async fn initialize(peer: &Peer) -> Result<Result<Session, ErrorObject>, OpenError> {
    let refusal = match initialize_in(peer, NEWEST_LEGACY).await? {
        Err(refusal) => refusal,
        opened => return Ok(opened),
    };
    match supported(&refusal).and_then(|versions| newest_legacy_of(&versions)) {
        Some(older) if older != NEWEST_LEGACY => initialize_in(peer, older).await,
        _ => Ok(Err(refusal)),
    }
}

/// The versions that a refusal names.
fn supported(refusal: &ErrorObject) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Supported {
        supported: Vec<String>,
    }
    Some(refusal.data.as_ref()?.read::<Supported>().ok()?.supported)
}

/// `initialize`, then `notifications/initialized`, which waits in the outbox to leave together with the first request.
async fn initialize_in(peer: &Peer, version: &str) -> Result<Result<Session, ErrorObject>, OpenError> {
    let params = vec![
        ("protocolVersion".to_owned(), RawJson::of(version)),
        ("capabilities".to_owned(), RawJson::empty_object()),
        ("clientInfo".to_owned(), RawJson::of(&CLIENT)),
    ];
    match peer.ask("initialize", &params).answer().await? {
        Reply::Result(result) => {
            let introduction = read_initialization(&result)?;
            peer.notify("notifications/initialized", &Vec::new());
            Ok(Ok(Session::legacy(peer, introduction)))
        }
        Reply::Error(error) if is_repeated(&error) => Err(OpenError::Repeated),
        Reply::Error(error) => Ok(Err(error)),
        Reply::Malformed(why) => Err(malformed("initialize", why)),
    }
}

/// `initialize` was refused: by a modern server, or by one that is simply broken.
async fn turn_modern(peer: &Peer, refusal: ErrorObject) -> Result<Session, OpenError> {
    if MODERN_ERRORS.contains(&refusal.code) {
        return match supported(&refusal) {
            Some(supported) if !supported.iter().any(|version| version == NEWEST_MODERN) => {
                Err(OpenError::NoCommonVersion { supported: supported.join(", ") })
            }
            _ => Ok(Session::modern(peer, None, Standing::Assumed)),
        };
    }
    // No single code decides: a modern-only server should name its versions, but may say anything.
    match discover(peer).await {
        Ok(introduction) => Ok(Session::modern(peer, Some(introduction), Standing::Confirmed)),
        Err(error @ (OpenError::HungUp | OpenError::NoCommonVersion { .. })) => Err(error),
        Err(_) => Err(OpenError::Refused { code: refusal.code, message: refusal.message }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialization<'a> {
    protocol_version: String,
    #[serde(borrow, default)]
    server_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
}

fn read_initialization(result: &RawJson) -> Result<Introduction, OpenError> {
    let said: Initialization<'_> = result.read().map_err(|error| malformed("initialize", error))?;
    if !is_legacy(&said.protocol_version) {
        return Err(OpenError::Version { offered: said.protocol_version });
    }
    Ok(Introduction {
        protocol_version: said.protocol_version,
        server_info: said.server_info.map(RawJson::of),
        capabilities: said.capabilities.map(RawJson::of),
        instructions: said.instructions.and_then(readable),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovery<'a> {
    supported_versions: Vec<String>,
    #[serde(borrow, default)]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
}

fn read_discovery(result: &RawJson) -> Result<Introduction, OpenError> {
    let said: Discovery<'_> = result.read().map_err(|error| malformed("server/discover", error))?;
    if !said.supported_versions.iter().any(|version| version == NEWEST_MODERN) {
        return Err(OpenError::NoCommonVersion { supported: said.supported_versions.join(", ") });
    }
    Ok(Introduction {
        protocol_version: NEWEST_MODERN.to_owned(),
        server_info: server_info(result),
        capabilities: said.capabilities.map(RawJson::of),
        instructions: said.instructions.and_then(readable),
    })
}

/// A text that decides nothing: one that cannot be read, for half a surrogate pair for example, is only left out.
fn readable(text: &RawValue) -> Option<String> {
    serde_json::from_str(text.get()).ok()
}

fn malformed(method: &'static str, why: impl std::fmt::Display) -> OpenError {
    OpenError::Malformed { method, why: why.to_string() }
}

impl Session {
    fn legacy(peer: &Peer, introduction: Introduction) -> Self {
        Self::new(peer, Era::Legacy, introduction, Standing::Confirmed)
    }

    fn modern(peer: &Peer, introduction: Option<Introduction>, standing: Standing) -> Self {
        let unknown =
            || Introduction { protocol_version: NEWEST_MODERN.to_owned(), ..Introduction::default() };
        Self::new(peer, Era::Modern, introduction.unwrap_or_else(unknown), standing)
    }

    fn new(peer: &Peer, era: Era, introduction: Introduction, standing: Standing) -> Self {
        Self { peer: peer.clone(), era, introduction: Arc::new(introduction), tokens: 0, standing }
    }
}
