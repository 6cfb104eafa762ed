//! A server that keeps a record of what is said to it, and can change its ways between two calls.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{PROGRAM, example, shown};

/// The server, seen from outside.
pub(crate) struct Ledger {
    dir: TempDir,
}

impl Ledger {
    /// The demo server with these flags, kept record of.
    pub(crate) fn new(flags: &[&str]) -> Self {
        let ledger = Self { dir: tempfile::tempdir().expect("a directory for one server") };
        ledger.behave(flags);
        ledger
    }

    /// From now on it is the demo server with these flags. Nothing that identifies it changes.
    pub(crate) fn behave(&self, flags: &[&str]) {
        self.behave_and_answer(flags, &[]);
    }

    /// Likewise, and these methods are answered with these members of a reply; with "": not at all.
    pub(crate) fn behave_and_answer(&self, flags: &[&str], answers: &[(&str, &str)]) {
        let command = [&[PROGRAM, "demo"], flags].concat().join("\n");
        let answers: Vec<String> =
            answers.iter().map(|(method, members)| format!("{method}\t{members}")).collect();
        fs::write(self.file("command"), command).expect("its command");
        fs::write(self.file("answers"), answers.join("\n")).expect("its answers");
    }

    /// It as `[servers.demo]`; arguments go to the tool as they are. Further keys may be written behind it.
    pub(crate) fn config(&self) -> String {
        self.config_with(&example("ledger"))
    }

    /// Likewise, started by another program.
    pub(crate) fn config_with(&self, program: &Path) -> String {
        let (program, dir) = (shown(program), shown(self.dir.path()));
        format!("\n[servers.demo]\ncommand = {program:?}\nargs = [{dir:?}]\nvalidate = \"off\"\n")
    }

    /// A file of its own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The methods that each of its processes was told, in the order in which they started.
    pub(crate) fn told(&self) -> Vec<Vec<String>> {
        let method = |message: &Value| message["method"].as_str().unwrap_or("(answer)").to_owned();
        self.heard().iter().map(|messages| messages.iter().map(method).collect()).collect()
    }

    /// The messages that each of its processes was told, likewise.
    pub(crate) fn heard(&self) -> Vec<Vec<Value>> {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let mut processes: Vec<(&str, Vec<Value>)> = Vec::new();
        for line in log.lines() {
            match line.split_once('\t') {
                None => processes.push((line, Vec::new())),
                Some((name, message)) => {
                    let message: Value = serde_json::from_str(message).expect("we say nothing but JSON");
                    let process = processes.iter_mut().find(|(known, _)| *known == name);
                    process.expect("it had started").1.push(message);
                }
            }
        }
        processes.into_iter().map(|(_, messages)| messages).collect()
    }
}
