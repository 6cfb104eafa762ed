//! The words between the rooms: what is asked, what is answered, what is known afterwards.
//!
//! Pure: values in, values out. Nothing here starts anything or knows of HTTP, of bytes on a pipe or of a process
//! beyond the facts about its end; only `events.rs` waits. A *call* is a list of [`Step`]s put to one server process;
//! one step is the common case.
//!
//! ```text
//!   http -> catalog:  Request { id, steps, ... }
//!   http <- catalog:  Answer { steps: outcomes so far, failure, times, receipt }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub(crate) use crate::auth::Principal;
use crate::deadline::Deadline;

mod credentials;
mod enforcement;
pub(crate) mod events;
pub(crate) mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod json;
mod masked;
mod nearest;
mod receipt;
mod record;
mod seat;
mod shortage;
mod starts;
mod trace;
mod turns;

pub(crate) use credentials::{Credentials, HeaderVariable};
pub(crate) use enforcement::{Bounds, Enforcement, Limited};
pub(crate) use events::{Event, Events};
pub(crate) use fault::{CallError, Fault, LastWords, Phase};
pub(crate) use json::{JsonError, Members, RawJson};
pub(crate) use nearest::nearest;
pub(crate) use receipt::{Cause, Exit, Kept, Measured, Process, Receipt, Rung};
pub(crate) use record::{Failed, Moment, Record, Stage, Told};
pub(crate) use seat::{Demand, Seat, SpareSeats};
pub(crate) use shortage::{FOREIGN_FORMAT, Shortage, is_foreign_format};
pub(crate) use starts::{Start, StartAhead, Starts};
pub(crate) use trace::{TraceContext, TraceId};
pub(crate) use turns::Turns;

/// The name of one call: 128 random bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId(u128);

impl CallId {
    /// Names a call by the given bits; they should come from the operating system's random source.
    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The name as it is shown; `None`: no call goes by that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({self})")
    }
}

/// One call, as every dialect (REST, the command line, later MCP) puts it.
#[derive(Debug)]
pub(crate) struct Request {
    /// The name it goes by in answers, logs and receipts.
    pub(crate) id: CallId,
    /// Who asks: its receipt is for nobody else.
    pub(crate) principal: Principal,
    /// What to ask, in order, all of one server process. No step at all: open the server, learn what it says of
    /// itself, and end it.
    pub(crate) steps: Vec<Step>,
    /// Whether a failed step ends the list.
    pub(crate) on_error: OnError,
    /// When the whole call must be over, waiting in the queue included.
    pub(crate) deadline: Deadline,
    /// Where progress and log notifications go; `None`: nobody listens, and none are asked for.
    pub(crate) events: Option<Events>,
    /// When the answer leaves.
    pub(crate) reply: Reply,
    /// What its process alone is given. Only where each call has a process of its own.
    pub(crate) credentials: Credentials,
    /// The trace that it belongs to: told to the server with each step, and named in the log.
    pub(crate) trace: Option<TraceContext>,
}

/// Who asks, and on which terms: a call of which the question is plain.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) id: CallId,
    pub(crate) principal: Principal,
    pub(crate) deadline: Deadline,
    pub(crate) reply: Reply,
    pub(crate) credentials: Credentials,
    pub(crate) trace: Option<TraceContext>,
}

/// Whether the steps after a failed one are still asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The first failed step is the last.
    Stop,
    /// Each step is asked whatever became of those before it, as long as the server lives.
    Continue,
}

/// When a call's answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// As soon as it is known; the server's end is not waited for.
    WhenKnown,
    /// After the proof of death, with the receipt.
    WhenDead,
}

/// One question of a call.
#[derive(Debug)]
pub(crate) struct Step {
    /// The question.
    pub(crate) ask: Ask,
    /// What a list's content is put to before the next step may go out.
    pub(crate) gate: Option<Gate>,
}

impl From<Ask> for Step {
    fn from(ask: Ask) -> Self {
        Self { ask, gate: None }
    }
}

/// What can be asked of a server. The envelope (`method`, `id`, `_meta`) is built from this by the rooms below; only
/// the values in [`RawJson`] travel as the caller wrote them.
#[derive(Debug)]
pub(crate) enum Ask {
    /// `tools/call`. `extra` holds further params members, such as `inputResponses` and `requestState`.
    Tool { name: String, arguments: Option<RawJson>, extra: Members },
    /// `prompts/get`; the values of `arguments` are strings.
    Prompt { name: String, arguments: Option<RawJson>, extra: Members },
    /// `resources/read`.
    Resource { uri: String, extra: Members },
    /// A list, all its pages.
    List(ListKind),
    /// `completion/complete`, with its params.
    Complete { params: Members },
    /// `ping`: answered by every legacy server; modern ones do not know it.
    Ping,
}

/// What a server lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ListKind {
    /// `tools/list`
    Tools,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    ResourceTemplates,
    /// `prompts/list`
    Prompts,
}

impl ListKind {
    /// The member of the result that holds the items, in every revision of the protocol.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
            Self::Prompts => "prompts",
        }
    }
}

/// A check between a list and the step after it: it sees the list, and what the server says of itself, before anything else
/// is asked of the server, and an error ends the call. So arguments are checked inside the same process that will run the
/// tool.
pub(crate) struct Gate(Box<Check>);

type Check = dyn FnOnce(&Arc<Listed>, &Introduction) -> Result<(), CallError> + Send;

impl Gate {
    /// A gate that asks `check`.
    pub(crate) fn new(
        check: impl FnOnce(&Arc<Listed>, &Introduction) -> Result<(), CallError> + Send + 'static,
    ) -> Self {
        Self(Box::new(check))
    }

    /// Asks.
    pub(crate) fn pass(self, listed: &Arc<Listed>, introduction: &Introduction) -> Result<(), CallError> {
        (self.0)(listed, introduction)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// One server's list, all its pages joined.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The items as the server wrote them, in its order.
    pub(crate) items: Vec<RawJson>,
    /// How long the server says it stays fresh (`ttlMs`); `None`: it did not say.
    pub(crate) ttl: Option<Duration>,
}

/// What became of one call.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The name of the call.
    pub(crate) id: CallId,
    /// The outcome of each step that was asked, in order; a failed one is the last unless the request said
    /// [`OnError::Continue`].
    pub(crate) steps: Vec<Result<Outcome, CallError>>,
    /// Why the call as a whole went no further; `None`: every step that was to be asked has its outcome.
    pub(crate) failure: Option<CallError>,
    /// Where the time went until the answer was known.
    pub(crate) times: Times,
    /// What the server said of itself when it was opened, if it came so far.
    pub(crate) introduction: Option<Arc<Introduction>>,
    /// Its receipt; only under [`Reply::WhenDead`].
    pub(crate) receipt: Option<Box<Record>>,
    /// What it has written to stdout that is no message, so far; told of a call without steps only.
    pub(crate) noise: Vec<String>,
}

impl Answer {
    /// An answer to a call of which nothing was asked yet.
    pub(crate) const fn begun(id: CallId, times: Times) -> Self {
        Self {
            id,
            steps: Vec::new(),
            failure: None,
            times,
            introduction: None,
            receipt: None,
            noise: Vec::new(),
        }
    }

    /// An answer to a call that went no further than the gateway itself.
    pub(crate) fn refused(id: CallId, failure: CallError, times: Times) -> Self {
        Self { failure: Some(failure), ..Self::begun(id, times) }
    }
}

/// The good outcome of one step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The `result` as the server wrote it.
    Result(RawJson),
    /// A list.
    Listed(Arc<Listed>),
}

/// What a server says of itself: `InitializeResult`, `DiscoverResult`, or a modern result's `_meta`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Introduction {
    /// The protocol revision that was agreed upon, `2025-11-25` for example.
    pub(crate) protocol_version: String,
    /// `serverInfo`, an object.
    pub(crate) server_info: Option<RawJson>,
    /// `capabilities`, an object; unknown for a modern server that was asked without being discovered.
    pub(crate) capabilities: Option<RawJson>,
    /// `instructions`
    pub(crate) instructions: Option<String>,
}

impl Introduction {
    /// Whether it declares that its tools may be others while it lives (`tools.listChanged`).
    pub(crate) fn tools_may_change(&self) -> bool {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Tools {
            list_changed: bool,
        }
        #[derive(Deserialize)]
        struct Capabilities {
            tools: Tools,
        }
        let capabilities = self.capabilities.as_ref().map(RawJson::read::<Capabilities>);
        capabilities.is_some_and(|read| read.is_ok_and(|capabilities| capabilities.tools.list_changed))
    }
}

/// What can be told of a server without asking it, by those who would start it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// Where its instances come from: `fresh`.
    pub(crate) strategy: &'static str,
    /// `legacy` or `modern`, if that is known by now.
    pub(crate) era: Option<&'static str>,
    /// What makes its trees killable as a whole: `group`.
    pub(crate) containment: &'static str,
    /// The servers that were started ahead; `None`: the strategy starts none.
    pub(crate) standbys: Option<Standbys>,
    /// The servers that outlive their calls; `None`: none does.
    pub(crate) instances: Option<Instances>,
    /// What became of the last start.
    pub(crate) last_start: LastStart,
}

/// What became of the last start of a server, starts ahead included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LastStart {
    /// There was none yet, or none that says anything.
    #[default]
    Unknown,
    /// It was opened.
    Good,
    /// It could not be started, or did not open, and that was the server's own fault.
    Failed,
}

/// The servers that more than one call may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instances {
    /// Those that live.
    pub(crate) alive: usize,
    /// Those of them that nobody uses now.
    pub(crate) idle: usize,
}

/// The servers that were started before anybody asked for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standbys {
    /// So many are kept even if nobody calls.
    pub(crate) min: usize,
    /// Never more than these.
    pub(crate) max: usize,
    /// Those that can be had now.
    pub(crate) ready: usize,
    /// Those that are being started.
    pub(crate) starting: usize,
    /// Starts that failed in a row, and standbys that ended while they waited.
    pub(crate) failures: u32,
    /// When the next start is tried, if it waits because of those.
    pub(crate) retry_in: Option<Duration>,
}

/// Where the server of a call came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Origin {
    /// It was started for this call.
    #[default]
    New,
    /// It was started ahead, and nobody had used it.
    Standby,
    /// Other calls have had it before.
    Pooled,
    /// Other calls have it too.
    Shared,
}

impl Origin {
    /// The name in `Server-Timing` and receipts, where there is something to be said.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::New => None,
            Self::Standby => Some("standby"),
            Self::Pooled => Some("pooled"),
            Self::Shared => Some("shared"),
        }
    }
}

/// Where the time of one call went. `None`: it never came to that phase.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Waiting for a seat.
    pub(crate) queue: Option<Duration>,
    /// Scratch directory, fork and exec, until the process runs.
    pub(crate) spawn: Option<Duration>,
    /// The handshake, the server's own start-up included.
    pub(crate) open: Option<Duration>,
    /// All steps.
    pub(crate) call: Option<Duration>,
    /// Where the server came from. One that was there already has no `spawn`, and its `open` is nought.
    pub(crate) origin: Origin,
}
