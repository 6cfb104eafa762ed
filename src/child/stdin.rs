//! The child's stdin: written to at once where there is room.
//!
//! The runtime believes that a new pipe is full until its event loop has said otherwise, which costs a round through
//! that loop, and often a hop to another thread, before the first byte. But a new pipe is empty. So each write is
//! tried first and waited for only if there was no room (`pipe(7)`: `O_NONBLOCK`, `EAGAIN`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::io::AsyncWrite;
use tokio::process::ChildStdin;

/// The write end of a child's stdin; dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Stdin(ChildStdin);

impl Stdin {
    /// Takes the pipe, which is not blocking: the runtime made it so.
    pub(super) const fn new(pipe: ChildStdin) -> Self {
        Self(pipe)
    }

    /// How many bytes of what was written the child has not read yet; `None`: the kernel does not say. (A pipe tells
    /// either of its ends: `FIONREAD`, `pipe(7)`.)
    pub(crate) fn unread(&self) -> Option<u64> {
        rustix::io::ioctl_fionread(&self.0).ok()
    }

    /// Whether nobody has the other end any more, as after an exit (`POLLERR`, `poll(2)`): known at once, before any
    /// other sign of it has come.
    pub(crate) fn has_no_reader(&self) -> bool {
        let mut ends = [PollFd::new(&self.0, PollFlags::empty())];
        matches!(rustix::event::poll(&mut ends, Some(&Timespec::default())), Ok(1..))
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A peer that always has room must not keep this task from its other work.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        match rustix::io::write(&self.0, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Pin::new(&mut self.0).poll_write(cx, bytes),
            written => {
                budget.made_progress();
                Poll::Ready(written.map_err(io::Error::from))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
