//! Sockets that listen, of whatever family and origin: bound by us, or handed over by whoever started us.
//!
//! ```text
//!   bind(127.0.0.1:5001) ------------> the kernel knows whether the address is taken
//!   bind(unix:PATH) --- under a lock of its directory: nobody at PATH answers? -> removed, bound, made private, listening
//!   Inherited::take() --- LISTEN_FDS --> as it is: its options, its file and its mode are its owner's affair
//! ```

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnix, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::fs::{FlockOperation, flock};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::address::Address;
use super::shared::{Socket, Stream};
use super::tls::Certificates;

/// How many connections the kernel keeps for us until we accept them.
pub(super) const BACKLOG: u32 = 1024;
/// A connection on which nothing was said for the first of these is asked whether its peer still lives, so often, and
/// so many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 4);
/// How often, and with which pauses, the lock of a socket's directory is asked for. It is held for a moment only.
const LOCKING: (u32, Duration) = (100, Duration::from_millis(20));

/// What sockets that we bind ourselves are to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Who may connect to a Unix socket: its file's mode.
    pub(crate) mode: u32,
    /// How long a peer may leave what we send unacknowledged, by its kernel (`TCP_USER_TIMEOUT`).
    pub(crate) unacknowledged: Duration,
}

/// A socket that listens, its connections not yet accepted.
#[derive(Debug)]
pub(crate) struct Listener {
    door: Door,
    address: Address,
    tls: Option<Arc<Certificates>>,
    owner: Owner,
}

#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Who sees to what waits at a socket when we stop, and to its file.
#[derive(Debug)]
enum Owner {
    /// We do.
    Us(Option<SocketFile>),
    /// Whoever handed it over: it goes on listening without us, and the next gateway accepts who waits.
    Starter,
}

impl Listener {
    /// Listens at `address`; port 0 picks a free one.
    pub(crate) fn bind(address: &Address, manner: Manner) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Self::tcp(*address, manner),
            Address::Unix(path) => {
                let (listener, file) = unix(path, manner.mode)?;
                let (address, owner) = (Address::Unix(path.clone()), Owner::Us(Some(file)));
                Ok(Self { door: Door::Unix(listener), address, tls: None, owner })
            }
        }
    }

    fn tcp(address: SocketAddr, manner: Manner) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit these, so that they cost no call each.
        socket.set_keepalive(true)?;
        sockopt::set_tcp_keepidle(&socket, KEEPALIVE.0)?;
        sockopt::set_tcp_keepintvl(&socket, KEEPALIVE.1)?;
        sockopt::set_tcp_keepcnt(&socket, KEEPALIVE.2)?;
        // Not everything that looks like this kernel knows it (gVisor, for one); the stall of a write is timed above, too.
        let millis = u32::try_from(manner.unacknowledged.as_millis()).unwrap_or(u32::MAX);
        let _ = sockopt::set_tcp_user_timeout(&socket, millis);
        socket.set_nodelay(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = Address::Tcp(listener.local_addr()?);
        Ok(Self { door: Door::Tcp(listener), address, tls: None, owner: Owner::Us(None) })
    }

    /// The same; over TCP, with TLS. A Unix socket leads nowhere where anybody could listen in.
    pub(crate) fn with_tls(self, certificates: &Arc<Certificates>) -> Self {
        let tls = matches!(self.door, Door::Tcp(_)).then(|| Arc::clone(certificates));
        Self { tls, ..self }
    }

    /// Where it listens, the real port included.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// The certificates of one that speaks TLS.
    pub(crate) const fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.tls.as_ref()
    }

    /// The address that browsers and the like can speak plain HTTP to.
    pub(crate) const fn plain(&self) -> Option<SocketAddr> {
        match (&self.address, &self.tls) {
            (Address::Tcp(address), None) => Some(*address),
            _ => None,
        }
    }

    /// The next connection.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost when this is dropped.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match &self.door {
            Door::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| self.socket(Stream::Tcp { stream, peer }))
            }
            Door::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| self.socket(Stream::Unix(stream)))
            }
        }
    }

    fn socket(&self, stream: Stream) -> Socket {
        Socket::new(stream, &self.address)
    }

    /// Accepts nobody any more but who has connected already, as the kernel says: asked through the runtime, the socket
    /// might seem to have none until the next event. Each is given to `welcome`. Then closes the socket, which would
    /// reset those who wait.
    pub(super) fn close(self, mut welcome: impl FnMut(Socket)) -> io::Result<()> {
        let Self { door, address, owner, .. } = self;
        let Owner::Us(file) = owner else { return Ok(()) };
        // First, so that nobody can connect any more, and while we listen, so that nobody takes it for a dead one's.
        drop(file);
        let next: Box<dyn Fn() -> io::Result<Stream>> = match door {
            Door::Tcp(listener) => {
                let listener = listener.into_std()?;
                Box::new(move || {
                    let (stream, peer) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok(Stream::Tcp { stream: tokio::net::TcpStream::from_std(stream)?, peer })
                })
            }
            Door::Unix(listener) => {
                let listener = listener.into_std()?;
                Box::new(move || {
                    let (stream, _) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok(Stream::Unix(tokio::net::UnixStream::from_std(stream)?))
                })
            }
        };
        // No more than can have waited when we stopped; the kernel lets one more in than it was told.
        for _ in 0..=BACKLOG {
            match next() {
                Ok(stream) => welcome(Socket::new(stream, &address)),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// As it is announced: `http://127.0.0.1:5001`, `https://...`, `unix:/run/spawnling.sock`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.address, &self.tls) {
            (Address::Unix(_), _) => "",
            (Address::Tcp(_), None) => "http://",
            (Address::Tcp(_), Some(_)) => "https://",
        };
        write!(f, "{scheme}{}", self.address)
    }
}

/// The peer gave up before it was accepted: `accept(2)` reports that too.
pub(super) fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// The file of a Unix socket of ours. Removed when this is dropped, if it is still the same.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at a path. A dead gateway's socket is replaced, a living one's never. Nobody can connect before the mode is
/// set: until `listen(2)` the kernel refuses everybody.
fn unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    // Between looking and binding no other gateway may do the same.
    let _lock = lock_directory_of(path)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => match StdUnixStream::connect(path) {
            // Nobody listens (`unix(7)`).
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Ok(_) | Err(_) => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
            }
        },
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile { path: path.to_owned(), identity: SocketFile::identity(path)? };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, file))
}

fn lock_directory_of(path: &Path) -> io::Result<File> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    for _ in 1..LOCKING.0 {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCKING.1),
            done => return done.map(|()| directory).map_err(Into::into),
        }
    }
    flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory)
}

/// Sockets that whoever started us has opened for us: `sd_listen_fds(3)`.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<Handed>);

#[derive(Debug)]
enum Handed {
    Tcp(std::net::TcpListener),
    Unix(StdUnix),
}

impl Inherited {
    /// Takes them, and the variables that say so. To be called once, before there are threads that read variables.
    pub(crate) fn take() -> io::Result<Self> {
        // Ours only if it says so: the variables of a parent that did not clear them are not about us.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Self::default());
        }
        let mut handed = ListenFd::from_env();
        let mut all = Vec::with_capacity(handed.len());
        for index in 0..handed.len() {
            let one = match handed.take_tcp_listener(index) {
                Ok(listener) => listener.map(Handed::Tcp),
                Err(_) => handed.take_unix_listener(index)?.map(Handed::Unix),
            };
            all.extend(one);
        }
        Ok(Self(all))
    }

    /// Them, ready to be served.
    pub(crate) fn listeners(self) -> io::Result<Vec<Listener>> {
        self.0.into_iter().map(Handed::listener).collect()
    }
}

impl Handed {
    fn listener(self) -> io::Result<Listener> {
        let (door, address) = match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let address = Address::Tcp(listener.local_addr()?);
                (Door::Tcp(TcpListener::from_std(listener)?), address)
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
                (Door::Unix(UnixListener::from_std(listener)?), Address::Unix(path))
            }
        };
        Ok(Listener { door, address, tls: None, owner: Owner::Starter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANNER: Manner = Manner { mode: 0o600, unacknowledged: Duration::from_secs(45) };

    fn at(path: &Path) -> io::Result<Listener> {
        Listener::bind(&Address::Unix(path.to_owned()), MANNER)
    }

    #[tokio::test]
    async fn an_accepted_connection_has_every_option() {
        let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".parse().unwrap()), MANNER).unwrap();
        let _caller = tokio::net::TcpStream::connect(listener.plain().unwrap()).await.unwrap();
        let socket = listener.accept().await.unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 45_000);
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE.0);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), KEEPALIVE.1);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE.2);
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(StdUnix::bind(&path).unwrap());
        assert!(path.exists(), "it is dead, and its file is there");
        let first = at(&path).expect("it is replaced");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(at(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        StdUnixStream::connect(&path).expect("the living one still listens");
        first.close(drop).unwrap();
        assert!(!path.exists(), "it takes its file with it");
        fs::write(&path, "precious").unwrap();
        assert_eq!(at(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_file_of_whoever_came_later_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = at(&path).unwrap();
        first.close(drop).unwrap();
        StdUnixStream::connect(&path).expect("the second one is there");
    }
}
