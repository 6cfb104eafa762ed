//! TLS: what callers are shown, what they must show, and how it is exchanged while the gateway serves.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{ECHO, head};
use crate::support::{Connection, Gateway, PATIENCE, PROGRAM, alive, command_output, demo, shown, until};

/// An authority that both sides may trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Pair {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn signs(&self, name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        Pair { cert: params.signed_by(&key, &self.0).expect("a certificate"), key }
    }

    /// Somebody who trusts it, and shows this.
    fn client(&self, shows: Option<&Pair>, alpn: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(Pair { cert, key }) => {
                let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                builder.with_client_auth_cert(vec![cert.der().clone()], key).expect("a pair")
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }
}

impl Pair {
    /// Writes both, as files that are exchanged are written: beside, then in their place.
    fn write(&self, dir: &Path) {
        for (name, text) in [("cert.pem", self.cert.pem()), ("key.pem", self.key.serialize_pem())] {
            let beside = dir.join("new");
            fs::write(&beside, text).expect("written");
            fs::rename(beside, dir.join(name)).expect("put in place");
        }
    }
}

/// A gateway that shows `cert.pem` of a directory.
fn gateway(dir: &TempDir, keys: &str, client_ca: &str) -> Gateway {
    let dir = shown(dir.path());
    let tls = format!("[tls]\ncert = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"\n{client_ca}\n");
    Gateway::start(&format!("{keys}\n{tls}{}", demo(&[])))
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

fn connect(gateway: &Gateway, config: &ClientConfig) -> Secured {
    let tcp = TcpStream::connect(gateway.address()).expect("it accepts connections");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config.clone()), name).expect("a client");
    StreamOwned::new(connection, tcp)
}

/// Asks for `/healthz` and returns everything that comes.
fn ask(gateway: &Gateway, config: &ClientConfig) -> io::Result<String> {
    let mut stream = connect(gateway, config);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn is_served(gateway: &Gateway, config: &ClientConfig) {
    let answer = ask(gateway, config).expect("an answer that ends in order");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

/// A directory with a certificate for us by this authority.
fn place(authority: &Authority) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    authority.signs("localhost").write(dir.path());
    dir
}

#[test]
fn calls_are_answered_over_tls_in_the_protocol_that_was_agreed_on() {
    let authority = Authority::new();
    let dir = place(&authority);
    let gateway = gateway(&dir, "", "");
    is_served(&gateway, &authority.client(None, &[]));
    let cases: [(&[&[u8]], &[u8]); 2] = [(&[b"http/1.1"], b"http/1.1"), (&[b"http/1.1", b"h2"], b"h2")];
    for (offered, agreed) in cases {
        let mut stream = connect(&gateway, &authority.client(None, offered));
        stream.flush().expect("a handshake");
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(agreed));
    }
    let mut stream = connect(&gateway, &authority.client(None, &[]));
    stream.write_all((head(ECHO.len()) + ECHO).as_bytes()).expect("it is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(stream);
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_a_connection_with_tls_ends_its_call() {
    let authority = Authority::new();
    let dir = place(&authority);
    let gateway = gateway(&dir, "", "");
    let body = r#"{"seconds":600}"#;
    let mut stream = connect(&gateway, &authority.client(None, &[]));
    stream.write_all((head(body.len()).replace("echo", "sleep") + body).as_bytes()).expect("it is taken");
    let server = gateway.until_servers(1)[0];
    drop(stream);
    until("the server is dead", || !alive(server));
    gateway.stop();
}

#[test]
fn whoever_speaks_plain_http_there_is_told_so() {
    let authority = Authority::new();
    let dir = place(&authority);
    let gateway = gateway(&dir, "", "");
    let answer = gateway.get("/healthz");
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    assert!(answer.body.contains("https://"), "{answer:?}");
    gateway.stop();
}

#[test]
fn with_an_authority_for_callers_nobody_else_is_let_in() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let dir = place(&ours);
    fs::write(dir.path().join("ca.pem"), ours.0.pem()).expect("written");
    let gateway = gateway(&dir, "", &format!("client_ca = \"{}/ca.pem\"", shown(dir.path())));
    is_served(&gateway, &ours.client(Some(&ours.signs("backend")), &[]));
    for shows in [None, Some(foreign.signs("backend"))] {
        let refused = ask(&gateway, &ours.client(shows.as_ref(), &[]));
        let error = refused.expect_err("no answer without a certificate").to_string();
        assert!(error.contains("alert"), "the caller is told why: {error}");
    }
    gateway.stop();
}

#[test]
fn another_certificate_is_shown_once_its_files_have_changed_and_a_broken_one_never() {
    let (old, new) = (Authority::new(), Authority::new());
    let dir = place(&old);
    let gateway = gateway(&dir, "", "");
    is_served(&gateway, &old.client(None, &[]));
    fs::write(dir.path().join("cert.pem"), "no certificate").expect("written");
    until("it was looked at", || gateway.log().contains("the certificate cannot be used"));
    is_served(&gateway, &old.client(None, &[]));
    new.signs("localhost").write(dir.path());
    until("the new one is shown", || ask(&gateway, &new.client(None, &[])).is_ok());
    assert!(ask(&gateway, &old.client(None, &[])).is_err(), "the old one is not");
    gateway.stop();
}

#[test]
fn a_handshake_that_does_not_come_is_cut_off_in_time_and_counts_as_a_connection() {
    let authority = Authority::new();
    let dir = place(&authority);
    let gateway = gateway(&dir, "header_timeout = \"500ms\"\nmax_connections = 2", "");
    // The first bytes of a record that goes on, and nothing at all.
    for sent in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b""] {
        let (mut one, mut other) = (Connection::to(&gateway), Connection::to(&gateway));
        one.write(sent);
        other.write(sent);
        // There is no room before these two are cut off.
        is_served(&gateway, &authority.client(None, &[]));
        let ended = |connection: &mut Connection| connection.rest().len() < 16;
        assert!(ended(&mut one) || ended(&mut other));
    }
    gateway.stop();
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start_and_are_named() {
    let authority = Authority::new();
    let dir = place(&authority);
    let path = |name: &str| format!("{}/{name}", shown(dir.path()));
    fs::write(path("other.pem"), authority.signs("localhost").key.serialize_pem()).expect("written");
    fs::write(path("empty.pem"), "").expect("written");
    for (cert, key, named) in [
        ("missing.pem", "key.pem", "missing.pem"),
        ("empty.pem", "key.pem", "empty.pem"),
        ("cert.pem", "cert.pem", "cert.pem"),
        ("cert.pem", "other.pem", "other.pem"),
    ] {
        let config = format!(
            "listen = [\"127.0.0.1:0\"]\ntls = {{ cert = {:?}, key = {:?} }}\n[servers.a]\ncommand = {PROGRAM:?}\n",
            path(cert),
            path(key)
        );
        fs::write(path("a.toml"), config).expect("written");
        let said = command_output(&["serve", "--config", &path("a.toml")]);
        assert!(said.contains("cannot set up TLS") && said.contains(named), "{said}");
    }
}
