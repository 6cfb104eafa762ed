//! What is probably wrong with a server that does not start, and how to mend it, in words for a person. Pure.
//!
//! Nothing here is certain: what is known of the failure stands before it, in the server's own words. A line that fits no
//! case gets no advice, for a wrong one costs more time than none.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use crate::child::{ProgramError, SpawnError};
use crate::exchange::{
    CallError, Cause, Exit, FOREIGN_FORMAT, LastWords, Phase, Shortage, is_foreign_format, nearest,
};

/// What is known of a server beside its failure.
pub(super) struct Patient<'a> {
    /// Its whole environment.
    pub(super) env: &'a [(OsString, OsString)],
    /// How long its start may take.
    pub(super) open_deadline: Duration,
    /// Names of programs that would have been found, for whoever mistyped one.
    pub(super) programs: &'a [String],
}

/// Words in what a server wrote, in lower case, and what they call for; the first that fits counts.
const WORDS: [(&str, &str); 19] = [
    ("npm error code e404", PACKAGE),
    ("npm err! code e404", PACKAGE),
    ("not found in the package registry", PACKAGE),
    ("no module named", PYTHON),
    ("modulenotfounderror", PYTHON),
    ("err_module_not_found", NODE),
    ("cannot find module", NODE),
    ("exec format error", FOREIGN_FORMAT),
    ("command not found", INNER),
    (": not found", INNER),
    ("eaddrinuse", BUSY),
    ("address already in use", BUSY),
    ("eai_again", NETWORK),
    ("enotfound", NETWORK),
    ("name resolution", NETWORK),
    ("enoent", FILE),
    ("no such file or directory", FILE),
    ("eacces", RIGHTS),
    ("permission denied", RIGHTS),
];
const PACKAGE: &str = "there is no package of this name: is it spelt as in its documentation?";
const PYTHON: &str = "this Python lacks a module: install it for this interpreter, or name the `python` of the \
    environment that has it as `command`; `uvx PACKAGE` brings its own";
const NODE: &str =
    "Node lacks a module: run `npm install` where the server is, and name its script by an absolute path";
const INNER: &str =
    "it runs another program that is not in its PATH: give it one with `env = { PATH = \"...\" }`";
const BUSY: &str = "it wants a port that is taken. Each call has a process of its own, so a fixed port suits \
    `strategy = \"shared\"` alone; a server on stdio needs none";
const NETWORK: &str =
    "it needs the network when it starts: is a proxy needed, or could it be installed beforehand?";
const FILE: &str = "it looks for a file that is not there. Relative paths begin in its scratch directory, which is empty: \
    set `cwd`, or write absolute paths";
const RIGHTS: &str =
    "it may not use a file: look at the file's owner and mode, and at `sandbox` if it has one";

const TERMINAL: &str = "it wants a terminal, and servers have none: secrets belong in `env` or `pass_env`";
const PROMPT: &str =
    "it asks for something that nobody can type: give it that by `env`, `pass_env` or a file";

/// Words in a line about the terminal, in lower case, by which it could not be had (`open(2)`, ENXIO), and those of sudo.
const NO_TERMINAL: [&str; 5] =
    ["no such device or address", "enxio", "cannot open", "permission denied", "a terminal is required"];

/// What is asked for at a prompt, in lower case.
const ASKED_FOR: [&str; 8] =
    ["password", "passphrase", "token", "login", "username", "user name", "api key", "secret"];

/// Words by which a line is no prompt, though it may end like one.
const NO_PROMPT: [&str; 4] = ["error", "unexpected", "invalid", "failed"];

/// To whoever waited in vain for an answer.
const MORE_TIME: &str = "allow it more time: a longer `--timeout`, and `deadline` of the server where that is shorter; or ask for less at \
    once";

/// Words by which a server tells that it listens for HTTP.
const HTTP: [&str; 6] = [
    "running on http://",
    "listening on http",
    "listening on port",
    "http://0.0.0.0:",
    "http://localhost:",
    "uvicorn",
];

/// Endings of names that hold what only the user has.
const CREDENTIALS: [&str; 7] = ["_API_KEY", "_TOKEN", "_KEY", "_SECRET", "_PASSWORD", "_URL", "_ID"];

/// Words beside a variable's name by which it is missed.
const MISSED: [&str; 9] =
    ["keyerror", "missing", "require", "not set", "unset", "must", "undefined", "provide", "environment"];

/// What to try, one thing each; none: the failure's own words have to do.
pub(super) fn advice(error: &CallError, patient: &Patient<'_>) -> Vec<String> {
    let shape = match error {
        CallError::SpawnFailed { source, .. } => return of_spawn(&**source, patient).into_iter().collect(),
        CallError::NoLongerModern { .. } => {
            return vec![
                "ask again: what was remembered of it is dropped, and the next call begins with a handshake"
                    .to_owned(),
            ];
        }
        CallError::OpenFailed { words, .. } => left(words, Phase::Open),
        CallError::ServerCrashed { words, phase } => left(words, *phase),
        // What it wrote may be of long ago, or of no weight: it has opened, after all.
        CallError::DeadlineExceeded { phase: Phase::Call, words, .. } => {
            let specific = by_hand(words).map(str::to_owned);
            return met(words).chain(specific).chain(strays(words)).chain([MORE_TIME.to_owned()]).collect();
        }
        CallError::DeadlineExceeded { phase: Phase::Open, after, words } => {
            Some(hangs(*after, words, patient))
        }
        CallError::OutputTooLarge { phase: Phase::Call, .. } => {
            return vec!["ask for less, or raise `limits.output` of the server".to_owned()];
        }
        CallError::ProtocolViolation { phase: Phase::Open, .. }
        | CallError::OutputTooLarge { phase: Phase::Open, .. } => {
            Some("it does not speak MCP on its stdout: does it need an argument such as `stdio`?".to_owned())
        }
        _ => return Vec::new(),
    };
    let Some(words) = error.words() else { return shape.into_iter().collect() };
    let opened = matches!(error.phase(), Some(Phase::Call));
    let specific: Vec<_> = met(words).chain(of_words(words, patient, opened)).collect();
    // What it said itself explains more than how it ended, and so does a limit that it met.
    let shape = shape.filter(|_| specific.is_empty());
    specific.into_iter().chain(strays(words)).chain(shape).collect()
}

/// By the limit that it met.
fn met(words: &LastWords) -> impl Iterator<Item = String> {
    words.cause.map(Cause::remedy).map(str::to_owned).into_iter()
}

fn strays(words: &LastWords) -> Option<String> {
    words.noise.first().map(|line| stray(line))
}

/// What to say of a server that wrote this to its stdout, though it did start.
pub(super) fn stray(line: &str) -> String {
    format!(
        "it writes to stdout what is no message ({line:?} first), which not every client skips: stdout is for messages \
         alone, so have it log to stderr"
    )
}

fn of_spawn(error: &(dyn Error + 'static), patient: &Patient<'_>) -> Option<String> {
    let error = match error.downcast_ref()? {
        SpawnError::Program(error) => error,
        SpawnError::Interpreter { .. } => {
            return Some("install that interpreter, or mend the first line of the script".to_owned());
        }
        SpawnError::Directory { .. } => {
            return Some("make that directory, or mend `cwd`".to_owned());
        }
        other if is_foreign_format(other) => return Some(FOREIGN_FORMAT.to_owned()),
        other => return Shortage::behind(other).map(|shortage| shortage.remedy().to_owned()),
    };
    Some(match error {
        ProgramError::NotFound { name, .. } => {
            let meant = nearest(name, patient.programs.iter().map(String::as_str));
            let meant = meant.map(|meant| format!("did you mean {meant:?}? Else ")).unwrap_or_default();
            format!(
                "{meant}install it, write its absolute path as `command`, or give the server another PATH under `env`"
            )
        }
        ProgramError::Missing { path } if path.as_os_str().as_encoded_bytes().contains(&b' ') => {
            "`command` is the program alone: if the words after it are its arguments, they belong into `args`"
                .to_owned()
        }
        ProgramError::Missing { .. } => {
            "is that where it is installed? A relative path begins where the configuration file is".to_owned()
        }
        ProgramError::NotExecutable { path, why: "is not executable" } => {
            format!(
                "`chmod +x {}`, or put its interpreter into `command` and the file into `args`",
                path.display()
            )
        }
        ProgramError::NotExecutable { .. } => "name a program that this user may run".to_owned(),
    })
}

/// By how it ended, if it did. One that was asked has opened, so it is an MCP server: no word of that.
fn left(words: &LastWords, phase: Phase) -> Option<String> {
    let silent = words.stderr_tail.is_empty();
    let advice = match (words.exit, phase) {
        (Some(Exit::Code(126 | 127)), _) => INNER,
        (Some(Exit::Signal(31)), _) => "a system call was denied to it: look at `sandbox`",
        (_, Phase::Call) if silent && words.noise.is_empty() => {
            "it had opened, and wrote nothing to stderr: try other arguments, and run it once by hand"
        }
        (_, Phase::Call) => return None,
        (Some(Exit::Code(0)), _) if silent => {
            "it ended in peace without a word: is it an MCP server, and does it need an argument such as `stdio`?"
        }
        (Some(Exit::Code(2)), _) => "code 2 is what most programs give for wrong arguments: look at `args`",
        _ => return None,
    };
    Some(advice.to_owned())
}

fn hangs(after: Duration, words: &LastWords, patient: &Patient<'_>) -> String {
    if !words.noise.is_empty() {
        return "it answered nothing: is it an MCP server, and does it need an argument such as `stdio`?"
            .to_owned();
    }
    // A whole call may have less time than a start.
    let more = if after < patient.open_deadline {
        "give it more time: a longer `--timeout`, or `deadline` where that is shorter"
    } else {
        "raise `open_deadline`"
    };
    let silence = if words.stderr_tail.is_empty() { "said nothing" } else { "answered nothing on stdout" };
    format!(
        "it {silence} for {after:?}. It may wait for somebody to answer it, or be downloading what it needs: start it once \
         by hand. If it only takes long, {more}"
    )
}

/// By what it wrote before it failed.
fn of_words(words: &LastWords, patient: &Patient<'_>, opened: bool) -> Vec<String> {
    let mut found = Vec::new();
    let lines = || words.stderr_tail.lines().chain(words.noise.iter().map(String::as_str));
    let any = |word: &str| lines().any(|line| line.to_lowercase().contains(word));
    let missed = missed_variables(lines(), patient);
    if let Some(first) = missed.first() {
        let mut text = format!("it seems to want {}: set it under `env`", missed.join(", "));
        let _ = write!(text, ", or pass the gateway's own on with `pass_env = [{first:?}]`");
        found.push(text);
    } else if let Some(advice) = by_hand(words) {
        found.push(advice.to_owned());
    } else if let Some((_, advice)) = WORDS.iter().find(|(word, _)| any(word)) {
        found.push((*advice).to_owned());
    }
    if !opened && HTTP.iter().any(|word| any(word)) {
        let text = "it seems to serve HTTP: have it speak on stdio, as `--transport stdio` or `stdio` does with many";
        found.push(text.to_owned());
    }
    found
}

/// Where it wants to be answered by somebody at a terminal.
fn by_hand(words: &LastWords) -> Option<&'static str> {
    let lines = || words.stderr_tail.lines().map(str::to_lowercase);
    let of_terminal = |line: &str| line.contains("/dev/tty") || line.contains("a terminal is required");
    if lines().any(|line| of_terminal(&line) && NO_TERMINAL.iter().any(|word| line.contains(word))) {
        return Some(TERMINAL);
    }
    let last = lines().rfind(|line| !line.trim().is_empty())?;
    let any = |words: &[&str]| words.iter().any(|word| last.contains(word));
    (last.trim_end().ends_with([':', '?']) && any(&ASKED_FOR) && !any(&NO_PROMPT)).then_some(PROMPT)
}

/// Names of variables that are spoken of as missing, and that it does not have.
fn missed_variables<'l>(lines: impl Iterator<Item = &'l str>, patient: &Patient<'_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        let lower = line.to_lowercase();
        if !MISSED.iter().any(|word| lower.contains(word)) {
            continue;
        }
        let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for word in words.filter(|word| {
            CREDENTIALS.iter().any(|ending| word.len() > ending.len() && word.ends_with(ending))
        }) {
            let shouted = !word.starts_with('_') && !word.bytes().any(|byte| byte.is_ascii_lowercase());
            let has = patient.env.iter().any(|(name, _)| name == word);
            if shouted && !has && !found.iter().any(|name| name == word) {
                found.push(word.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    fn patient() -> (Vec<(OsString, OsString)>, Vec<String>) {
        (vec![("HAVE_API_KEY".into(), "x".into())], vec!["npx".to_owned(), "uvx".to_owned()])
    }

    fn advised(error: &CallError) -> String {
        let (env, programs) = patient();
        let open_deadline = Duration::from_secs(30);
        advice(error, &Patient { env: &env, open_deadline, programs: &programs }).join("\n")
    }

    fn ended(exit: Exit, stderr: &str, noise: &[&str]) -> CallError {
        let noise = noise.iter().map(ToString::to_string).collect();
        let words = LastWords { exit: Some(exit), stderr_tail: stderr.to_owned(), noise, cause: None };
        CallError::OpenFailed { source: Arc::new(std::fmt::Error), words: Box::new(words) }
    }

    #[test]
    fn what_a_server_wrote_before_it_left_calls_for_something() {
        for (code, stderr, expected) in [
            (1, "ModuleNotFoundError: No module named 'mcp'", PYTHON),
            (1, "Error: Cannot find module '/x/index.js'", NODE),
            (127, "sh: 1: node: not found", INNER),
            (127, "", INNER),
            (1, "Error: ENOENT: no such file or directory, open 'a.json'", FILE),
            (1, "PermissionError: [Errno 13] Permission denied: '/data'", RIGHTS),
            (1, "OSError: [Errno 98] Address already in use", BUSY),
            (1, "getaddrinfo EAI_AGAIN registry.npmjs.org", NETWORK),
            (1, "npm error code E404\nnpm error 404 Not Found - GET https://x/y", PACKAGE),
            (1, "cause: Because x was not found in the package registry and you require x, we", PACKAGE),
            (
                1,
                "KeyError: 'GITHUB_TOKEN'",
                "it seems to want GITHUB_TOKEN: set it under `env`, or pass the gateway's own on \
                with `pass_env = [\"GITHUB_TOKEN\"]`",
            ),
            (1, "OSError: [Errno 6] No such device or address: '/dev/tty'", TERMINAL),
            (2, "sh: 1: cannot open /dev/tty: No such device or address", TERMINAL),
            (1, "sudo: a terminal is required to read the password", TERMINAL),
            (1, "Welcome\nEnter your Login: \n", PROMPT),
            (126, "sh: ./server: Exec format error", FOREIGN_FORMAT),
            (2, "usage: server [-h]", "look at `args`"),
            (0, "", "an argument such as `stdio`"),
        ] {
            let told = advised(&ended(Exit::Code(code), stderr, &[]));
            assert!(told.contains(expected), "{stderr}: {told}");
        }
    }

    #[test]
    fn nothing_is_advised_where_nothing_is_known() {
        for stderr in [
            "panic",
            "no license found",
            "the HAVE_API_KEY is not set",
            "MY_TOKEN accepted",
            "_API_KEY is missing",
            "Password:\nthank you",
            "SyntaxError: unexpected token:",
            "opened /dev/tty",
        ] {
            assert_eq!(advised(&ended(Exit::Code(1), stderr, &[])), "", "{stderr}");
        }
        assert_eq!(advised(&CallError::ToolError { result: crate::exchange::RawJson::empty_object() }), "");
    }

    #[test]
    fn every_variable_that_is_missed_is_named_once() {
        let told = advised(&ended(
            Exit::Code(1),
            "Missing A_API_KEY and B_URL\nset A_API_KEY in the environment",
            &[],
        ));
        assert!(told.starts_with("it seems to want A_API_KEY, B_URL: "), "{told}");
    }

    #[test]
    fn stray_lines_and_http_are_told_apart_from_messages() {
        let told = advised(&ended(Exit::Code(1), "", &["Starting...", "more"]));
        assert!(told.contains("\"Starting...\"") && told.contains("log to stderr"), "{told}");
        let told = advised(&ended(Exit::Code(1), "INFO: Uvicorn running on http://127.0.0.1:8000", &[]));
        assert!(told.contains("--transport stdio"), "{told}");
    }

    #[test]
    fn a_server_that_hangs_is_to_be_tried_by_hand() {
        let late = |stderr: &str| {
            let words = Box::new(LastWords { stderr_tail: stderr.to_owned(), ..LastWords::default() });
            CallError::DeadlineExceeded { phase: Phase::Open, after: Duration::from_secs(30), words }
        };
        let told = advised(&late(""));
        assert!(
            told.contains("for 30s") && told.contains("once by hand") && told.contains("`open_deadline`"),
            "{told}"
        );
        assert!(advised(&late("listening on port 80")).contains("it seems to serve HTTP"));
        let words = Box::default();
        let short = CallError::DeadlineExceeded { phase: Phase::Open, after: Duration::from_secs(3), words };
        let told = advised(&short);
        assert!(told.contains("for 3s") && told.contains("`--timeout`, or `deadline`"), "{told}");
        // It did say something.
        let words = Box::new(LastWords { noise: vec!["hello".to_owned()], ..LastWords::default() });
        let (phase, after) = (Phase::Open, Duration::from_secs(30));
        let told = advised(&CallError::DeadlineExceeded { phase, after, words });
        assert!(told.contains("it answered nothing") && !told.contains("said nothing"), "{told}");
        let told = advised(&late("one line\nanother"));
        assert!(told.contains("it answered nothing on stdout for 30s") && told.contains("by hand"), "{told}");
        assert_eq!(advised(&late("Starting\nPassphrase for /k: ")), PROMPT);
    }

    #[test]
    fn a_server_that_wrote_too_much_is_doubted_before_it_opened_alone() {
        let told = |phase| advised(&CallError::OutputTooLarge { phase, limit: 9, words: Box::default() });
        assert!(
            told(Phase::Open).contains("does not speak MCP") && !told(Phase::Open).contains("ask for less")
        );
        assert!(told(Phase::Call).contains("`limits.output`"));
    }

    #[test]
    fn a_server_that_met_a_limit_is_to_be_given_more() {
        for (cause, limit) in [
            (Cause::Memory, "`limits.memory`"),
            (Cause::Cpu, "`limits.cpu_time`"),
            (Cause::Processes, "`limits.processes`"),
        ] {
            for phase in [Phase::Open, Phase::Call] {
                let words = LastWords {
                    cause: Some(cause),
                    stderr_tail: "enoent".to_owned(),
                    ..LastWords::default()
                };
                let told = advised(&CallError::ServerCrashed { phase, words: Box::new(words) });
                assert!(told.starts_with(limit) && told.contains(FILE), "{told}");
            }
        }
    }

    #[test]
    fn a_server_that_opened_is_not_asked_whether_it_is_one() {
        let told = |code, stderr: &str| {
            let words = LastWords {
                exit: Some(Exit::Code(code)),
                stderr_tail: stderr.to_owned(),
                ..LastWords::default()
            };
            advised(&CallError::ServerCrashed { phase: Phase::Call, words: Box::new(words) })
        };
        for code in [0, 1, 2] {
            let silent = told(code, "");
            assert!(silent.contains("other arguments") && !silent.contains("MCP server"), "{silent}");
            assert_eq!(told(code, "so be it, on http://localhost:1"), "");
        }
        assert_eq!(told(127, "sh: 1: convert: not found"), INNER);
    }

    #[test]
    fn whoever_waited_in_vain_for_an_answer_is_told_of_the_deadline() {
        let late = |stderr: &str| {
            let words = Box::new(LastWords { stderr_tail: stderr.to_owned(), ..LastWords::default() });
            advised(&CallError::DeadlineExceeded { phase: Phase::Call, after: Duration::from_secs(3), words })
        };
        assert_eq!(late("enoent: no cache yet"), MORE_TIME);
        let told = late("Password: ");
        assert!(told.starts_with(PROMPT) && told.ends_with(MORE_TIME), "{told}");
    }

    #[test]
    fn a_program_that_cannot_be_run_is_mended_by_what_is_wrong_with_it() {
        let told = |error: SpawnError| {
            advised(&CallError::SpawnFailed { program: PathBuf::from("x"), source: Arc::new(error) })
        };
        let absent =
            |name: &str| ProgramError::NotFound { name: name.to_owned(), looked_in: Vec::new() }.into();
        assert!(told(absent("nxp")).starts_with("did you mean \"npx\"? Else install it"));
        assert!(told(absent("something")).starts_with("install it"));
        let not = |why| ProgramError::NotExecutable { path: "/a/b".into(), why }.into();
        assert!(told(not("is not executable")).starts_with("`chmod +x /a/b`"));
        assert!(told(not("is a directory")).starts_with("name a program"));
        assert!(told(ProgramError::Missing { path: "/a".into() }.into()).contains("where it is installed"));
        let whole = PathBuf::from("/bin/sh -c x");
        assert!(told(ProgramError::Missing { path: whole }.into()).contains("they belong into `args`"));
        assert!(told(SpawnError::Directory { path: "/a".into() }).contains("`cwd`"));
        assert!(told(SpawnError::Interpreter { path: "/a".into() }).contains("first line"));
        let source = std::io::Error::from_raw_os_error(8);
        assert_eq!(told(SpawnError::Exec { path: "/a".into(), source }), FOREIGN_FORMAT);
        assert_eq!(told(SpawnError::Scratch(std::io::Error::other("x"))), "");
        let source = std::io::Error::from_raw_os_error(11);
        assert!(told(SpawnError::Exec { path: "/a".into(), source }).contains("`TasksMax=`"));
    }
}
