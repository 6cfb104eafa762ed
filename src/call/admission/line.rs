//! Who is next: principals in turn, and whoever came first among the calls of one.
//!
//! Whoever is called has the turn until the place is given up; then the next is called. So a principal with many calls
//! waits for its own, and one with a single call never for more than one of each other's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::auth::Principal;
use crate::exchange::Turns;

/// A line of calls. Clones are the same line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    waiting: Turns<Waiting>,
    /// Whose turn it is.
    called: Option<u64>,
    tickets: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    /// Dropped: sent away.
    call: oneshot::Sender<()>,
}

/// A place in a line; dropped, it is given up, and so is the turn.
#[derive(Debug)]
pub(super) struct Place {
    line: Line,
    ticket: u64,
    called: oneshot::Receiver<()>,
}

/// The place was given to somebody of whom fewer wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SentAway;

impl Line {
    /// Takes a place.
    pub(super) fn join(&self, principal: &Principal) -> Place {
        let mut line = self.lock();
        let (waiting, called) = line.ticket();
        let ticket = waiting.ticket;
        line.waiting.push(principal, waiting);
        line.call_next();
        Place { line: self.clone(), ticket, called }
    }

    /// Takes the place before all others: for whoever is to hold them up.
    pub(super) fn cut_in(&self) -> Place {
        let mut line = self.lock();
        let (waiting, called) = line.ticket();
        let ticket = waiting.ticket;
        line.waiting.push_front(waiting);
        line.call_next();
        Place { line: self.clone(), ticket, called }
    }

    /// Makes room for a call of this principal, where the line is too long: the last one is sent away of whoever has most
    /// in it. `false`: nobody has more than this principal would have itself.
    pub(super) fn make_room(&self, principal: &Principal) -> bool {
        // Dropped, it is sent away.
        self.lock().waiting.pop_for(principal).is_some()
    }

    fn leave(&self, ticket: u64) {
        let mut line = self.lock();
        if line.called == Some(ticket) {
            line.called = None;
            line.call_next();
            return;
        }
        line.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Nothing panics while holding it; even then the rows would be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn ticket(&mut self) -> (Waiting, oneshot::Receiver<()>) {
        let (call, called) = oneshot::channel();
        let ticket = self.tickets;
        self.tickets += 1;
        (Waiting { ticket, call }, called)
    }

    /// Gives the turn to whoever is next, if nobody has it.
    fn call_next(&mut self) {
        if self.called.is_some() {
            return;
        }
        if let Some(Waiting { ticket, call }) = self.waiting.pop() {
            self.called = Some(ticket);
            // Whoever does not hear it is about to give up the place, and the turn with it.
            let _ = call.send(());
        }
    }
}

impl Place {
    /// Returns when it is this one's turn.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped; the place is kept.
    pub(super) async fn turn(&mut self) -> Result<(), SentAway> {
        (&mut self.called).await.map_err(|_| SentAway)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.leave(self.ticket);
    }
}

#[cfg(test)]
impl Line {
    /// Whether nobody waits, and nobody has the turn.
    pub(super) fn is_empty(&self) -> bool {
        let line = self.lock();
        line.waiting.iter().next().is_none() && line.called.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::{Gate, Token};

    fn principals() -> Vec<Principal> {
        let tokens = ["token-of-a", "token-of-b", "token-of-c"];
        let gate = Gate::new(tokens.map(|value| Token::plain(&value[9..], value)));
        let named = tokens.map(|value| gate.identify(Some(value)).unwrap());
        named.into_iter().chain([Principal::anonymous()]).collect()
    }

    fn is_called(place: &mut Place) -> bool {
        futures_util::FutureExt::now_or_never(place.turn()) == Some(Ok(()))
    }

    /// Everybody who waits, in the order in which they are called; each goes at once.
    fn in_order(mut places: Vec<(usize, Place)>) -> Vec<(usize, u64)> {
        let mut order = Vec::new();
        while !places.is_empty() {
            let called = places.iter_mut().position(|(_, place)| is_called(place));
            let (who, place) = places.remove(called.expect("somebody has the turn"));
            order.push((who, place.ticket));
        }
        order
    }

    #[test]
    fn principals_take_turns_however_many_calls_each_has() {
        let (line, all) = (Line::default(), principals());
        let places = [0, 0, 0, 0, 1, 2, 2].map(|who| (who, line.join(&all[who])));
        let order: Vec<usize> = in_order(places.into()).into_iter().map(|(who, _)| who).collect();
        assert_eq!(order, [0, 0, 1, 2, 0, 2, 0]);
    }

    #[test]
    fn a_full_line_has_room_for_whoever_has_fewer_in_it() {
        let (line, all) = (Line::default(), principals());
        let _called = line.join(&all[0]);
        let [mut first, mut second, mut third] = [(); 3].map(|()| line.join(&all[0]));
        assert!(!line.make_room(&all[0]), "it would only take the place of its own");
        assert!(line.make_room(&all[1]));
        assert_eq!(futures_util::FutureExt::now_or_never(third.turn()), Some(Err(SentAway)));
        for place in [&mut first, &mut second] {
            assert_eq!(futures_util::FutureExt::now_or_never(place.turn()), None);
        }
        let _other = line.join(&all[1]);
        assert!(!line.make_room(&all[1]), "both have as many as they can");
    }

    proptest! {
        #[test]
        fn nobody_is_passed_over_and_nobody_is_lost(
            joining in prop::collection::vec((0_usize..4, prop::bool::weighted(0.2)), 0..60)
        ) {
            let (line, all) = (Line::default(), principals());
            let mut places = Vec::new();
            for (who, leaves) in joining {
                let place = line.join(&all[who]);
                if !leaves {
                    places.push((who, place));
                }
            }
            let count = places.len();
            let order = in_order(places);
            prop_assert_eq!(order.len(), count);
            for (at, (who, ticket)) in order.iter().enumerate() {
                let later = &order[at + 1..];
                // First come, first served, within one principal.
                prop_assert!(later.iter().all(|(other, after)| other != who || after > ticket));
                // Before the same is called again, so is everybody else who waits; but for the very first, who was
                // called before anybody else had come.
                let Some(again) = later.iter().position(|(other, _)| other == who) else { continue };
                if at > 0 {
                    for (other, _) in &later[again..] {
                        let between = later[..again].iter().any(|(between, _)| between == other);
                        prop_assert!(other == who || between, "{:?}", order);
                    }
                }
            }
            prop_assert!(line.is_empty());
        }
    }
}
