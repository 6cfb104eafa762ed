//! Progress and log notifications on their way to a caller who listens.
//!
//! A bounded queue between the one who reads the server and the one who writes to the caller. A slow reader costs
//! nobody anything: the oldest events are dropped and counted, the newest stay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, SetOnce};

use super::RawJson;

/// How many events wait at most.
const MOST_EVENTS: usize = 256;
/// How many bytes of events wait at most; one event alone may be larger.
const MOST_BYTES: usize = 1 << 20;

/// Something that a server told while it was working.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The params of `notifications/progress`, the token removed from sight by being ours.
    Progress(RawJson),
    /// The params of `notifications/message`.
    Log(RawJson),
}

impl Event {
    /// The bytes that it holds.
    fn size(&self) -> usize {
        match self {
            Self::Progress(params) | Self::Log(params) => params.as_str().len(),
        }
    }
}

/// Both ends of the queue; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
    leased: SetOnce<()>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    bytes: usize,
    dropped: u64,
}

impl Events {
    /// Adds one; where there is no room the oldest go.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.lock();
        queue.bytes += event.size();
        queue.waiting.push_back(event);
        while queue.waiting.len() > MOST_EVENTS || (queue.bytes > MOST_BYTES && queue.waiting.len() > 1) {
            let Some(oldest) = queue.waiting.pop_front() else { break };
            queue.bytes -= oldest.size();
            queue.dropped += 1;
        }
        drop(queue);
        self.0.arrived.notify_one();
    }

    /// The oldest that waits, if one does.
    pub(crate) fn try_next(&self) -> Option<Event> {
        let mut queue = self.lock();
        let event = queue.waiting.pop_front()?;
        queue.bytes -= event.size();
        Some(event)
    }

    /// The oldest, as soon as there is one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.0.arrived.notified().await;
        }
    }

    /// Says that the call has its server: what fails from now on fails after the lease.
    pub(crate) fn leased(&self) {
        // Said twice it is as true as said once.
        let _ = self.0.leased.set(());
    }

    /// Returns once the call has its server, be it long ago.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn until_leased(&self) {
        self.0.leased.wait().await;
    }

    /// How many were dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it; even then the queue would be whole.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        Event::Log(RawJson::parse(text.to_owned().into()).unwrap())
    }

    #[test]
    fn the_oldest_is_dropped_and_counted_when_nobody_reads() {
        let events = Events::default();
        for number in 0..MOST_EVENTS + 3 {
            events.push(event(&number.to_string()));
        }
        assert_eq!(events.dropped(), 3);
        let Some(Event::Log(first)) = events.try_next() else { panic!("an event waits") };
        assert_eq!(first.as_str(), "3");
    }

    #[tokio::test]
    async fn a_lease_is_known_to_those_who_ask_before_and_after() {
        let events = Events::default();
        let asked_before = events.clone();
        let ((), ()) = tokio::join!(asked_before.until_leased(), async { events.leased() });
        events.leased();
        events.until_leased().await;
    }

    #[test]
    fn many_bytes_push_out_the_oldest_but_never_the_newest() {
        let events = Events::default();
        let large = format!("{:?}", "x".repeat(MOST_BYTES));
        events.push(event("1"));
        events.push(event(&large));
        assert_eq!(events.dropped(), 1);
        assert!(events.try_next().is_some());
        assert!(events.try_next().is_none());
    }
}
