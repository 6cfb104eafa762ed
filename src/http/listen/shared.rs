//! One socket that is served and watched at the same time.
//!
//! hyper notices that a caller left only while nothing that it sent waits behind the request being answered. So
//! somebody else watches too, and needs the socket for it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

use super::address::Address;
use crate::http::Ends;

/// How often a socket with bytes behind the request being answered is looked at. Where there are none, hyper itself
/// takes the end of the caller's half for his leaving, and at once: who closes it right behind the request gets no
/// answer that takes any time.
const GLANCE: Duration = Duration::from_millis(40);

/// How long, and for how many bytes, a caller who is still sending is listened to after the last answer.
const LINGER: (Duration, u64) = (Duration::from_secs(1), 16 << 20);

/// The socket of one connection.
pub(super) struct Socket {
    stream: Stream,
    /// The address that was listened on.
    bound: Option<SocketAddr>,
}

/// What connections there are.
pub(super) enum Stream {
    Tcp { stream: TcpStream, peer: SocketAddr },
    Unix(UnixStream),
}

impl Socket {
    /// One that came to whoever listens at `bound`.
    pub(super) const fn new(stream: Stream, bound: &Address) -> Self {
        let bound = match bound {
            Address::Tcp(bound) => Some(*bound),
            Address::Unix(_) => None,
        };
        Self { stream, bound }
    }

    /// Makes it ready to be served, and says whom it joins.
    pub(super) fn settle(&self) -> io::Result<Ends> {
        let (Stream::Tcp { stream, peer }, Some(bound)) = (&self.stream, self.bound) else {
            return Ok(Ends::Unix);
        };
        // One that was handed over may not have it.
        stream.set_nodelay(true)?;
        Ok(Ends::Tcp { bound, local: stream.local_addr()?, peer: *peer })
    }

    /// The first byte that the peer sends, which stays to be read; `None`: it sends none.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let length = match &self.stream {
            Stream::Tcp { stream, .. } => stream.peek(&mut first).await?,
            // Nobody asks: there is no TLS there.
            Stream::Unix(_) => 0,
        };
        Ok((length > 0).then_some(first[0]))
    }

    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.ready(interest).await,
            Stream::Unix(stream) => stream.ready(interest).await,
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    fn try_read(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.try_read_buf(buf),
            Stream::Unix(stream) => stream.try_read_buf(buf),
        }
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.try_write(buf),
            Stream::Unix(stream) => stream.try_write(buf),
        }
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.try_write_vectored(bufs),
            Stream::Unix(stream) => stream.try_write_vectored(bufs),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp { stream, .. } => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A handle of a socket; the socket is closed with the last of them.
pub(super) struct Shared(pub(super) Arc<Socket>);

/// Returns when the peer has closed its half, or all, of the connection.
///
/// # Cancel safety
///
/// Nothing is lost when this is dropped, and nothing is read.
pub(super) async fn left(stream: &Socket) {
    // Where nothing is to be read this costs nothing; unread bytes behind a request cost a glance now and then.
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        tokio::time::sleep(GLANCE).await;
        if ready.is_read_closed() {
            return;
        }
    }
}

/// Closes a connection whose last answer was written.
///
/// An answer may be given before the request was read, as to a body that is too large. A socket that is closed with
/// unread bytes in it, or that receives more, is reset, and a reset takes the answer from a caller who writes before it
/// reads (RFC 9112, section 9.6). So only our half is closed, and what still comes is thrown away for a while.
///
/// # Cancel safety
///
/// Dropping this closes the socket.
pub(super) async fn linger(stream: Arc<Socket>) {
    if rustix::net::shutdown(&*stream, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let mut rest = Shared(stream).take(LINGER.1);
    let mut sink = tokio::io::sink();
    // Neither an error nor the end of patience matters any more.
    let _ = tokio::time::timeout(LINGER.0, tokio::io::copy(&mut rest, &mut sink)).await;
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            // Nothing is written to the buffer but what was read: the rest of its pages may never be needed.
            match self.0.try_read(buf) {
                Ok(_) => return Poll::Ready(Ok(())),
                // The readiness was stale, and is now cleared.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Shared {
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper drops the connection right after; [`linger`] closes the socket.
        Poll::Ready(Ok(()))
    }
}
