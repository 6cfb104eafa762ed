//! What is left of a start that failed, and must be ended like any other server.

use futures_util::future::BoxFuture;

use super::Body;
use crate::exchange::{CallError, Receipt, Times};

/// What is left of a start that failed; it must be ended too.
pub(crate) struct HalfBorn {
    error: CallError,
    times: Times,
    stillborn: Stillborn,
}

/// The process of a start that failed.
pub(crate) struct Stillborn(Left);

/// What there is of it.
enum Left {
    /// It never came so far.
    Nothing,
    Here(Box<Body>),
    /// Somebody else ends it, and this tells how that went.
    Elsewhere(BoxFuture<'static, Option<Receipt>>),
}

impl HalfBorn {
    /// Why it failed.
    pub(crate) const fn error(&self) -> &CallError {
        &self.error
    }

    /// A start that failed with this error, and left this.
    pub(crate) const fn new(error: CallError, times: Times, stillborn: Stillborn) -> Self {
        Self { error, times, stillborn }
    }

    /// Why it failed and where the time went, for the caller; and what must be ended.
    pub(crate) fn into_parts(self) -> (CallError, Times, Stillborn) {
        (self.error, self.times, self.stillborn)
    }
}

impl Stillborn {
    /// There was no process.
    pub(crate) const fn nothing() -> Self {
        Self(Left::Nothing)
    }

    /// It is here.
    pub(super) fn here(body: Body) -> Self {
        Self(Left::Here(Box::new(body)))
    }

    /// Somebody else ends it, and this tells how that went.
    pub(crate) fn elsewhere(end: BoxFuture<'static, Option<Receipt>>) -> Self {
        Self(Left::Elsewhere(end))
    }

    /// Ends what there is of it. `None`: no process was started.
    pub(crate) async fn end(self) -> Option<Receipt> {
        match self.0 {
            Left::Nothing => None,
            // Boxed, for it is large and few calls come here.
            Left::Here(body) => Some(Box::pin(body.end()).await.receipt),
            Left::Elsewhere(end) => end.await,
        }
    }
}
