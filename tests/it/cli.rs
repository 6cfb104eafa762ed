//! The command: what it prints, what it complains about, how it ends, and that nothing is left of it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod check;
mod streams;
mod tls;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_spawnling");

/// A program in a directory of its own, configured by nothing that surrounds the test.
#[expect(clippy::disallowed_methods, reason = "the program under test is the test's own child")]
pub(crate) fn command(program: impl AsRef<OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("TMPDIR", dir).env("SPAWNLING_CACHE_DIR", dir.join("cache"));
    for variable in [
        "SPAWNLING_CONFIG",
        "SPAWNLING_HOSTS",
        "SPAWNLING_LISTEN",
        "SPAWNLING_LOG",
        "SPAWNLING_TOKEN",
        "MCP_BROWSER_USE_DIR",
    ] {
        command.env_remove(variable);
    }
    command
}

/// A directory to run the command in.
struct Place(TempDir);

/// What came of one command.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("cli-").tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("written");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(PROGRAM, self.path());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end, and sees that nothing is left of it.
    fn run(&self, args: &[&str]) -> Done {
        self.run_with("", args)
    }

    fn run_with(&self, stdin: &str, args: &[&str]) -> Done {
        let mut child = self.command(args).spawn().expect("it can be started");
        let mut pipe = child.stdin.take().expect("piped");
        // Whoever does not read it may be gone already.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        self.end(child)
    }

    fn end(&self, child: Child) -> Done {
        let output = within_patience(child);
        self.nothing_is_left();
        let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// No scratch directory, and no process that was given one: its `TMPDIR` would name this place.
    fn nothing_is_left(&self) {
        let entries = fs::read_dir(self.path()).expect("it can be read");
        let names = entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into_owned());
        let scratch: Vec<String> = names.filter(|name| name.starts_with("spawnling-")).collect();
        assert!(scratch.is_empty(), "scratch directories are left: {scratch:?}");
        assert!(self.servers().is_empty(), "processes are left: {:?}", self.servers());
    }

    /// The processes that have a scratch directory here.
    fn servers(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}/spawnling-", self.path().display());
        let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
        let ours = processes.filter(|process| {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mark)
        });
        ours.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Done {
    /// Ended with this status, having said this on stderr.
    #[track_caller]
    fn failed(&self, code: i32, complaint: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(complaint), "{complaint:?} is not in {self:?}");
        assert!(self.err.starts_with("spawnling: "), "{self:?}");
    }

    /// Ended well, having printed exactly this.
    #[track_caller]
    fn printed(&self, out: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(0), out), "{self:?}");
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("it can be signalled");
}

#[test]
fn version_and_help_go_to_stdout() {
    let place = Place::new();
    place.run(&["--version"]).printed(&format!("spawnling {}\n", env!("CARGO_PKG_VERSION")));
    let help = place.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["serve", "call", "tools", "check", "demo", "spawnling serve -- uvx mcp-server-time"] {
        assert!(help.out.contains(word), "{word}: {help:?}");
    }
    for subcommand in ["serve", "call", "tools", "check", "demo"] {
        assert_eq!(place.run(&[subcommand, "--help"]).code, Some(0), "{subcommand}");
    }
}

#[test]
fn wrong_words_are_status_2() {
    let place = Place::new();
    for args in [&["bogus"][..], &[], &["call", "demo"], &["tools"], &["serve", "x"], &["check", "--fast"]] {
        let done = place.run(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}: {done:?}");
        assert!(done.err.contains("Usage: spawnling"), "{done:?}");
    }
    place
        .run(&["call", "demo", "echo", "hello"])
        .failed(2, "\"hello\" is neither key=value, key:=JSON nor a JSON object");
    place.run(&["call", "demo", "echo", "a=1", "a=2"]).failed(2, "\"a\" is given twice");
    for args in [&["serve", "--"][..], &["check", "--", ""], &["tools", "demo", "--"]] {
        place.run(args).failed(2, "a command must follow `--`\n");
    }
    place.run(&["call", "demo", "echo", "{}", "a=2"]).failed(2, "stands for all arguments");
    place.run(&["call", "demo", "echo", "{\"a\":"]).failed(2, "not one JSON object");
    place.run(&["call", "demo", "echo", "--timeout", "5"]).failed(2, "\"5\" is no duration: write 1500ms");
    place.run(&["call", "demo", "echo", "--timeout", "0s"]).failed(2, "--timeout: must be longer than 0");
    place.run_with("[1]", &["call", "demo", "echo", "-"]).failed(2, "not one JSON object");
}

#[test]
fn who_forgets_the_dashes_or_takes_another_programs_flag_is_told_what_to_write() {
    let place = Place::new();
    for (args, tip) in [
        (&["serve", "uvx", "mcp-server-time"][..], "behind `--`, as in: -- uvx mcp-server-time"),
        (&["check", "npx"], "behind `--`"),
        (&["serve", "--port", "5002"], "use `--listen 127.0.0.1:5002`"),
        (&["serve", "--host=0.0.0.0"], "use `--listen "),
    ] {
        let done = place.run(args);
        assert!(done.code == Some(2) && done.err.contains("tip: ") && done.err.contains(tip), "{done:?}");
    }
    let done = place.run(&["serve", "--fast"]);
    assert!(done.code == Some(2) && !done.err.contains("tip: "), "{done:?}");
}

#[test]
fn of_a_flood_on_stderr_the_last_lines_are_shown() {
    let place = Place::new();
    let done = place.run(&["tools", "default", "--", "sh", "-c", "seq 1000 >&2; exit 1"]);
    done.failed(1, "its stderr ended with (960 lines before):\n961\n");
    assert!(done.err.contains("\n1000\n") && !done.err.contains("\n960\n"), "{done:?}");
    // Neither the first line that is shown nor the last one goes missing.
    let done = place.run(&["tools", "default", "--", "sh", "-c", "seq 40 >&2; exit 1"]);
    done.failed(1, "its stderr ended with:\n1\n");
}

#[test]
fn a_call_takes_pairs_an_object_or_stdin() {
    let place = Place::new();
    place.run(&["call", "demo", "echo", "message=hello world"]).printed("hello world\n");
    place.run(&["call", "demo", "echo", "{\"message\": \"3\"}"]).printed("3\n");
    place
        .run_with("\n{\"message\":\n\"from stdin\"}\n", &["call", "demo", "echo", "-"])
        .printed("from stdin\n");
    place.run(&["call", "demo", "add", "a=1", "b=2.5"]).printed("{\"sum\":3.5}\n");
    let big = "value=123456789012345678901234567890";
    place.run(&["call", "demo", "raw", big]).printed("{\"value\":123456789012345678901234567890}\n");
    place.run(&["call", "demo", "counter"]).printed("{\"count\":1}\n");
    place.run(&["call", "demo", "counter"]).printed("{\"count\":1}\n");
}

#[test]
fn what_looks_like_a_number_is_a_string_where_the_tool_wants_one() {
    let place = Place::new();
    for text in ["3", "true", "null", "[1, 2]", "{\"a\": 1}", "007"] {
        place.run(&["call", "demo", "echo", &format!("message={text}")]).printed(&format!("{text}\n"));
    }
    place.run(&["call", "demo", "echo", "message:=\"3\""]).printed("3\n");
    place.run(&["call", "demo", "add", "a:=1", "b=2"]).printed("{\"sum\":3}\n");
    place.run(&["call", "demo", "add", "a=x", "b=2"]).failed(1, "\"x\" is not of type \"number\"");
}

#[test]
fn progress_is_shown_where_it_is_asked_for() {
    let place = Place::new();
    let call = ["call", "demo", "sleep", "seconds=0.3"];
    assert_eq!(place.run(&call).err, "");
    let done = place.run(&[&call[..], &["--progress"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("1.0/1.0 step 1 of 1\n"), "{done:?}");
}

#[test]
fn completions_and_manual_pages_go_to_stdout() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let done = place.run(&["completions", shell]);
        assert!(done.code == Some(0) && done.out.contains("receipt"), "{shell}: {done:?}");
    }
    assert!(place.run(&["man"]).out.contains(".TH spawnling 1"));
    assert!(place.run(&["man", "call"]).out.contains(".TH spawnling-call 1"));
    place.run(&["man", "nothing"]).failed(2, "there is no command \"nothing\"");
}

#[test]
fn a_receipt_goes_to_stderr() {
    let place = Place::new();
    let done = place.run(&["call", "--receipt", "demo", "echo", "message=bye"]);
    done.printed("bye\n");
    let lines: Vec<_> = done.err.lines().collect();
    assert!(lines.iter().all(|line| line.get(17..19).is_some_and(|gap| gap.ends_with(' '))), "{done:?}");
    for line in ["server             demo", "outcome            ok", "exit               code 0"] {
        assert!(lines.contains(&line), "{line}: {done:?}");
    }
    let failed = place.run(&["call", "--receipt", "demo", "fail", "message=no luck"]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.err.ends_with("\nspawnling: the tool reported an error:\nno luck\n"), "{failed:?}");
    assert!(failed.err.contains("\noutcome            tool-error\n"), "{failed:?}");
    let refused = place.run(&["call", "--receipt", "demo", "nothing"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("\noutcome            unknown-tool\n"), "{refused:?}");
    assert!(place.run(&["call", "demo", "echo", "message=bye"]).err.is_empty());
}

#[test]
fn a_call_that_fails_says_by_its_status_how_and_why() {
    let place = Place::new();
    let listed = "`spawnling tools demo` lists the tools that there are\n";
    place.run(&["call", "demo", "nothing"]).failed(1, &format!("there is no tool \"nothing\"\n{listed}"));
    place.run(&["call", "demo", "ecoh"]).failed(1, &format!("\"ecoh\"; did you mean \"echo\"?\n{listed}"));
    for wrong in ["{\"message\": 3}", "message:=3"] {
        place
            .run(&["call", "demo", "echo", wrong])
            .failed(1, "has to be said in JSON: '{\"message\":\"3\"}'\n");
    }
    place.run(&["call", "demo", "fail", "message=no luck"]).failed(3, "reported an error:\nno luck\n");
    place
        .run(&["call", "demo", "add", "a=1"])
        .failed(1, "\"b\" is a required property\n`spawnling tools demo` shows what it takes\n");
    let late = ["call", "demo", "sleep", "seconds=30", "--timeout", "200ms"];
    place.run(&late).failed(4, "time ran out after 200ms in phase call");
}

#[test]
fn an_unknown_server_is_status_2_and_names_those_that_there_are() {
    let place = Place::new();
    let complaint = "there is no server \"nobody\"; there are: demo, browser";
    place.run(&["call", "nobody", "echo"]).failed(2, complaint);
    place.run(&["tools", "nobody"]).failed(2, complaint);
}

#[test]
fn a_program_that_cannot_be_started_is_named_with_the_places_that_were_looked_at() {
    let place = Place::new();
    let (first, second) = (place.path().join("one"), place.path().join("two"));
    fs::create_dir(&first).expect("made");
    fs::create_dir(&second).expect("made");
    let path = format!("{}:{}", first.display(), second.display());
    let looked = |program: &str| {
        let mut command = place.command(&["call", "default", "x", "--", program]);
        place.end(command.env("PATH", &path).spawn().expect("it can be started"))
    };
    looked("absent").failed(1, &format!("cannot start absent: no program \"absent\" in {path}\n"));

    let text = second.join("text");
    fs::write(&text, "#!/bin/sh\n").expect("written");
    let shown = text.display();
    looked("text").failed(1, &format!("cannot start text: {shown} is not executable"));
    looked(&format!("{shown}")).failed(1, &format!("{shown} is not executable"));
    looked("./nowhere/server")
        .failed(1, &format!("{}/nowhere/server does not exist", place.path().display()));
    looked("./two").failed(1, "is a directory");

    fs::write(&text, "#!/no/such/interpreter\n").expect("written");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("changed");
    looked("text").failed(1, &format!("the interpreter that {shown} asks for does not exist"));
}

#[test]
fn the_last_words_of_a_server_that_leaves_are_shown() {
    let place = Place::new();
    let server = ["sh", "-c", "echo not a message; echo no license found >&2; exit 3"];
    for start in [&["call", "default", "x"][..], &["tools", "default"]] {
        let done = place.run(&[start, &["--"], &server].concat());
        done.failed(1, "the server did not open: it ended before it had answered");
        for words in ["exited with code 3", "no message: not a message", "no license found"] {
            assert!(done.err.contains(words), "{words}: {done:?}");
        }
    }
}

#[test]
fn tools_are_listed_for_people_and_for_programs() {
    let place = Place::new();
    let done = place.run(&["tools", "demo"]);
    let echo = "echo                     Returns the message it was given.\n    message              (string) What to say back.\n";
    assert!(done.out.starts_with(echo), "{done:?}");
    let done = place.run(&["tools", "demo", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&done.out).expect("it is JSON");
    assert_eq!(list["tools"][0]["name"], "echo");
    assert_eq!(list["tools"][0]["inputSchema"]["required"][0], "message");
}

#[test]
fn a_reader_who_has_read_enough_is_no_error() {
    let place = Place::new();
    for args in
        [&["tools", "demo"][..], &["tools", "demo", "--json"], &["check"], &["call", "demo", "counter"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = place.command(args).stdout(writer).spawn().expect("it can be started");
        let done = place.end(child);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}: {done:?}");
    }
}

#[test]
fn a_wrong_configuration_is_status_2_with_every_mistake_in_its_place() {
    let place = Place::new();
    place.write("spawnling.toml", "lisen = []\n[servers.a]\ncommand = \"x y\"\ndeadline = 5\n");
    for args in [&["serve"][..], &["check"], &["tools", "a"], &["call", "a", "x"]] {
        let done = place.run(args);
        done.failed(2, "cannot use the configuration\n");
        for complaint in ["toml:1:1: lisen: ", "`listen`?", "toml:3:11: servers.a.command: ", "toml:4:12: "] {
            assert!(done.err.contains(complaint), "{complaint}: {done:?}");
        }
    }
    place.run(&["check", "--config", "none.json"]).failed(2, "none.json: cannot be read: No such file");
    place.write("broken.json", "{\"mcpServers\": {\n  \"a\": }\n}");
    place.run(&["check", "--config", "broken.json"]).failed(2, "broken.json:2:8: ");
    place
        .run(&["check", "--config", "broken.json", "--", "true"])
        .failed(2, "--config: a command behind `--`");
    place.run(&["serve", "--listen", "5001"]).failed(2, "--listen: \"5001\" is no address");
    place.run(&["serve", "--listen", "0.0.0.0:0"]).failed(2, "--insecure");
}

#[test]
fn a_log_that_cannot_be_is_status_2() {
    let place = Place::new();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["check"]] {
        let child = place.command(args).env("SPAWNLING_LOG", "spawnling=loud").spawn().expect("started");
        place.end(child).failed(2, "SPAWNLING_LOG: \"spawnling=loud\" does not say what to log");
    }
}

#[test]
fn a_file_that_listens_publicly_serves_the_commands_that_do_not_listen() {
    let place = Place::new();
    let config = format!("listen = [\"0.0.0.0:0\"]\n[servers.a]\ncommand = {PROGRAM:?}\nargs = [\"demo\"]\n");
    place.write("spawnling.toml", &config);
    place.run(&["call", "a", "echo", "message=hello"]).printed("hello\n");
    for args in [&["check"][..], &["tools", "a"]] {
        let done = place.run(args);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    }
    place.run(&["serve"]).failed(2, "toml:1:11: listen: 0.0.0.0:0 can be reached from other machines");
}

#[test]
fn a_file_of_other_clients_will_do_and_what_is_passed_over_is_said() {
    let place = Place::new();
    let config = format!(
        "{{\"mcpServers\": {{\"mine\": {{\"command\": {PROGRAM:?}, \"args\": [\"demo\"]}}, \
         \"far\": {{\"url\": \"https://mcp.example/\"}}}}}}"
    );
    place.write("mcp.json", &config);
    let done = place.run(&["call", "--config", "mcp.json", "mine", "echo", "message=hello"]);
    done.printed("hello\n");
    assert!(done.err.contains("mcpServers.far: passed over: it is reached by a url"), "{done:?}");
}

#[test]
fn serve_says_where_it_listens_and_stops_well_when_told() {
    let place = Place::new();
    for stop in [Signal::TERM, Signal::INT] {
        let mut gateway = place.command(&["serve", "--listen", "127.0.0.1:0"]).spawn().expect("started");
        let mut stdout = BufReader::new(gateway.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let address =
            line.trim().strip_prefix("spawnling listening on http://").expect("where it listens").to_owned();
        assert!(!address.ends_with(":0") && !address.ends_with(":5001"), "{line}");

        place_taken(&address);
        signal(&gateway, stop);
        let done = place.end(gateway);
        assert_eq!(done.code, Some(0), "{done:?}");
        let last = done.err.lines().last().expect("it logs");
        let last: serde_json::Value = serde_json::from_str(last).expect("JSON, where no terminal is");
        assert_eq!(last["message"], "stopped: no process is left");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("read");
        assert_eq!(rest, "", "stdout has one line per address");
    }
}

fn place_taken(address: &str) {
    let second = Place::new().run(&["serve", "--listen", address]);
    second.failed(1, &format!("cannot listen on {address}: Address already in use"));
    assert!(second.err.contains("\ntry: ") && second.err.contains("`--listen 127.0.0.1:5002`"), "{second:?}");
}

#[test]
fn an_interrupted_call_leaves_nothing() {
    let place = Place::new();
    for stop in [Signal::INT, Signal::TERM] {
        let child = place.command(&["call", "demo", "sleep", "seconds=60"]).spawn().expect("started");
        let began = Instant::now();
        while place.servers().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "no server was started");
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(&child, stop);
        place.end(child).failed(1, "interrupted");
        assert!(began.elapsed() < Duration::from_secs(30), "it was waited for");
    }
}

#[test]
fn demo_speaks_on_stdio_until_its_stdin_ends() {
    let place = Place::new();
    let initialize = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\
                      \"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"t\",\"version\":\"0\"}}}\n";
    let done = place.run_with(initialize, &["demo"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let answer: serde_json::Value = serde_json::from_str(&done.out).expect("one message");
    assert_eq!(answer["result"]["serverInfo"]["name"], "spawnling-demo");
    assert_eq!(place.run(&["demo", "--era", "future"]).code, Some(2));
}

/// Its output when it has ended. One that should have refused and serves instead is killed, or the test never ended.
fn within_patience(child: Child) -> Output {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    let (ended, waits) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(crate::support::PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            kill_process(pid, Signal::KILL).expect("it can be killed");
        }
    });
    let output = child.wait_with_output().expect("it can be waited for");
    drop(ended);
    watch.join().expect("the watch ends");
    output
}
