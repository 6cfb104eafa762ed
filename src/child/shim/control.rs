//! The keeper's end of the control channel: a stream socket, blocking.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};

use super::words::{MOST, MOST_DESCRIPTORS, ORDERS, Orders, Report, Step};

/// The way to the gateway and back.
pub(super) struct Control(UnixStream);

impl Control {
    /// Takes the socket that is our standard input, and leaves an empty file in its place.
    pub(super) fn from_stdin() -> io::Result<Self> {
        let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Ok(Self(socket.into()))
    }

    /// Waits for orders and what comes with them.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof`: the gateway has gone.
    pub(super) fn orders(&self) -> io::Result<(Orders, Vec<OwnedFd>)> {
        let descriptors = loop {
            // What was said to a tree that was gone by then.
            if let (ORDERS, descriptors) = self.first()? {
                break descriptors;
            }
        };
        let mut length = [0; 4];
        (&self.0).read_exact(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        (&self.0).read_exact(&mut bytes)?;
        let orders = Orders::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok((orders, descriptors))
    }

    /// The first byte of something; the descriptors come with it (`unix(7)`, `SCM_RIGHTS`).
    fn first(&self) -> io::Result<(u8, Vec<OwnedFd>)> {
        let mut byte = [0];
        let mut descriptors = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut byte)];
        let message = loop {
            match recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                done => break done?,
            }
        };
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = part {
                descriptors.extend(passed);
            }
        }
        if message.bytes == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((byte[0], descriptors)) }
    }

    /// Reads one order to a tree that is alive; `None`: the gateway has gone.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: there is none.
    pub(super) fn order(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let (read, _) = rustix::io::retry_on_intr(|| recv(&self.0, &mut byte, RecvFlags::DONTWAIT))?;
        Ok((read == 1).then_some(byte[0]))
    }

    /// Whoever reads orders from here on, in whatever process, reads that the gateway has gone (`shutdown(2)`). What is
    /// told still reaches it.
    pub(super) fn close_ear(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Read);
    }

    /// The gateway is dead, whoever else may hold its end: that is seen by all who look at this one, and nothing is told any
    /// more.
    pub(super) fn hang_up(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Tells the gateway.
    pub(super) fn tell(&self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report).map_err(io::Error::other)?;
        line.push(b'\n');
        // One write: two processes may speak at once, the keeper and its init.
        (&self.0).write_all(&line)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Report {
    /// What could not be done, and the kernel's reason.
    pub(super) fn failed(step: Step, error: &io::Error) -> Self {
        Self::Failed { step, errno: error.raw_os_error().unwrap_or(0) }
    }
}
