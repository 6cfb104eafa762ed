//! A throw-away sibling that shows which era a server speaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Body, BrokenOff, Server};
use crate::child::spec::Teardown;
use crate::child::{Ladder, Lesson};
use crate::deadline::{EarlyEnd, Reason};
use crate::exchange::Seat;
use crate::mcp;
use crate::mcp::era::Era;

/// How long a sibling may take to show whether it knows `server/discover`; and how many times as long as the server
/// took to open, if that is longer: on a busy machine a slow starter must not be taken for a silent one.
const PROBE: (Duration, u32) = (Duration::from_secs(5), 4);

/// Learns with a throw-away sibling whether a server that took `initialize` knows `server/discover` too: then it is
/// asked without a handshake from now on. Returns when the sibling is dead.
pub(crate) async fn probe(server: &Arc<Server>, seat: Seat, end: &EarlyEnd) {
    let Ok(born) = server.nursery.bear(&server.spec, seat).await else { return };
    let mut body = Body::new(server, born);
    // What was never there cannot have refused anything.
    if body.child.started().await.is_err() {
        body.end().await;
        return;
    }
    let peer = body.peer.clone();
    let (least, times) = PROBE;
    let patience =
        least.max(Duration::from_millis(server.opening.load(Ordering::Relaxed)).saturating_mul(times));
    let found = body.converse(mcp::discover(&peer), &end.within(patience)).await;
    let wanted = matches!(found, Err(BrokenOff::Early(Reason::CallerGone)));
    let era = match found {
        Ok(Ok(_)) => Some(Era::Modern),
        Ok(Err(error)) if mcp::proves_modern(&error) => Some(Era::Modern),
        // It refused or left, as legacy servers do.
        Ok(Err(_)) | Err(BrokenOff::Exited | BrokenOff::Deaf) => Some(Era::Legacy),
        // It kept silent, as some do; but it may just have been slow.
        Err(BrokenOff::Early(Reason::DeadlineExceeded)) => {
            server.verdicts.assume(body.key, Era::Legacy);
            None
        }
        // Nothing was learned.
        Err(BrokenOff::Early(_) | BrokenOff::Unreadable(_) | BrokenOff::NotUp { .. }) => None,
    };
    if let Some(era) = era {
        server.verdicts.record(body.key, era);
    }
    body.lesson = Lesson::Ignore;
    if wanted {
        // Somebody waits for its seat.
        body.end_by(&Ladder::new(Teardown::Kill)).await;
    } else {
        body.end().await;
    }
}
