//! A browser workflow, the job that this gateway was made for: several steps of one call, in one process tree.
//!
//! `@playwright/mcp` drives Debian's Chromium over a small site of the test's own. Chromium runs in a session of its own,
//! out of reach of the process group which is all that the containment `group` promises to end. Its server takes it
//! along when its stdin is closed; whatever of it is late is said loudly, and ended here. (Killed outright, as with
//! `teardown = "kill"`, the server leaves Chromium behind for a moment, which may still write into the scratch directory
//! while that is swept: only a containment that reaches into every session can promise more. Those are in `contained.rs`.)

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::peers::{Part, installed, peer};
use crate::support::{Gateway, JSON, Start, kill, processes, shown};

mod contained;
mod page;

const FIRST: &str = r#"<!doctype html><title>First</title><link rel="icon" href="data:,">
<h1>Start here</h1><a href="/second">Go on</a>"#;
const SECOND: &str = r#"<!doctype html><title>Second</title><link rel="icon" href="data:,">
<h1>You have arrived</h1>
<button onclick="document.querySelector('p').textContent = 'pressed in the same browser'">Press</button><p></p>"#;

/// Two pages on a port of their own.
struct Site {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Site {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let server = std::thread::spawn(move || {
            // A browser opens connections ahead and says nothing on them: each gets a thread.
            for stream in listener.incoming().flatten().take_while(|_| !end.load(Ordering::Relaxed)) {
                std::thread::spawn(move || answer(stream));
            }
        });
        Self { address, over, server: Some(server) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// One request, one page; a browser that leaves in between is its own business.
fn answer(mut stream: TcpStream) {
    let mut head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(request) = head.next() else { return };
    head.for_each(drop);
    let (status, page) = match request.split(' ').nth(1) {
        Some("/") => ("200 OK", FIRST),
        Some("/second") => ("200 OK", SECOND),
        _ => ("404 Not Found", ""),
    };
    let length = page.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n");
    let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{page}").as_bytes());
}

/// A gateway with a browser's server; `None` where there is none.
fn browser() -> Option<(Gateway, TempDir)> {
    let (config, dir) = configured(&["--isolated"])?;
    Some((Gateway::start_by(&config, Start { args: &["--containment", "group"], ..Start::default() }), dir))
}

/// The configuration of a browser's server, with these further arguments, and what must stay as long as it is used. The
/// table of that server stands last. `None` where there is no browser.
fn configured(args: &[&str]) -> Option<(String, TempDir)> {
    let playwright = peer(Part::Node, "npm/node_modules/.bin/playwright-mcp")?;
    let chromium = installed("chromium")?;
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("playwright.json");
    std::fs::write(&config, settings(&chromium).to_string()).expect("its settings");
    let playwright = shown(&playwright);
    let args =
        [&["--config", shown(&config), "--codegen", "none", "--timeout-action", "60000"], args].concat();
    // Configured as what it is, so that no sibling that finds this out is taken for something left.
    let config = format!(
        "[servers.browser]\ncommand = {playwright:?}\nargs = {args:?}\nprotocol = \"legacy\"\neof_grace = \"20s\"\n"
    );
    Some((config, dir))
}

/// A browser that speaks to nobody but the test: no name of any other host resolves, and nothing is fetched on its own.
fn settings(chromium: &Path) -> Value {
    let quiet = [
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ];
    let launch =
        json!({"executablePath": chromium, "headless": true, "chromiumSandbox": false, "args": quiet});
    json!({"browser": {"browserName": "chromium", "launchOptions": launch}})
}

/// Navigates, follows the link, presses the button, looks.
fn workflow(site: &Site) -> String {
    let url = format!("http://{}/", site.address);
    let steps = json!([
        {"tool": "browser_navigate", "arguments": {"url": url}},
        {"tool": "browser_click", "arguments": {"element": "Go on", "target": "a"}},
        {"tool": "browser_click", "arguments": {"element": "Press", "target": "button"}},
        {"tool": "browser_snapshot", "arguments": {}},
    ]);
    json!({"steps": steps}).to_string()
}

/// With all servers gone, waits for what Chromium does in its own time, and ends what it has not done; it is no part of what `group` promises.
fn see_off(gateway: &Gateway) {
    // The words of its command line name its profile, below the scratch directory; its environment carries the mark.
    let tmp = gateway.tmp();
    let left = || {
        let mut left = processes::mentioning(shown(&tmp));
        left.extend(gateway.servers());
        left.retain(|pid| *pid != gateway.pid());
        left
    };
    let patience = Instant::now() + Duration::from_secs(5);
    while !left().is_empty() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    for pid in left() {
        let _ = writeln!(
            std::io::stderr(),
            "\n*** {pid} survived its server, as it may where the containment is only a process group: {}\n",
            processes::command_line(pid)
        );
        kill(pid);
    }
}

#[test]
fn a_browser_workflow_is_one_call_and_leaves_nothing() {
    let Some((gateway, _dir)) = browser() else { return };
    let site = Site::open();
    let headers = [JSON, ("Spawnling-Wait", "end")];
    let answer = gateway.request("POST", "/v1/servers/browser/calls", &headers, &workflow(&site));
    let steps = answer.good()["steps"].as_array().expect("its steps").clone();
    let text = |step: usize| steps[step]["result"]["content"][0]["text"].as_str().expect("a text").to_owned();
    assert!(text(0).contains("Page Title: First"), "{answer:?}");
    assert!(text(1).contains("Page Title: Second"), "{answer:?}");
    assert!(text(3).contains("You have arrived"), "{answer:?}");
    assert!(text(3).contains("pressed in the same browser"), "{answer:?}");
    assert_eq!((answer.receipt("rung"), answer.receipt("exit-code")), ("eof", "0"), "{answer:?}");
    see_off(&gateway);
    gateway.stop();
}

#[test]
fn two_browsers_at_once_do_not_meet() {
    let Some((gateway, _dir)) = browser() else { return };
    let site = Site::open();
    let headers = [JSON, ("Spawnling-Wait", "end")];
    let begin = || gateway.begin("POST", "/v1/servers/browser/calls", &headers, &workflow(&site));
    for answer in [begin(), begin()] {
        let answer = answer.response();
        let last = answer.good()["steps"][3]["result"]["content"][0]["text"].clone();
        assert!(last.as_str().is_some_and(|text| text.contains("You have arrived")), "{answer:?}");
    }
    see_off(&gateway);
    gateway.stop();
}
