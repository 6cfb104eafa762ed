//! The child's stdin: written to at once where there is room.
//!
//! The runtime believes that a new pipe is full until its event loop has said otherwise, which costs a round through
//! that loop, and often a hop to another thread, before the first byte. But a new pipe is empty. So each write is
//! tried first and waited for only if there was no room (`pipe(7)`: `O_NONBLOCK`, `EAGAIN`). Until then the event loop
//! is not even told of the pipe: an empty one is ready at once (`epoll_ctl(2)`), and a thread would wake to hear that.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::unix::pipe::Sender;

/// The write end of a child's stdin; dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Stdin {
    pipe: OwnedFd,
    /// The same pipe as the event loop knows it, once there was no room.
    watched: Option<Sender>,
}

impl Stdin {
    /// Takes the write end of a pipe, and makes it non-blocking; the other end stays as it is.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, watched: None })
    }

    /// How many bytes of what was written the child has not read yet; `None`: the kernel does not say. (A pipe tells
    /// either of its ends: `FIONREAD`, `pipe(7)`.)
    pub(crate) fn unread(&self) -> Option<u64> {
        rustix::io::ioctl_fionread(&self.pipe).ok()
    }

    /// Waits until nobody has the other end any more; until then it costs nothing (`epoll_ctl(2)`: `EPOLLERR` is told
    /// unasked, and once). It does not keep the pipe from being closed for longer than it is itself kept.
    ///
    /// # Errors
    ///
    /// The event loop cannot watch the pipe.
    pub(crate) fn no_reader(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let pipe = self.pipe.try_clone()?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe for types that lie about their descriptor; this is one"
        )]
        let watched = AsyncFd::with_interest(pipe, Interest::ERROR)?;
        Ok(async move { drop(watched.ready(Interest::ERROR).await) })
    }

    /// Whether nobody has the other end any more, as after an exit (`POLLERR`, `poll(2)`): known at once, before any
    /// other sign of it has come.
    pub(crate) fn has_no_reader(&self) -> bool {
        let mut ends = [PollFd::new(&self.pipe, PollFlags::empty())];
        matches!(rustix::event::poll(&mut ends, Some(&Timespec::default())), Ok(1..))
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { pipe, watched } = self.get_mut();
        // A peer that always has room must not keep this task from its other work.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        match rustix::io::write(&*pipe, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => {
                let watched = match watched {
                    Some(watched) => watched,
                    none => none.insert(Sender::from_owned_fd(pipe.try_clone()?)?),
                };
                Pin::new(watched).poll_write(cx, bytes)
            }
            written => {
                budget.made_progress();
                Poll::Ready(written.map_err(io::Error::from))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping it is what closes it.
        Poll::Ready(Ok(()))
    }
}
