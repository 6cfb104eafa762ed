//! Where a call's server comes from, and where it goes: the trait [`Strategy`], the type [`Lease`].
//!
//! The promise that every strategy keeps: a lease is an opened server that answers nobody else meanwhile; every lease
//! is ended, and returns when its tree is dead or back where it came from; a lease that fails hands back its half-born
//! server, to be ended alike; `drain` returns when nothing is alive that the strategy owns. A server that waits for its
//! call has a seat already, so such a call needs none: docs/decisions/seats-of-standbys.md.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

mod fresh;
mod pace;
mod prewarmed;
mod shelf;

pub(crate) use fresh::Fresh;
pub(crate) use prewarmed::{Prewarmed, Standby};
pub(crate) use shelf::Shelf;

use crate::deadline::EarlyEnd;
use crate::exchange::{About, Ask, CallError, Events, Introduction, Origin, Outcome, Receipt, Seat, Times};
use crate::instance::{HalfBorn, Instance};

/// Who gets which server.
pub(crate) trait Strategy: Send + Sync {
    /// What can be told without starting anything.
    fn about(&self) -> About;

    /// A live, opened server for one call. The seat goes with the tree.
    fn lease<'a>(&'a self, seat: Seat, end: &'a EarlyEnd) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>>;

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
    /// Takes it back: ends it, or keeps it.
    fn take_back(self: Arc<Self>, instance: Instance) -> BoxFuture<'static, Receipt>;
}

/// A call's use of one server.
pub(crate) struct Lease {
    instance: Instance,
    home: Arc<dyn Home>,
    origin: Origin,
}

impl Lease {
    /// Where the time of the start went, as far as this call had to wait for it.
    pub(crate) fn times(&self) -> Times {
        match self.origin {
            Origin::New => self.instance.times(),
            origin @ Origin::Standby => Times { open: Some(Duration::ZERO), origin, ..Times::default() },
        }
    }

    /// What the server said of itself so far.
    pub(crate) fn introduction(&self) -> &Arc<Introduction> {
        self.instance.introduction()
    }

    /// Has the server say what it is.
    pub(crate) async fn introduce(&mut self, end: &EarlyEnd) -> Result<(), CallError> {
        self.instance.introduce(end).await
    }

    /// Puts one question to it.
    pub(crate) async fn ask(
        &mut self,
        ask: &Ask,
        events: Option<&Events>,
        end: &EarlyEnd,
    ) -> Result<Outcome, CallError> {
        self.instance.ask(ask, events, end).await
    }

    /// Gives it back.
    pub(crate) async fn end(self) -> Receipt {
        self.home.take_back(self.instance).await
    }
}

#[cfg(test)]
mod tests;
