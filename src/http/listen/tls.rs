//! TLS on a connection, and the certificates that it shows, which may be exchanged while it serves.
//!
//! ```text
//!   first byte -- a handshake's --> handshake --> HTTP inside
//!              -- anything else --> an answer in plain HTTP that says what is spoken here, and the end
//! ```
//!
//! A handshake is part of its connection: it takes one of the places that `max_connections` counts, and must be done
//! within the time that a connection has for its first request. Files are looked at once a second, and read again when
//! they have changed and settled; what cannot be used changes nothing.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::dates;
use super::shared::{Shared, Socket};
use super::stall::Stalling;
use crate::aside::aside;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The first byte of every handshake: the type of its record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// What is spoken here, in order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// What somebody is told who speaks plain HTTP.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 53\r\nConnection: close\r\n\r\nThis address speaks TLS: use https:// instead of it.\n";

/// Where everything for TLS is read from, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// Our certificate, then those that lead from it to an authority.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// With it, nobody is let in without a certificate of one of these authorities.
    pub(crate) client_ca: Option<PathBuf>,
}

impl Files {
    fn stamps(&self) -> Vec<Stamp> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca).map(|file| stamp(file)).collect()
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: pem::Error },
    /// Certificate and key do not belong together, for example.
    #[error("cannot use the certificate {} with the key {}", cert.display(), key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
    /// An authority that cannot be one.
    #[error("cannot use the authorities in {}", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    /// None of them.
    #[error("cannot use the authorities in {}", path.display())]
    Authorities { path: PathBuf, source: VerifierBuilderError },
}

impl TlsError {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::File { source: pem::Error::Io(error), .. } => match error.kind() {
                io::ErrorKind::NotFound => {
                    "is that where it is? A relative path begins where the configuration file is"
                }
                io::ErrorKind::PermissionDenied => {
                    "let the user that the gateway runs as read it, by `chown` or `setfacl`, and nobody else if it is the key"
                }
                _ => "it has to be a file that can be read",
            },
            Self::File { source: pem::Error::NoItemsFound, .. } => {
                "in PEM it has `-----BEGIN CERTIFICATE-----`, or for a key `-----BEGIN PRIVATE KEY-----`: \
                 `openssl x509 -in FILE -inform der` writes a certificate so, and \
                 `openssl pkey -in FILE` a key, which it also rids of its passphrase"
            }
            Self::File { .. } => "the file is damaged or not whole: it begins like PEM and does not go on so",
            Self::Pair { source: rustls::Error::InconsistentKeys(_), .. } => {
                "they are of different pairs: take the key with which this certificate was asked for; and in its file the \
                 certificate stands before those that lead to its authority"
            }
            Self::Pair { .. } => {
                "an X.509 certificate, version 3, with a key of RSA, ECDSA or Ed25519 is wanted"
            }
            Self::Authority { .. } | Self::Authorities { .. } => {
                "it holds the certificates of the authorities that have signed those of your callers"
            }
        }
    }
}

/// What is shown to callers at the moment.
pub(crate) struct Certificates {
    files: Files,
    /// What they were before they were first read.
    known: Vec<Stamp>,
    doubts: Vec<String>,
    now: RwLock<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificates").field(&self.files).finish()
    }
}

impl Certificates {
    /// Reads them.
    pub(crate) fn load(files: Files) -> Result<Self, TlsError> {
        // Before they are read, so that a change during that is one to come.
        let known = files.stamps();
        let (now, doubts) = read(&files)?;
        Ok(Self { files, known, doubts, now: RwLock::new(Arc::new(now)) })
    }

    /// What keeps callers from taking what is shown, a line each, although it can be used.
    pub(crate) fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// Reads them again, for handshakes to come. An error changes nothing.
    fn reload(&self) -> Result<Vec<String>, TlsError> {
        let (next, doubts) = read(&self.files)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(doubts)
    }

    /// Reads them again whenever they have changed. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing but the time since the last look.
    pub(super) async fn watch(&self) {
        let mut known = self.known.clone();
        let mut last = known.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let seen = self.stamps().await;
            // Whoever writes them may not be done: they count once they have stayed so from one look to the next.
            let settled = seen == last;
            last.clone_from(&seen);
            if settled && seen != known {
                known = seen;
                self.read_again();
            }
        }
    }

    /// Reads them again, for handshakes to come, and says so. What cannot be used changes nothing.
    pub(crate) fn read_again(&self) {
        let cert = self.files.cert.display();
        match self.reload() {
            Ok(doubts) => {
                tracing::info!(%cert, "the certificate was read again and is in place");
                for doubt in doubts {
                    tracing::warn!("{doubt}");
                }
            }
            Err(error) => {
                let wrong = crate::exchange::fault::chain(&error);
                tracing::warn!(wrong, "the certificate cannot be used; the one before stays in place");
            }
        }
    }

    async fn stamps(&self) -> Vec<Stamp> {
        let files = self.files.clone();
        // A file system of the network may take its time.
        aside(move || files.stamps()).await
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What shows that a file is another: device, inode, size, and when it was changed; `None`: there is none.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(file: &Path) -> Stamp {
    let meta = file.metadata().ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// What is shown from now on, and what is doubtful about it.
fn read(files: &Files) -> Result<(ServerConfig, Vec<String>), TlsError> {
    let Files { cert, key, client_ca } = files;
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let all = |path: &Path| -> Result<Vec<_>, pem::Error> {
        let all: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
        if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) }
    };
    let chain = all(cert).map_err(wrong(cert))?;
    let doubts = dates::untimely(&chain).into_iter().map(|what| format!("{}: {what}", cert.display()));
    let doubts = doubts.collect();
    let private = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
    let provider = Arc::new(ring::default_provider());
    let pair = |source| TlsError::Pair { cert: cert.clone(), key: key.clone(), source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in all(path).map_err(wrong(path))? {
                roots.add(authority).map_err(|source| TlsError::Authority { path: path.clone(), source })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|source| TlsError::Authorities { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(pair)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok((config, doubts))
}

type Raw = Stalling<Shared>;

/// A connection, with TLS or without.
pub(super) enum Wire {
    Plain(Raw),
    Secure(Box<TlsStream<Raw>>),
}

/// Makes the handshake.
///
/// # Errors
///
/// The caller gave up, spoke something else, which it was told, or has shown no certificate that would do.
pub(super) async fn shake_hands(
    certificates: &Certificates,
    socket: &Socket,
    mut raw: Raw,
) -> io::Result<Wire> {
    match socket.first_byte().await? {
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(HANDSHAKE) => {
            let stream = certificates.acceptor().accept(raw).await?;
            Ok(Wire::Secure(Box::new(stream)))
        }
        Some(_) => {
            raw.write_all(SPEAK_TLS).await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, "the caller does not speak TLS"))
        }
    }
}

impl Wire {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut (dyn ReadWrite + '_)> {
        match self.get_mut() {
            Self::Plain(raw) => Pin::new(raw),
            Self::Secure(stream) => Pin::new(&mut **stream),
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(raw) => raw.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_speaks_no_tls_is_told_in_as_many_bytes_as_announced() {
        let text = String::from_utf8(SPEAK_TLS.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}: {}", body.len());
    }
}
