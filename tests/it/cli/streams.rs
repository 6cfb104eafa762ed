//! What becomes of a gateway whose output nobody takes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::{Place, signal};

/// Streams that take nothing: of a full disk, and of a reader who has left.
fn takes_nothing() -> [Stdio; 2] {
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    let (_, writer) = std::io::pipe().expect("a pipe");
    [full.into(), writer.into()]
}

/// Makes a call that fails, which is logged.
fn fails_well(gateway: &mut Child) {
    let mut line = String::new();
    BufReader::new(gateway.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("spawnling listening on http://").expect("it is ready");
    let mut caller = TcpStream::connect(address).expect("it listens");
    let (body, head) = ("{}", "POST /v1/servers/demo/tools/fail HTTP/1.1\r\nHost: localhost\r\n");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    write!(caller, "{head}Connection: close\r\n\r\n{body}").expect("it is taken");
    let mut answer = String::new();
    caller.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 424 "), "{answer}");
}

#[test]
fn a_log_that_nobody_takes_is_in_nobodys_way() {
    for stderr in takes_nothing() {
        let place = Place::new();
        let mut command = place.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut gateway = command.env("SPAWNLING_LOG", "debug").stderr(stderr).spawn().expect("started");
        fails_well(&mut gateway);
        signal(&gateway, Signal::TERM);
        assert_eq!(place.end(gateway).code, Some(0));
    }
}

#[test]
fn a_reader_of_the_log_who_sleeps_holds_up_nobody() {
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    // Filled: not a line more goes in.
    rustix::io::ioctl_fionbio(&writer, true).expect("it can be told not to wait");
    while writer.write(&[b'\n'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("and to wait");
    let place = Place::new();
    let mut command = place.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut gateway = command.env("SPAWNLING_LOG", "debug").stderr(writer).spawn().expect("started");
    drop(command);
    fails_well(&mut gateway);
    signal(&gateway, Signal::TERM);
    assert_eq!(place.end(gateway).code, Some(0));
}

#[test]
fn a_gateway_that_cannot_say_where_it_listens_ends_and_leaves_nothing() {
    for stdout in takes_nothing() {
        let place = Place::new();
        let mut command = place.command(&["serve", "--listen", "127.0.0.1:0"]);
        let gateway = command.stdout(stdout).spawn().expect("started");
        let done = place.end(gateway);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err.contains("spawnling: cannot write to stdout: "), "{done:?}");
    }
}
