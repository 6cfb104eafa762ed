//! Work that may take time is done in a thread of its own, so that it holds up none of the runtime's.
//!
//! Not by `spawn_blocking`: that panics where the system gives no thread (`EAGAIN`, `pthread_create(3)`), and with it goes the
//! call. Here it is done by whoever asks, then.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

/// How many such threads there are at once. Each keeps some memory.
pub(crate) const MOST: usize = 4;
static ROOM: Semaphore = Semaphore::const_new(MOST);

/// Does `work` aside, and returns what it gives.
///
/// # Cancel safety
///
/// Dropping it before the work has begun leaves that undone; what has begun is done to its end.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _place = ROOM.acquire().await.expect("nobody closes the semaphore");
    let (tell, told) = oneshot::channel();
    // A thread that is not to be had does not give back what it was given.
    let work = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&work);
    let begun = std::thread::Builder::new().spawn(move || {
        if let Some(work) = taken(&theirs) {
            let _ = tell.send(work());
        }
    });
    match begun {
        Ok(_) => told.await.expect("such work does not panic"),
        Err(_) => taken(&work).expect("nobody else was given it")(),
    }
}

fn taken<F>(work: &Mutex<Option<F>>) -> Option<F> {
    work.lock().unwrap_or_else(PoisonError::into_inner).take()
}
