//! A gateway of one's own, and the proof that nothing is left of what it did.
//!
//! Every server of a test's configuration carries a mark in its environment, unique to the gateway, so that every
//! process of every tree is found in `/proc` wherever it went. A test ends with [`Gateway::stop`], or with
//! [`Gateway::ended`] where it sent the signals itself; a gateway that is dropped without either fails its test.
//! Nothing here waits for a guessed time: [`until`] polls for what must come true.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod peers;
pub(crate) mod processes;

pub(crate) use http::{Connection, Event, JSON, Pending, Response, events};
pub(crate) use processes::{alive, kill};

/// The longest that anything may take to come true. Far more than it does; a busy machine must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The variable that marks the processes of one gateway's servers.
const MARK: &str = "SPAWNLING_TEST_MARK";

/// Where there is no file to put it into: every server may see the variables of this kind.
const PASSED_MARK: &str = "LC_SPAWNLING_TEST_MARK";

/// No configuration at all: what a newcomer gets.
pub(crate) const EMBEDDED: &str = "";

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_spawnling");

/// A program of `tests/fixtures`. `cargo test` builds them together with the tests, `cargo test --test it` does not.
#[track_caller]
pub(crate) fn example(name: &str) -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name("examples").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --examples --locked`, which `cargo test --test it` leaves out",
        path.display()
    );
    path
}

/// What the program says, on stdout and stderr, when it is started with these words.
#[expect(clippy::disallowed_methods, reason = "the test's own child, waited for right here")]
pub(crate) fn command_output(words: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(words).stdin(Stdio::null()).output().expect("it can be started");
    [output.stdout, output.stderr].iter().map(|said| String::from_utf8_lossy(said)).collect()
}

/// Whether a shell script, in which `$0` is our program, succeeds.
#[expect(clippy::disallowed_methods, reason = "the test's own child, waited for right here")]
pub(crate) fn script_works(script: &str) -> bool {
    Command::new("sh").args(["-c", script, PROGRAM]).status().is_ok_and(|status| status.success())
}

/// What such a script says on stdout.
#[expect(clippy::disallowed_methods, reason = "the test's own child, waited for right here")]
pub(crate) fn script_output(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script, PROGRAM]).output().expect("there is a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a shell script, in which `$0` is our program and `$@` are these words, says in a directory.
#[expect(clippy::disallowed_methods, reason = "the test's own child, waited for right here")]
pub(crate) fn script_says(
    script: &str,
    dir: &Path,
    variables: &[(String, String)],
    words: &[&str],
) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, PROGRAM]).args(words).current_dir(dir).stdin(Stdio::null());
    let output = shell.envs(variables.iter().cloned()).output().expect("it can be started");
    [output.stdout, output.stderr].iter().map(|said| String::from_utf8_lossy(said)).collect()
}

/// What such a script says on stderr, with this as its standard input, in this directory.
#[expect(clippy::disallowed_methods, reason = "the test's own child, waited for right here")]
pub(crate) fn script_complaint(script: &str, stdin: BorrowedFd<'_>, dir: &Path) -> String {
    let stdin = stdin.try_clone_to_owned().expect("a copy");
    let output = Command::new("sh").args(["-c", script, PROGRAM]).stdin(stdin).current_dir(dir).output();
    String::from_utf8_lossy(&output.expect("there is a shell").stderr).into_owned()
}

/// A path as a configuration or a command line writes it.
#[track_caller]
pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Waits until `cond` holds; fails the test if it does not in time.
#[track_caller]
pub(crate) fn until(what: &str, mut cond: impl FnMut() -> bool) {
    until_some(what, || cond().then_some(()));
}

/// Waits until `find` finds something; fails the test if it does not in time.
#[track_caller]
pub(crate) fn until_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < give_up, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A TOML table `[servers.NAME]` of the demo server with these arguments. Further keys may be written behind it.
pub(crate) fn server(name: &str, args: &[&str]) -> String {
    format!("\n[servers.{name}]\ncommand = {PROGRAM:?}\nargs = {:?}\n", [&["demo"], args].concat())
}

/// The demo server, called `demo`, offering the tool `fault`; spoken to as a legacy server, so that no sibling of it
/// is started to find out its era. Further keys may be written behind it.
pub(crate) fn demo(args: &[&str]) -> String {
    server("demo", &[&["--faults"], args].concat()) + "protocol = \"legacy\"\n"
}

/// How a gateway is started, beside its configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// Variables of the gateway's own environment.
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// Further arguments of `spawnling serve`.
    pub(crate) args: &'a [&'a str],
    /// A shell script that becomes the gateway: `exec "$0" "$@"`, with whatever is to be said around it.
    pub(crate) script: Option<&'a str>,
    /// What its servers' processes are marked with, in place of a mark that no other gateway has.
    pub(crate) mark: Option<&'a str>,
    /// What it is given as its standard input, for the script to do something with.
    pub(crate) stdin: Option<BorrowedFd<'a>>,
}

/// A running gateway.
pub(crate) struct Gateway {
    process: Child,
    address: SocketAddr,
    mark: String,
    dir: TempDir,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    descriptors: usize,
    checked: bool,
}

impl Gateway {
    /// Starts one with this configuration, in TOML, on a free port, and waits until it is ready.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_by(config, Start::default())
    }

    /// Starts one in a special way.
    pub(crate) fn start_by(config: &str, start: Start<'_>) -> Self {
        let dir = tempfile::Builder::new().prefix("it-").tempdir().expect("a directory for one test");
        let random = || format!("{:016x}", getrandom::u64().expect("random bits"));
        let mark = start.mark.map_or_else(random, ToOwned::to_owned);
        for inner in ["tmp", "cache"] {
            std::fs::create_dir(dir.path().join(inner)).expect("a directory in it");
        }
        let mut command = command(dir.path(), start);
        if config == EMBEDDED {
            command.env(PASSED_MARK, &mark);
        } else {
            std::fs::write(dir.path().join("it.toml"), marked(config, &mark)).expect("a configuration");
            command.args(["--config", "it.toml"]);
        }
        let mut process = command.args(start.args).spawn().expect("the gateway can be started");
        let (log, reader) = collect(process.stderr.take().expect("its stderr is piped"));
        let mut ready = String::new();
        let stdout = process.stdout.take().expect("its stdout is piped");
        BufReader::new(stdout).read_line(&mut ready).expect("a line on stdout");
        let announced = ready.trim().strip_prefix("spawnling listening on ");
        let address = announced.and_then(|announced| announced.split_once("://"));
        let Some((_, address)) = address.filter(|(scheme, _)| ["http", "https"].contains(scheme)) else {
            let _ = process.wait();
            panic!("not ready: {ready:?}\n{}", text(&log));
        };
        let address = address.parse().expect("an address");
        let reader = Some(reader);
        let mut gateway = Self { process, address, mark, dir, log, reader, descriptors: 0, checked: false };
        gateway.descriptors = gateway.open_descriptors();
        gateway
    }

    /// Puts another configuration into its file. That it was read is for the caller to wait for.
    pub(crate) fn configure(&self, config: &str) {
        let file = self.dir.path().join("it.toml");
        let config = if config.parse::<toml::Table>().is_ok() {
            marked(config, &self.mark)
        } else {
            config.to_owned()
        };
        // As editors do it: it is never there in part.
        std::fs::write(file.with_extension("new"), config).expect("written");
        std::fs::rename(file.with_extension("new"), file).expect("renamed");
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The directory that is its `TMPDIR`.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        text(&self.log)
    }

    /// The living processes of its servers.
    pub(crate) fn servers(&self) -> Vec<u32> {
        let mut servers = processes::with(&format!("{MARK}={}", self.mark));
        servers.extend(processes::with(&format!("{PASSED_MARK}={}", self.mark)));
        servers.retain(|pid| *pid != self.pid());
        servers
    }

    /// Waits until exactly so many processes of its servers live, and returns them.
    #[track_caller]
    pub(crate) fn until_servers(&self, count: usize) -> Vec<u32> {
        until_some(&format!("{count} server processes\n{}", self.state()), || {
            Some(self.servers()).filter(|servers| servers.len() == count)
        })
    }

    /// Waits until it has dealt with all that was sent to it so far: until each of its threads sleeps. What is sent over
    /// the loopback wakes a thread before the sender goes on.
    #[track_caller]
    pub(crate) fn until_at_rest(&self) {
        until("the gateway is at rest", || processes::is_at_rest(self.pid()));
    }

    /// The scratch directories that hold anything. Empty ones may be kept ready for calls to come; that each used one
    /// was removed shows at the end, when nothing but those is taken away and the root must be gone.
    pub(crate) fn scratch(&self) -> Vec<PathBuf> {
        let roots = entries(&self.tmp()).into_iter().filter(|path| path.is_dir());
        roots.flat_map(|root| entries(&root)).filter(|path| !entries(path).is_empty()).collect()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Waits until nothing is left of all calls: no process, no zombie, no descriptor, no scratch directory. Close
    /// kept connections before.
    #[track_caller]
    pub(crate) fn settle(&self) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if state.is_empty() {
                return;
            }
            assert!(Instant::now() < give_up, "something is left:\n{state}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as a supervisor would, and checks that nothing is left of it.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.settle();
        self.signal(Signal::TERM);
        self.ended();
    }

    /// Waits for the end of a gateway that was told to stop, and checks that nothing is left of it. Returns what it
    /// logged.
    #[track_caller]
    pub(crate) fn ended(mut self) -> String {
        self.checked = true;
        let status: ExitStatus =
            until_some("the gateway's exit", || self.process.try_wait().expect("it can be waited for"));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its stderr was read");
        }
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{status}\n{log}");
        // With `group`: no process group of a server.
        assert!(log.contains("stopped: no process"), "{log}");
        // Of that level are only defects of ours: a tree that lost its owner, a directory that could not be swept.
        assert!(!log.contains("\"level\":\"ERROR\"") && !log.contains("panicked"), "{log}");
        assert_eq!(self.servers(), [0; 0], "processes outlived the gateway\n{log}");
        assert_eq!(entries(&self.tmp()), Vec::<PathBuf>::new(), "files outlived the gateway\n{log}");
        log
    }

    /// Waits for the end of a gateway that a test has killed, and that nothing could be left of but files.
    #[track_caller]
    pub(crate) fn was_killed(mut self) {
        self.checked = true;
        let status =
            until_some("the gateway's exit", || self.process.try_wait().expect("it can be waited for"));
        assert_eq!(status.code(), None, "{status}");
        until("its servers are gone", || self.servers().is_empty());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its stderr was read");
        }
    }

    /// Kills it as nobody should, and checks that no process is left of it. Its files are the next start's to remove.
    #[track_caller]
    pub(crate) fn killed(mut self) {
        self.checked = true;
        self.signal(Signal::KILL);
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its stderr was read");
        }
        let log = self.log();
        until(&format!("nobody has outlived the gateway\n{log}"), || self.servers().is_empty());
    }

    /// What is left of calls, in words; empty: nothing.
    fn state(&self) -> String {
        let mut state = String::new();
        let mut tell = |what: &str, left: &dyn std::fmt::Debug| {
            writeln!(state, "{what}: {left:?}").expect("a String takes everything");
        };
        let servers = self.servers();
        if !servers.is_empty() {
            let named: Vec<_> = servers.iter().map(|pid| (*pid, processes::command_line(*pid))).collect();
            tell("processes", &named);
        }
        let zombies = processes::zombies_of(self.pid());
        if !zombies.is_empty() {
            tell("zombies", &zombies);
        }
        let scratch = self.scratch();
        if !scratch.is_empty() {
            tell("scratch directories", &scratch);
        }
        let descriptors = self.open_descriptors();
        if descriptors > self.descriptors {
            tell("descriptors", &(self.descriptors, descriptors));
        }
        state
    }

    /// Its descriptors, without the two by which it holds each keeper that waits for the next tree.
    fn open_descriptors(&self) -> usize {
        let keepers = processes::keepers_of(self.pid()).len();
        entries(&PathBuf::from(format!("/proc/{}/fd", self.pid()))).len().saturating_sub(2 * keepers)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.checked && !std::thread::panicking() {
            return;
        }
        // Of a test that failed nothing may stay behind either.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.servers().into_iter().for_each(kill);
        assert!(self.checked || std::thread::panicking(), "the test forgot to check what is left");
    }
}

/// Puts the mark into the environment of every server.
fn marked(config: &str, mark: &str) -> String {
    let mut config: toml::Table = config.parse().expect("the configuration is TOML");
    let servers = config.get_mut("servers").and_then(toml::Value::as_table_mut).expect("it has servers");
    for (_, server) in servers.iter_mut() {
        let server = server.as_table_mut().expect("a server is a table");
        let env = server.entry("env").or_insert_with(|| toml::Table::new().into());
        env.as_table_mut().expect("env is a table").insert(MARK.to_owned(), mark.into());
    }
    config.to_string()
}

#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn command(dir: &Path, start: Start<'_>) -> Command {
    let mut command = Command::new(if start.script.is_some() { "sh" } else { PROGRAM });
    if let Some(script) = start.script {
        command.args(["-c", script, PROGRAM]);
    }
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .current_dir(dir)
        .env_remove("MCP_BROWSER_USE_DIR")
        .env_remove("SPAWNLING_CONFIG")
        .env_remove("SPAWNLING_HOSTS")
        .env_remove("SPAWNLING_LISTEN")
        .env_remove("SPAWNLING_LOG")
        .env("TMPDIR", dir.join("tmp"))
        .env("SPAWNLING_CACHE_DIR", dir.join("cache"))
        .envs(start.env.iter().copied())
        .stdin(start.stdin.map_or_else(Stdio::null, |fd| fd.try_clone_to_owned().expect("a copy").into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Reads a stream to its end, in a thread of its own.
fn collect(mut stream: impl std::io::Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let log = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&log);
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            let text = String::from_utf8_lossy(&chunk[..read]);
            shared.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        }
    });
    (log, reader)
}

fn text(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .map_or_else(|_| Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect())
}
