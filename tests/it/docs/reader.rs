//! Reads a page as its reader would: takes the commands out of it, runs them, and compares what they print.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::root;
use crate::cli::{PROGRAM, command};
use crate::support::peers::skip;

/// The address in the documentation.
const SHOWN: &str = "127.0.0.1:5001";

/// A fenced block: its language and its lines.
pub(super) struct Block {
    pub(super) language: String,
    pub(super) line: usize,
    pub(super) text: String,
}

pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            open = !open;
            if open {
                let (language, line) = (language.trim().to_owned(), number + 2);
                blocks.push(Block { language, line, text: String::new() });
            }
        } else if open && let Some(block) = blocks.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

/// What a page has its reader type, and what comes of it.
pub(super) struct Typed {
    pub(super) line: usize,
    pub(super) command: String,
    pub(super) expected: String,
}

pub(super) fn typed(block: &Block) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    for (offset, line) in block.text.lines().enumerate() {
        match (line.strip_prefix("$ "), all.last_mut()) {
            (Some(command), _) => {
                let (line, command) = (block.line + offset, command.to_owned());
                all.push(Typed { line, command, expected: String::new() });
            }
            (None, Some(last)) => {
                last.expected.push_str(line);
                last.expected.push('\n');
            }
            (None, None) => panic!("line {}: a block of sh begins with `$ `", block.line),
        }
    }
    all
}

/// Where a page's commands are run.
pub(super) struct Reader {
    dir: TempDir,
    gateway: Option<(Child, String)>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(".curlrc"), "silent\nshow-error\nnoproxy = \"*\"\nmax-time = 60\n")
            .expect("written");
        Self { dir, gateway: None }
    }

    /// The directory that its commands are run in.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its gateway listens.
    #[track_caller]
    pub(super) fn address(&self) -> &str {
        &self.gateway.as_ref().expect("it serves").1
    }

    /// A command with the surroundings that a reader has: our program and the test peers in the `PATH`.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = command(program, self.dir.path());
        let peers = root().join("target/peers");
        let ours = Path::new(PROGRAM).parent().expect("it lies in a directory").to_owned();
        let theirs = std::env::var_os("PATH").unwrap_or_default();
        let path = [ours, peers.join("venv/bin")].into_iter().chain(std::env::split_paths(&theirs));
        command.env("PATH", std::env::join_paths(path).expect("no path holds a colon"));
        command.env("CURL_HOME", self.dir.path()).env("SPAWNLING_LISTEN", "127.0.0.1:0");
        let variables = fs::read_to_string(peers.join("env")).unwrap_or_default();
        command.envs(variables.lines().filter_map(|line| line.split_once('=')));
        command
    }

    /// Runs one command and returns what it printed. `None`: it is skipped, for want of what it needs.
    pub(super) fn run(&mut self, typed: &str) -> Option<String> {
        for (word, stamp) in [("uvx ", "python.stamp"), ("npx ", "node.stamp")] {
            if typed.contains(word) && !root().join("target/peers").join(stamp).exists() {
                skip(typed, &format!("{stamp} is missing: make test-deps"));
                self.leave();
                return None;
            }
        }
        if ["spawnling serve", "make run"].iter().any(|serve| typed.contains(serve)) {
            return Some(self.serve(&typed.replace("make run", "spawnling serve")));
        }
        let real = self.gateway.as_ref().map_or(SHOWN, |(_, address)| address);
        if typed.contains(SHOWN) && self.gateway.is_none() {
            eprintln!("SKIPPED, its gateway was: {typed}");
            return None;
        }
        let typed = format!("exec 2>&1\n{}", typed.replace(SHOWN, real));
        // A command that should end and does not must not hold up the rest.
        let mut shell = self.command("timeout");
        let output =
            shell.args(["60", "sh", "-c", &typed]).output().expect("there are a shell and timeout(1)");
        Some(String::from_utf8_lossy(&output.stdout).replace(real, SHOWN))
    }

    /// Starts a gateway, in place of the one before, and returns the line by which it says that it is ready.
    pub(super) fn serve(&mut self, typed: &str) -> String {
        self.leave();
        let mut shell = self.command("sh");
        shell.arg("-c").arg(format!("exec env {typed}")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut gateway = shell.spawn().expect("there is a shell");
        let mut line = String::new();
        let stdout = gateway.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it can be read");
        let address =
            line.trim().strip_prefix("spawnling listening on http://").unwrap_or_default().to_owned();
        assert!(!address.is_empty(), "not ready: {typed}: {line:?}");
        self.gateway = Some((gateway, address.clone()));
        line.replace(&address, SHOWN)
    }

    pub(super) fn leave(&mut self) {
        if let Some((gateway, _)) = self.gateway.take() {
            terminate(gateway);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((mut gateway, _)) = self.gateway.take() {
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }
}

pub(super) fn terminate(mut gateway: Child) {
    let pid = i32::try_from(gateway.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::TERM).expect("it can be signalled");
    let status = gateway.wait().expect("it can be waited for");
    assert_eq!(status.code(), Some(0), "the gateway did not stop well");
}

/// Whether `actual` is what `expected` promises.
pub(super) fn agrees(expected: &str, actual: &str) -> bool {
    // A line of nothing but dots may stand for no line at all.
    let (expected, actual) = (steady(expected).replace("\n...\n", "...\n"), steady(actual));
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = actual.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// The same without what differs each time: call ids, numbers with a decimal point, dates.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for line in text.replace('\r', "").trim_end().lines() {
        steady.push('\n');
        if line.starts_with("date: ") {
            steady.push_str("date");
            continue;
        }
        let mut word = String::new();
        // One more at the end, so that the last word is taken too.
        for letter in line.chars().chain([' ']) {
            if letter.is_ascii_alphanumeric()
                || (letter == '.' && word.ends_with(|c: char| c.is_ascii_digit()))
            {
                word.push(letter);
                continue;
            }
            let id = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let dots = word.ends_with("...");
            steady.push_str(if id {
                "#"
            } else if number && !dots {
                "#.#"
            } else {
                &word
            });
            word.clear();
            steady.push(letter);
        }
        steady.pop();
    }
    steady
}

#[test]
fn output_agrees_where_only_ids_times_and_dates_differ() {
    for (expected, actual, same) in [
        ("a\n", "a\r\n", true),
        ("a\n", "b\n", false),
        ("a ... c\n", "a b c\n", true),
        ("a ... c\n", "a b d\n", false),
        ("...\nlast\n", "last", true),
        ("...\nlast\n", "first\nlast", true),
        ("spawn;dur=0.535, x\n", "spawn;dur=12.1, x\n", true),
        ("spawn;dur=0.535, x\n", "open;dur=12.1, x\n", false),
        ("id: 248d69c3d9e671159eb96faecf78f44d\n", "id: 00000000000000000000000000000001\n", true),
        ("date: Sun\n", "date: Mon\n", true),
        ("count 1\n", "count 2\n", false),
    ] {
        assert_eq!(agrees(expected, actual), same, "{expected:?} and {actual:?}");
    }
}
