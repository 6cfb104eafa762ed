//! Where a call's server comes from, and where it goes: the trait [`Strategy`], the type [`Lease`].
//!
//! The promise that every strategy keeps: a lease is an opened server that answers nobody else meanwhile, or under `shared`
//! nobody else's questions to this call; every lease
//! is ended, and returns when its tree is dead or back where it came from, to be kept for another call; a lease that fails hands back its half-born
//! server, to be ended alike; `drain` returns when nothing is alive that the strategy owns. A server that waits for its
//! call has a seat already, so such a call needs none: docs/decisions/seats-of-standbys.md.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

mod fresh;
mod pace;
mod pooled;
mod prewarmed;
mod shared;
mod shelf;

pub(crate) use fresh::Fresh;
pub(crate) use pooled::{Pooled, Reuse};
pub(crate) use prewarmed::{Prewarmed, Standby};
pub(crate) use shared::{Shared, TreeDoor};
pub(crate) use shelf::Shelf;

use crate::deadline::EarlyEnd;
use crate::exchange::{
    About, Ask, CallError, Credentials, Demand, Events, Introduction, Kept, ListKind, Origin, Outcome,
    Process, Seat, Times, TraceContext,
};
use crate::instance::{HalfBorn, Instance};

/// Who gets which server.
pub(crate) trait Strategy: Send + Sync {
    /// Its name in configuration, listings and figures.
    fn name(&self) -> &'static str;

    /// What can be told without starting anything.
    fn about(&self) -> About;

    /// A live, opened server for one call. The seat goes with the tree.
    fn lease<'a>(&'a self, seat: Seat, end: &'a EarlyEnd) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>>;

    /// The same for a call that brings variables for its process. Only `fresh` can give them: elsewhere the process is
    /// there already, which is why no other strategy can be configured beside `header_env`.
    fn lease_with<'a>(
        &'a self,
        seat: Seat,
        _credentials: &'a Credentials,
        end: &'a EarlyEnd,
    ) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>> {
        self.lease(seat, end)
    }

    /// A number that is another one once a server that is kept has said that it lists something else now.
    fn list_revision(&self, _kind: ListKind) -> u64 {
        0
    }

    /// The servers that wait for a call, if it keeps any.
    fn shelf(&self) -> Option<&Arc<Shelf>> {
        None
    }

    /// From now on servers may be started before anybody asks for them.
    fn open(&self) {}

    /// From now on nothing is started but what is leased.
    fn close(&self);

    /// Ends whatever the strategy itself keeps alive. No lease is asked for any more.
    fn drain(&self) -> BoxFuture<'_, ()>;
}

/// Where a leased server goes afterwards.
trait Home: Send + Sync {
    /// Takes it back after a call, to keep it for others; what is not kept must be ended.
    fn keep(self: Arc<Self>, lease: Box<Exclusive>) -> Result<Kept, Box<Exclusive>> {
        Err(lease)
    }

    /// Ends it.
    fn end(self: Arc<Self>, lease: Box<Exclusive>) -> BoxFuture<'static, Process>;
}

/// A call's use of one server.
pub(crate) enum Lease {
    /// Nobody else has it meanwhile.
    Exclusive(Box<Exclusive>),
    /// Others ask it at the same time.
    Shared(Box<shared::Use>),
}

/// An opened server, for one call at a time.
pub(crate) struct Exclusive {
    instance: Instance,
    home: Arc<dyn Home>,
    origin: Origin,
    /// When it was opened.
    born: Instant,
    /// How many calls it has had, this one included.
    calls: u64,
    /// Those who may want its seat for another server.
    wanted: Option<Demand>,
    /// It was asked something to which it gave no answer; whatever it does now, nobody else should see.
    broken_off: bool,
    counted: Option<pooled::Counted>,
    giving: Option<shelf::Giving>,
}

impl Lease {
    /// Where the time of the start went, as far as this call had to wait for it.
    pub(crate) fn times(&self) -> Times {
        match self {
            Self::Exclusive(lease) => lease.times(),
            Self::Shared(lease) => lease.times(),
        }
    }

    /// What the server said of itself so far.
    pub(crate) fn introduction(&self) -> &Arc<Introduction> {
        match self {
            Self::Exclusive(lease) => lease.instance.introduction(),
            Self::Shared(lease) => lease.introduction(),
        }
    }

    /// Has the server say what it is.
    pub(crate) async fn introduce(&mut self, end: &EarlyEnd) -> Result<(), CallError> {
        match self {
            Self::Exclusive(lease) => lease.introduce(end).await,
            // It has done so before anybody got it.
            Self::Shared(_) => Ok(()),
        }
    }

    /// The first lines that it has written to stdout and that are no messages.
    pub(crate) fn noise(&self) -> &[String] {
        match self {
            Self::Exclusive(lease) => lease.instance.noise(),
            // Whose they are, of all who ask it, nobody could say.
            Self::Shared(_) => &[],
        }
    }

    /// Puts one question to it.
    pub(crate) async fn ask(
        &mut self,
        ask: &Ask,
        trace: Option<&TraceContext>,
        events: Option<&Events>,
        end: &EarlyEnd,
    ) -> Result<Outcome, CallError> {
        match self {
            Self::Exclusive(lease) => {
                let asked = lease.instance.ask(ask, trace, events, end).await;
                lease.broken_off |= asked.as_ref().is_err_and(|error| !error.is_an_answer());
                asked
            }
            Self::Shared(lease) => lease.ask(ask, trace, events, end).await,
        }
    }

    /// Gives it back, if others may have it; this takes no time, so that whoever has the answer finds it free. What is
    /// not taken back must be ended.
    pub(crate) fn give_back(self) -> Result<Kept, Self> {
        match self {
            Self::Exclusive(lease) => Arc::clone(&lease.home).keep(lease).map_err(Self::Exclusive),
            Self::Shared(lease) => lease.give_back().map_err(Self::Shared),
        }
    }

    /// Ends it, and says what became of it.
    pub(crate) async fn end(self) -> Process {
        match self {
            Self::Exclusive(lease) => lease.dismiss().await,
            Self::Shared(lease) => lease.end().await,
        }
    }
}

impl Exclusive {
    /// A server that was started for a call, and goes to `home` after it. Its seat may be wanted by those in `wanted`.
    fn new(instance: Instance, home: Arc<dyn Home>, wanted: Option<Demand>) -> Self {
        let (origin, born) = (Origin::New, Instant::now());
        Self {
            instance,
            home,
            origin,
            born,
            calls: 1,
            wanted,
            broken_off: false,
            counted: None,
            giving: None,
        }
    }

    fn times(&self) -> Times {
        match self.origin {
            Origin::New => self.instance.times(),
            origin @ (Origin::Standby | Origin::Pooled | Origin::Shared) => {
                Times { open: Some(Duration::ZERO), origin, ..Times::default() }
            }
        }
    }

    async fn introduce(&mut self, end: &EarlyEnd) -> Result<(), CallError> {
        let introduced = self.instance.introduce(end).await;
        self.broken_off |= introduced.is_err();
        introduced
    }

    /// Ends it, whatever it could still be used for.
    async fn dismiss(self: Box<Self>) -> Process {
        Arc::clone(&self.home).end(self).await
    }
}

#[cfg(test)]
mod tests;
