//! Unix sockets, sockets that somebody hands over, and the service manager that waits for the gateway.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{ECHO, serves};
use crate::support::{
    Gateway, PATIENCE, PROGRAM, Start, alive, command_output, demo, script_complaint, shown, until,
};

/// Asks over a Unix socket, and returns everything that comes.
#[track_caller]
fn ask(path: &Path, host: &str, line: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer to its end");
    answer
}

fn is_served(path: &Path) {
    let answer = ask(path, "localhost", "POST /v1/servers/demo/tools/echo", ECHO);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("hello"), "{answer}");
}

/// A path for a socket, in a directory of its own.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    (dir, path)
}

fn listening_at(path: &Path, keys: &str) -> Gateway {
    let listen = format!("unix:{}", shown(path));
    let start = Start { args: &["--listen", &listen], ..Start::default() };
    Gateway::start_by(&format!("{keys}\n{}", demo(&[])), start)
}

#[test]
fn a_unix_socket_is_for_its_owner_and_goes_with_the_gateway() {
    let (_dir, path) = place();
    for (keys, mode) in [("", 0o600), ("socket_mode = \"0660\"", 0o660)] {
        let gateway = listening_at(&path, keys);
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o7777, mode);
        is_served(&path);
        serves(&gateway);
        gateway.stop();
        assert!(!path.exists(), "its file is left");
    }
}

#[test]
fn the_socket_of_a_killed_gateway_is_replaced_and_that_of_a_living_one_is_not() {
    let (_dir, path) = place();
    listening_at(&path, "").killed();
    assert!(path.exists(), "nobody could remove it");
    let second = listening_at(&path, "");
    is_served(&path);
    let listen = format!("unix:{}", shown(&path));
    let refused = command_output(&["serve", "--listen", &listen, "--", PROGRAM, "demo"]);
    assert!(
        refused.contains("cannot listen on unix:") && refused.contains("another process listens there"),
        "{refused}"
    );
    is_served(&path);
    second.stop();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let (_dir, path) = place();
    std::fs::write(&path, "precious").expect("written");
    let listen = format!("unix:{}", shown(&path));
    let refused = command_output(&["serve", "--listen", &listen, "--", PROGRAM, "demo"]);
    assert!(refused.contains("there is a file that is no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "precious");
}

#[test]
fn behind_a_unix_socket_any_name_will_do_that_no_page_can_have() {
    let (_dir, path) = place();
    let gateway = listening_at(&path, "hosts = [\"tools.example\"]");
    for (host, status) in
        [("x", 200), ("localhost", 200), ("tools.example", 200), ("evil.example", 403), ("192.0.2.1", 403)]
    {
        let answer = ask(&path, host, "GET /v1/servers", "");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_a_unix_socket_ends_its_call() {
    let (_dir, path) = place();
    let gateway = listening_at(&path, "");
    let body = r#"{"seconds":600}"#;
    let mut caller = UnixStream::connect(&path).expect("somebody listens");
    let head = super::head(body.len()).replace("echo", "sleep");
    caller.write_all((head + body).as_bytes()).expect("it is taken");
    let server = gateway.until_servers(1)[0];
    drop(caller);
    until("the server is dead", || !alive(server));
    gateway.stop();
}

/// As systemd would: the socket is descriptor 3, and the variables say so. This process gives it as standard input.
const HANDED_OVER: &str =
    "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec \"$0\" \"$@\"";

fn handed(socket: BorrowedFd<'_>, config: &str, env: &[(&str, &str)]) -> Gateway {
    let start = Start { script: Some(HANDED_OVER), stdin: Some(socket), env, ..Start::default() };
    Gateway::start_by(config, start)
}

#[test]
fn a_socket_that_is_handed_over_takes_the_place_of_what_is_configured() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let gateway = handed(socket.as_fd(), &demo(&[]), &[]);
    assert_eq!(gateway.address(), socket.local_addr().expect("it has one"));
    serves(&gateway);
    gateway.settle();
    gateway.signal(Signal::TERM);
    gateway.ended();
    // Whoever comes between two gateways waits for the next one.
    let mut between =
        std::net::TcpStream::connect(socket.local_addr().expect("it has one")).expect("it listens");
    between.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    between
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("taken");
    let next = handed(socket.as_fd(), &demo(&[]), &[]);
    let mut answer = String::new();
    between.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop(between);
    next.stop();
}

#[test]
fn a_public_socket_that_is_handed_over_needs_tokens_too() {
    let socket = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let dir = tempfile::tempdir().expect("a directory");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve -- \"$0\" demo";
    let refused = script_complaint(script, socket.as_fd(), dir.path());
    assert!(refused.contains("add `[[tokens]]`, or give --insecure"), "{refused}");
}

#[test]
fn what_a_service_manager_gives_is_for_the_gateway_and_for_no_server() {
    let (_dir, path) = place();
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let hears = || {
        let mut said = [0; 256];
        let length = manager.recv(&mut said).expect("it says something");
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let config = demo(&[]) + "pass_env = [\"*\"]\n";
    let gateway = handed(tcp.as_fd(), &config, &[("NOTIFY_SOCKET", shown(&path))]);
    assert_eq!(hears(), "READY=1\n");
    let call = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", tcp.as_raw_fd())).expect("it is open").ino();
    for pid in gateway.until_servers(1) {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it lives");
        let environment = String::from_utf8_lossy(&environment).into_owned();
        assert!(environment.contains("CARGO"), "everything else was passed on: {environment}");
        assert!(!environment.contains("NOTIFY_SOCKET=") && !environment.contains("LISTEN_"), "{environment}");
        let held = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").flatten();
        let held: Vec<PathBuf> = held.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        assert!(!held.contains(&PathBuf::from(format!("socket:[{inode}]"))), "{held:?}");
    }
    call.hang_up();
    gateway.settle();
    gateway.signal(Signal::TERM);
    assert_eq!(hears(), "STOPPING=1\n");
    gateway.ended();
}
