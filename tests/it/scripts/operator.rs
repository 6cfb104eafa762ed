//! What an operator is given: the systemd unit, the image and the proxy do what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::root;
use crate::cli::command;
use crate::support::peers::{installed, say_skipped};
use crate::support::{Gateway, PROGRAM, demo, shown, until};

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs a program to its end. Whether it ended well, and what it said.
fn run(program: &Path, args: &[&str], dir: &Path) -> (bool, String) {
    let done = command(program, dir).args(args).stdin(Stdio::null()).output().expect("it can be started");
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    (done.status.success(), said)
}

/// `HAProxy` with our configuration, before a gateway, on a Unix socket of its own.
struct Proxy {
    process: Child,
    curl: PathBuf,
    dir: TempDir,
}

impl Proxy {
    /// `None`: there is no `HAProxy` here, and that was said.
    fn start(gateway: &Gateway) -> Option<Self> {
        let (haproxy, curl) = (installed("haproxy")?, installed("curl")?);
        let dir = tempfile::tempdir().expect("a directory");
        let file = root().join("scripts/haproxy/haproxy.cfg");
        let bind = format!("unix@{}", dir.path().join("proxy").display());
        let mut start = command(haproxy, dir.path());
        start.args(["-db", "-f", shown(&file)]).env("SPAWNLING_BIND", bind);
        start.env("SPAWNLING_SERVER", gateway.address().to_string());
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = start.spawn().expect("it can be started");
        let proxy = Self { process, curl, dir };
        until("the proxy is ready", || proxy.ask("/readyz", &[]).1.contains("\"ready\""));
        Some(proxy)
    }

    /// Has curl ask the proxy, by the name that callers know it by. Whether there was an answer, and all of it.
    fn ask(&self, path: &str, args: &[&str]) -> (bool, String) {
        let socket = self.dir.path().join("proxy");
        let url = format!("http://tools.example{path}");
        let ours = ["-s", "-i", "-N", "--max-time", "20", "--unix-socket", shown(&socket), &url];
        let json = ["-H", "Content-Type: application/json"];
        run(&self.curl, &[&ours[..], &json, args].concat(), self.dir.path())
    }

    /// Has it stop when its connections are done, as a service manager does.
    fn stop(mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::USR1).expect("it can be signalled");
        let status = self.process.wait().expect("it can be waited for");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Of use to a test that failed only.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn haproxy_takes_our_configuration_without_a_warning() {
    let Some(haproxy) = installed("haproxy") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = root().join("scripts/haproxy/haproxy.cfg");
    let (well, said) = run(&haproxy, &["-c", "-dW", "-f", shown(&file)], dir.path());
    assert!(well && !said.contains("WARNING"), "{said}");
}

#[test]
fn behind_haproxy_calls_and_events_pass_a_crash_is_not_tried_again_and_a_hang_up_ends_the_call() {
    let gateway = Gateway::start(&(String::from("hosts = [\"tools.example\"]\n") + &demo(&[])));
    let Some(proxy) = Proxy::start(&gateway) else { return gateway.stop() };

    let (_, echoed) = proxy.ask("/v1/servers/demo/tools/echo", &["-d", r#"{"message":"hello"}"#]);
    assert!(echoed.starts_with("HTTP/1.1 200") && echoed.contains("spawnling-call-id: "), "{echoed}");

    let sleep = ["-H", "Accept: text/event-stream", "-d", r#"{"seconds":0.2,"steps":2}"#];
    let (_, events) = proxy.ask("/v1/servers/demo/tools/sleep", &sleep);
    assert!(events.contains("event: progress") && events.contains("event: result"), "{events}");

    let (_, crashed) = proxy.ask("/v1/servers/demo/tools/fault", &["-d", r#"{"kind":"abort"}"#]);
    assert!(crashed.starts_with("HTTP/1.1 502") && crashed.contains("/problems/server-crashed"), "{crashed}");
    assert!(!crashed.contains("stderr_tail"), "a caller behind a proxy is not the owner: {crashed}");

    // It would sleep longer than this test is patient.
    let (answered, said) =
        proxy.ask("/v1/servers/demo/tools/sleep", &["--max-time", "0.5", "-d", r#"{"seconds":50}"#]);
    assert!(!answered, "{said}");
    gateway.until_servers(0);
    proxy.stop();
    gateway.signal(Signal::TERM);
    let log = gateway.ended();
    let crashes = log.lines().filter(|line| line.contains("server-crashed")).count();
    assert_eq!(crashes, 1, "it was tried again:\n{log}");
}

#[test]
fn systemd_takes_our_unit_and_finds_it_hardened() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let analyze = std::env::split_paths(&path).map(|dir| dir.join("systemd-analyze")).find(|it| it.is_file());
    let Some(analyze) = analyze else { return say_skipped("systemd-analyze", "it is not in PATH") };
    let unit = read("scripts/systemd/spawnling.service");
    assert!(unit.contains("\nExecStart=/usr/local/bin/spawnling serve "), "{unit}");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("spawnling.service");
    fs::write(&file, unit.replace("/usr/local/bin/spawnling", PROGRAM)).expect("written");
    let (well, said) = run(&analyze, &["verify", "--man=no", shown(&file)], dir.path());
    // What it says of units that are not ours is not ours either.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("spawnling.service")).collect();
    assert!(well && ours.is_empty(), "{said}");
    // Of 100, where 96 is what a service without any hardening has; what is missing is explained in the unit.
    let security = ["security", "--offline=true", "--no-pager", "--threshold=40", shown(&file)];
    let (well, said) = run(&analyze, &security, dir.path());
    assert!(well, "{said}");
}

#[test]
fn the_unit_leaves_alone_what_the_containments_need() {
    let unit = read("scripts/systemd/spawnling.service");
    let keys: Vec<&str> = unit.lines().filter_map(|line| line.split_once('=').map(|(key, _)| key)).collect();
    for key in ["Delegate", "ExecReload", "KillMode", "OOMPolicy", "TimeoutStopSec", "LimitNOFILE"] {
        assert!(keys.contains(&key), "{key}");
    }
    for key in ["ProtectControlGroups", "RestrictNamespaces", "ProtectKernelTunables", "ProtectProc"] {
        assert!(!keys.contains(&key), "{key}");
    }
}

/// The words of a JSON array behind this instruction of the Dockerfile.
fn words(dockerfile: &str, instruction: &str) -> Vec<String> {
    let line = dockerfile.lines().find(|line| line.starts_with(instruction));
    let line = line.unwrap_or_else(|| panic!("no {instruction}"));
    serde_json::from_str(&line[line.find('[').expect("an array")..]).expect("an array of words")
}

#[test]
fn the_image_starts_a_gateway_that_its_health_check_finds_well() {
    let dockerfile = read("scripts/docker/Dockerfile");
    assert_eq!(words(&dockerfile, "ENTRYPOINT"), ["spawnling"]);
    let serve = words(&dockerfile, "CMD");
    let check = words(&dockerfile, "HEALTHCHECK");
    assert_eq!(serve[..2], ["serve", "--listen"]);

    let gateway = Gateway::start("hosts = [\"localhost\"]\n[servers.a]\ncommand = \"true\"\n");
    let dir = tempfile::tempdir().expect("a directory");
    let here = check[2].replace("127.0.0.1/5001", &format!("127.0.0.1/{}", gateway.address().port()));
    assert_ne!(here, check[2]);
    let bash = Path::new(&check[0]);
    let (well, said) = run(bash, &[&check[1], &here], dir.path());
    assert!(well, "{said}");
    gateway.stop();
    let (well, said) = run(bash, &[&check[1], &here], dir.path());
    assert!(!well, "nobody listens any more: {said}");

    // The same words, but for the port, which is not ours to take.
    let mut start = command(PROGRAM, dir.path());
    start.args(&serve).args(["--listen", "127.0.0.1:0", "--no-such-flag"]);
    let said = start.output().expect("it can be started");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("unexpected argument '--no-such-flag'"), "the others are not known: {said}");
}

/// What is compiled into a program below `dir`: its tests are not.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("it can be read").map(|entry| entry.expect("an entry").path());
    let entries = entries.filter(|path| path.file_stem().is_some_and(|name| name != "tests"));
    let found = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The files that this one has compiled into the program.
fn included(file: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(file).expect("it can be read");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let named = text.split("include_str!(\"").skip(1).chain(text.split("include_bytes!(\"").skip(1));
    let named = named.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name);
    named
        .map(|name| file.parent().expect("a directory").join(name).canonicalize().expect("it is there"))
        .collect()
}

#[test]
fn the_image_is_built_by_the_rust_and_from_the_files_that_there_are() {
    let dockerfile = read("scripts/docker/Dockerfile");
    let manifest: toml::Table = read("Cargo.toml").parse().expect("it is TOML");
    let rust = manifest["package"]["rust-version"].as_str().expect("a version");
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "the manifest asks for {rust}");
    let copies = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copies = copies.filter(|words| !words.starts_with("--from"));
    // The last word is where they go.
    let sources =
        copies.filter_map(|words| words.rsplit_once(' ')).flat_map(|(sources, _)| sources.split(' '));
    let ignored = read("scripts/docker/Dockerfile.dockerignore");
    let sources: Vec<&str> = sources.collect();
    for source in &sources {
        assert!(root().join(source).exists(), "{source}");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is kept from the build");
    }
    assert_eq!(sources[..3], ["Cargo.toml", "Cargo.lock", "src"]);
    for file in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("tests/fixtures")))
    {
        for included in included(&file) {
            let sent = sources.iter().filter_map(|source| root().join(source).canonicalize().ok());
            assert!(
                sent.into_iter().any(|source| included.starts_with(source)),
                "{} includes {}, which is not in the image",
                file.display(),
                included.display()
            );
        }
    }
    assert!(dockerfile.contains("\nUSER 10001\n"), "it is not to run as root");
}
