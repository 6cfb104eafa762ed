//! What tells us to stop, and what tells us to read the configuration again.
//!
//! To stop: SIGTERM from supervisors, SIGINT and SIGQUIT from keyboards, SIGHUP from a terminal that is closed. By
//! default each of them would end us on the spot, and our servers would be nobody's. SIGHUP from anybody else is what a
//! daemon is told to read its files again by, systemd's `ExecReload=kill -HUP $MAINPID` for example.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that come.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    /// Whether there is anything to be read again.
    readable: bool,
    /// Whether there was a terminal that might be closed.
    terminal: bool,
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Stop,
    Reload,
}

impl Signals {
    /// From now on no signal ends us on the spot. `readable`: SIGHUP may mean to read files again.
    pub(super) fn new(readable: bool) -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            readable,
            terminal: io::stdin().is_terminal(),
        })
    }

    /// What we are told next.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no signal.
    pub(super) async fn told(&mut self) -> Told {
        tokio::select! {
            _ = self.term.recv() => Told::Stop,
            _ = self.int.recv() => Told::Stop,
            _ = self.quit.recv() => Told::Stop,
            _ = self.hup.recv() => self.by_hangup(),
        }
    }

    /// Returns when we are told to stop.
    pub(super) async fn stop(&mut self) {
        while self.told().await == Told::Reload {}
    }

    /// A terminal that has been closed is none any more (`tty_ioctl(4)`: EIO); one whose keyboard somebody sits at is.
    fn by_hangup(&self) -> Told {
        let closed = self.terminal && !io::stdin().is_terminal();
        if self.readable && !closed { Told::Reload } else { Told::Stop }
    }
}
