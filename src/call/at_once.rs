//! A task that wakes itself goes on at once.
//!
//! The reader of a conversation and whoever waits for its answers are one task. So the task wakes itself whenever the one
//! has something for the other, and the runtime then puts it at the end of a queue, from where another thread fetches it:
//! two threads woken, and the answer carried to the other processor, for nothing. Here a task that was woken while it ran
//! is polled again instead. Not for ever: others want to run too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// How often in a row a task goes on by its own waking, at most.
const IN_A_ROW: usize = 8;

/// Remembers a wake while the task runs, and passes it on when it does not.
struct Bell {
    running: AtomicBool,
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        // Whoever runs looks at `rung` after it has said that it runs no more.
        if !self.running.load(Ordering::SeqCst) {
            self.task.wake_by_ref();
        }
    }
}

/// Does `work`. It is boxed so that it is moved but once: a future that holds another as an argument and awaits it has
/// room for it twice, and is copied as a whole when it is spawned.
///
/// # Cancel safety
///
/// That of `work`.
pub(super) async fn at_once<F: Future>(mut work: Pin<Box<F>>) -> F::Output {
    let mut bell: Option<Arc<Bell>> = None;
    std::future::poll_fn(move |cx| {
        let bell = match bell.take().filter(|bell| bell.task.will_wake(cx.waker())) {
            Some(same) => bell.insert(same),
            None => bell.insert(Arc::new(Bell {
                running: AtomicBool::new(true),
                rung: AtomicBool::new(false),
                task: cx.waker().clone(),
            })),
        };
        let waker = Waker::from(Arc::clone(bell));
        for _ in 0..IN_A_ROW {
            bell.running.store(true, Ordering::SeqCst);
            // With what was done before that wake, which the next poll is to see.
            bell.rung.swap(false, Ordering::SeqCst);
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                return polled;
            }
            bell.running.store(false, Ordering::SeqCst);
            if !bell.rung.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll_once(work: impl Future<Output = u32>) -> (Poll<u32>, usize) {
        let wakes = Arc::new(Wakes::default());
        let mut work = std::pin::pin!(at_once(Box::pin(work)));
        let polled = work.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&wakes))));
        (polled, wakes.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_task_that_answers_itself_wakes_nobody() {
        let (tell, told) = oneshot::channel();
        let work = async {
            let mut tell = Some(tell);
            tokio::select! {
                biased;
                answer = told => answer.unwrap(),
                () = std::future::poll_fn(|_| {
                    if let Some(tell) = tell.take() {
                        tell.send(7).unwrap();
                    }
                    Poll::Pending
                }) => 0,
            }
        };
        assert_eq!(poll_once(work), (Poll::Ready(7), 0));
    }

    #[test]
    fn a_task_that_wakes_itself_for_ever_lets_others_run() {
        let work = std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(poll_once(work), (Poll::Pending, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_elsewhere_is_lost() {
        for _ in 0..2_000 {
            let (tell, told) = oneshot::channel();
            let telling = tokio::task::spawn_blocking(move || tell.send(7));
            assert_eq!(at_once(Box::pin(told)).await, Ok(7));
            telling.await.unwrap().unwrap();
        }
    }
}
