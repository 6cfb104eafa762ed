//! What answers now: another may take its place while requests go on, each of which keeps what it began with.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::{Request, Response};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Body, Ends, Service};

/// The service of the moment.
pub(crate) struct Live(RwLock<Arc<Held>>);

struct Held {
    service: Service,
    /// Cancelled with the last request that is answered by it, once it was replaced.
    unused: DropGuard,
}

impl Held {
    fn new(service: Service) -> Arc<Self> {
        Arc::new(Self { service, unused: CancellationToken::new().drop_guard() })
    }
}

impl Live {
    /// Begins with this one.
    pub(crate) fn new(service: Service) -> Self {
        Self(RwLock::new(Held::new(service)))
    }

    /// Every request that comes from now on is answered by `service`. The token is cancelled when the last one that came
    /// before has its answer, or the beginning of a stream.
    pub(crate) fn replace(&self, mut service: Service) -> CancellationToken {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // What is on its way is counted by the one that has begun it.
        service.config.budget = now.service.config.budget.clone();
        let before = std::mem::replace(&mut *now, Held::new(service));
        before.unused.token().clone()
    }

    /// Settings that hold for as long as connections are accepted.
    pub(super) fn config(&self) -> super::Config {
        self.now().service.config.clone()
    }

    /// As [`Service::answer`].
    ///
    /// # Cancel safety
    ///
    /// Dropping this hangs up on whatever the request had started.
    pub(super) async fn answer<B>(&self, ends: Ends, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        let held = self.now();
        held.service.answer(ends, request).await
    }

    fn now(&self) -> Arc<Held> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
