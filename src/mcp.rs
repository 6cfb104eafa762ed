//! Session: an opened conversation in a known era.
//!
//! A `Session` comes only from [`open()`], so that nothing is asked before the handshake. It turns a question into a
//! request and an answer into an outcome; whoever owns the wire must run it meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod era;
mod open;
pub(crate) mod types;
mod verdicts;

pub(crate) use open::{OpenError, discover, open, proves_modern};
pub(crate) use verdicts::{VerdictKey, Verdicts};

use crate::exchange::{
    Ask, CallError, Introduction, ListKind, Listed, Members, Outcome, RawJson, TraceContext,
};
use crate::rpc::{HungUp, Peer, Question, Reply};
use era::Era;
use types::{Extras, Unreadable};

/// How long a server that runs, and has just refused something, may take to say whether it is modern.
pub(crate) const RECONSIDER: Duration = Duration::from_millis(500);
/// So many bits of a progress token count the questions of one line. What is left of the 53 bits that every JSON parser
/// keeps is for the number of the line.
const TOKENS_OF_A_LINE: u32 = 16;
/// The most pages of one list, and items in all of them: an item of two bytes takes fifty in memory.
const MOST_PAGES: usize = 1_000;
const MOST_ITEMS: usize = 100_000;

/// Why a question has no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The server left, or closed its stdout, before it had answered.
    #[error("the server ended before it had answered")]
    HungUp {
        /// Whether any of the question had been said to it.
        said: bool,
    },
    /// Its answer cannot be what it should be.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A list without end.
    #[error("a list is longer than {limit} bytes")]
    TooLarge { limit: usize },
    /// It answered, and not as hoped; the conversation can go on.
    #[error(transparent)]
    Answered(CallError),
}

impl From<HungUp> for AskError {
    fn from(HungUp { said }: HungUp) -> Self {
        Self::HungUp { said }
    }
}

/// Whether the caller listens to what a server tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Progress and log messages are asked for.
    Wanted,
    /// They are not.
    Unwanted,
}

/// An opened conversation. A clone asks on the same wire, and learns for itself.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    peer: Peer,
    era: Era,
    introduction: Arc<Introduction>,
    tokens: u64,
    standing: Standing,
}

/// How sure the era is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing was said yet that would tell.
    Assumed,
    /// The server refused, in words that servers of either era have.
    Questioned,
    /// It was told by the configuration, by the handshake, or by an answer that only a server of this era gives.
    Confirmed,
    /// An answer came that a server of this era does not give.
    Contradicted,
}

impl Session {
    /// The era that was found or assumed.
    pub(crate) const fn era(&self) -> Era {
        self.era
    }

    /// The same conversation for one of many who ask at once: its progress tokens are its own, and tell its number.
    pub(crate) fn line(&self, number: u64) -> Self {
        Self { tokens: number << TOKENS_OF_A_LINE, ..self.clone() }
    }

    /// What the server said of itself so far.
    pub(crate) fn introduction(&self) -> &Arc<Introduction> {
        &self.introduction
    }

    /// Whether an answer contradicts the era that was assumed: a server that is believed to be modern answered as only
    /// an older one does.
    pub(crate) fn contradicted(&self) -> bool {
        self.standing == Standing::Contradicted
    }

    /// Whether nothing was answered but what may be a modern server's refusal of this request, or an older server's
    /// refusal of any.
    pub(crate) fn questioned(&self) -> bool {
        self.standing == Standing::Questioned
    }

    /// Whether the era was assumed, and nothing that the server said has confirmed or contradicted it so far.
    pub(crate) fn unproven(&self) -> bool {
        self.standing == Standing::Assumed
    }

    /// Asks a server whose answers leave its era open for what only a modern one can tell, and keeps in mind what that
    /// tells of it. `None`: it left, which tells nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it tells the server that the request was cancelled.
    pub(crate) async fn is_modern_after_all(&mut self) -> Option<bool> {
        let modern = match discover(&self.peer).await {
            Ok(_) => true,
            Err(OpenError::HungUp) => return None,
            Err(error) => proves_modern(&error),
        };
        self.standing = if modern { Standing::Confirmed } else { Standing::Contradicted };
        Some(modern)
    }

    /// Asks, and waits for the outcome.
    ///
    /// # Cancel safety
    ///
    /// Dropping it tells the server that the request was cancelled, and drops a late answer.
    pub(crate) async fn ask(
        &mut self,
        ask: &Ask,
        trace: Option<&TraceContext>,
        telling: Telling,
        limit: usize,
    ) -> Result<Outcome, AskError> {
        if let Ask::List(kind) = ask {
            let listed = self.list(ask, *kind, trace, limit).await;
            // A list does nothing, so it may be asked twice; anything else is not.
            let again = listed.is_err() && self.questioned() && self.turn_legacy().await;
            return if again { self.list(ask, *kind, trace, limit).await } else { listed };
        }
        let token = (telling == Telling::Wanted).then(|| self.next_token());
        let result = self.request(ask, Extras { cursor: None, token, trace }).await?;
        let outcome = types::outcome(ask, result)?.map_err(AskError::Answered)?;
        // What else it says, where that is how it is pinged, was not asked for.
        let pinged = matches!(ask, Ask::Ping) && self.era == Era::Modern;
        Ok(if pinged { Outcome::Result(RawJson::empty_object()) } else { outcome })
    }

    /// Learns what a modern server says of itself; a legacy one has said it when it was opened.
    pub(crate) async fn introduce(&mut self) -> Result<(), OpenError> {
        if self.era == Era::Legacy || self.introduction.capabilities.is_some() {
            return Ok(());
        }
        match discover(&self.peer).await {
            Ok(introduction) => {
                self.introduction = Arc::new(introduction);
                self.standing = Standing::Confirmed;
                Ok(())
            }
            Err(OpenError::Refused { .. }) if self.unproven() && self.shake_hands().await => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens a server that was believed to be modern, and is not, as the legacy one that it may be: on the same pipe,
    /// for most servers take a late `initialize`. True: the session is a legacy one now.
    async fn turn_legacy(&mut self) -> bool {
        match tokio::time::timeout(RECONSIDER, self.is_modern_after_all()).await {
            Ok(Some(true)) => false,
            Ok(Some(false) | None) | Err(_) => self.shake_hands().await,
        }
    }

    /// True: the session is a legacy one now.
    async fn shake_hands(&mut self) -> bool {
        match open::initialize(&self.peer).await {
            Ok(Ok(session)) => {
                // Those that were given out are not given out again.
                *self = Self { tokens: self.tokens, ..session };
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    async fn list(
        &mut self,
        ask: &Ask,
        kind: ListKind,
        trace: Option<&TraceContext>,
        limit: usize,
    ) -> Result<Outcome, AskError> {
        let mut listed = Listed { items: Vec::new(), ttl: None };
        let (mut cursor, mut seen, mut bytes) = (None::<RawJson>, HashSet::new(), 0);
        for _ in 0..MOST_PAGES {
            let result = self.request(ask, Extras { cursor: cursor.as_ref(), token: None, trace }).await?;
            bytes += result.as_str().len();
            if bytes > limit {
                return Err(AskError::TooLarge { limit });
            }
            let page = types::page(kind, &result)?;
            listed.items.extend(page.items);
            if listed.items.len() > MOST_ITEMS {
                return Err(Unreadable(format!("a list of more than {MOST_ITEMS} items")).into());
            }
            // The list as a whole is as fresh as its least fresh page.
            listed.ttl = match (listed.ttl, page.ttl) {
                (Some(before), Some(now)) => Some(before.min(now)),
                (before, now) => now.or(before),
            };
            let Some(next) = page.next else { return Ok(Outcome::Listed(Arc::new(listed))) };
            if !seen.insert(next.as_str().to_owned()) {
                return Err(Unreadable(format!("the cursor {} leads back to itself", next.as_str())).into());
            }
            cursor = Some(next);
        }
        Err(Unreadable(format!("a list of more than {MOST_PAGES} pages")).into())
    }

    async fn request(&mut self, ask: &Ask, extras: Extras<'_>) -> Result<RawJson, AskError> {
        let params = types::params(ask, self.era, extras);
        let reply = InFlight::new(&self.peer, types::method_in(self.era, ask), &params).answer().await?;
        self.judge(&reply);
        match reply {
            Reply::Result(result) => Ok(result),
            Reply::Error(error) => Err(AskError::Answered(types::error(ask, error))),
            Reply::Malformed(why) => Err(Unreadable(format!("an answer that is not readable: {why}")).into()),
        }
    }

    /// Looks at an answer for what it tells of the era, until one has told.
    fn judge(&mut self, reply: &Reply) {
        if let Reply::Result(result) = reply
            && self.introduction.server_info.is_none()
            && let Some(info) = types::server_info(result)
        {
            Arc::make_mut(&mut self.introduction).server_info = Some(info);
        }
        if matches!(self.standing, Standing::Confirmed | Standing::Contradicted) {
            return;
        }
        self.standing = match reply {
            Reply::Result(result) if types::is_modern(result) => Standing::Confirmed,
            // The codes that the modern revision has brought; but one that does not speak it is as good as legacy.
            Reply::Error(error) if matches!(error.code, -32021 | -32020) => Standing::Confirmed,
            Reply::Error(error) if error.code == -32022 => Standing::Contradicted,
            Reply::Error(_) => Standing::Questioned,
            Reply::Result(_) | Reply::Malformed(_) => Standing::Contradicted,
        };
    }

    fn next_token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }
}

/// The number of the line that is told by the params of `notifications/progress`.
pub(crate) fn line_of(params: &RawJson) -> Option<u64> {
    types::progress_token(params).map(|token| token >> TOKENS_OF_A_LINE)
}

/// A request on its way. Dropped before its answer, it is cancelled (`notifications/cancelled`). `initialize` must
/// never be, and is not asked through this.
struct InFlight<'a> {
    peer: &'a Peer,
    question: Question,
    answered: bool,
}

impl<'a> InFlight<'a> {
    fn new(peer: &'a Peer, method: &str, params: &Members) -> Self {
        Self { peer, question: peer.ask(method, params), answered: false }
    }

    async fn answer(mut self) -> Result<Reply, HungUp> {
        let reply = self.question.answer().await;
        self.answered = true;
        reply
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let id = ("requestId".to_owned(), RawJson::of(&self.question.id()));
            self.peer.notify("notifications/cancelled", &vec![id]);
        }
    }
}

#[cfg(test)]
#[path = "mcp/tests.rs"]
mod tests;
