//! Where can be listened. Pure.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a Unix socket's path is told from other addresses by.
pub(crate) const UNIX: &str = "unix:";

/// An address to listen on, as it is written: `127.0.0.1:5001`, `unix:/run/spawnling.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Whoever reaches this address of the machine.
    Tcp(SocketAddr),
    /// Whoever may write to this socket. The path is absolute.
    Unix(PathBuf),
}

impl Address {
    /// Whether only processes of this machine can reach it.
    pub(crate) const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}
