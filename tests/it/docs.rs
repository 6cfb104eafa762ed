//! The documentation, held to: what it shows is run, what it lists is compared with the program.
//!
//! ```text
//!   ```sh    a line that begins with `$ ` is run, in the order of the page; what follows it is what it prints.
//!            `...` stands for anything. Call ids, times and dates may differ. `spawnling serve` and `make run` stay
//!            in the background, on a free port that stands wherever the page says 127.0.0.1:5001.
//!   ```toml  a whole configuration: a gateway is started with it
//!   ```json  the same if it configures servers; else it must be JSON
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cli::{PROGRAM, command};
use crate::support::peers::skip;

/// The address in the documentation.
const SHOWN: &str = "127.0.0.1:5001";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every page, by its path from the top of the repository.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(directory)).expect("it can be read");
        let names =
            entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("ASCII"));
        let is_page = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "md");
        pages.extend(names.filter(is_page).map(|name| format!("{directory}/{name}")));
    }
    pages.sort();
    pages
}

/// A fenced block: its language and its lines.
struct Block {
    language: String,
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
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
struct Typed {
    line: usize,
    command: String,
    expected: String,
}

fn typed(block: &Block) -> Vec<Typed> {
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

// ------------------------------------------------------------------------------------------------ running

/// Where a page's commands are run.
struct Reader {
    dir: TempDir,
    gateway: Option<(Child, String)>,
}

impl Reader {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(".curlrc"), "silent\nshow-error\nnoproxy = \"*\"\nmax-time = 60\n")
            .expect("written");
        Self { dir, gateway: None }
    }

    /// A command with the surroundings that a reader has: our program and the test peers in the `PATH`.
    fn command(&self, program: &str) -> Command {
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
    fn run(&mut self, typed: &str) -> Option<String> {
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
    fn serve(&mut self, typed: &str) -> String {
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

    fn leave(&mut self) {
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

fn terminate(mut gateway: Child) {
    let pid = i32::try_from(gateway.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::TERM).expect("it can be signalled");
    let status = gateway.wait().expect("it can be waited for");
    assert_eq!(status.code(), Some(0), "the gateway did not stop well");
}

/// Whether `actual` is what `expected` promises.
fn agrees(expected: &str, actual: &str) -> bool {
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

fn run_page(page: &str) {
    let mut reader = Reader::new();
    let mut wrong = Vec::new();
    for block in blocks(&read(page)).iter().filter(|block| block.language == "sh") {
        for Typed { line, command, expected } in typed(block) {
            let Some(actual) = reader.run(&command) else { continue };
            if !agrees(&expected, &actual) {
                wrong.push(format!(
                    "{page}:{line}: $ {command}\n--- expected\n{expected}--- came\n{actual}\n"
                ));
            }
        }
    }
    reader.leave();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

// ------------------------------------------------------------------------------------------------- tests

#[test]
fn every_command_in_the_readme_prints_what_it_says() {
    run_page("README.md");
}

#[test]
fn every_command_in_the_http_api_prints_what_it_says() {
    run_page("docs/http-api.md");
}

#[test]
fn every_command_on_the_other_pages_prints_what_it_says() {
    for page in pages().iter().filter(|page| !["README.md", "docs/http-api.md"].contains(&page.as_str())) {
        run_page(page);
    }
}

#[test]
fn every_sample_configuration_starts_a_gateway() {
    let mut started = 0;
    for page in pages() {
        for block in blocks(&read(&page)) {
            let language = block.language.as_str();
            let place = format!("{page}:{}", block.line);
            if language == "json" {
                let value: serde_json::Value =
                    serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
                if value.get("mcpServers").or(value.get("servers")).is_none() {
                    continue;
                }
            }
            if ["toml", "json", "jsonc"].contains(&language) {
                start_with(&block.text, language, &place);
                started += 1;
            }
        }
    }
    assert!(started >= 4, "only {started} samples were found");
}

fn start_with(config: &str, extension: &str, place: &str) {
    let reader = Reader::new();
    let file = reader.dir.path().join(format!("sample.{extension}"));
    fs::write(&file, config).expect("written");
    let mut gateway = reader.command(PROGRAM);
    gateway.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&file);
    gateway.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut gateway = gateway.spawn().expect("it can be started");
    let mut line = String::new();
    BufReader::new(gateway.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it can be read");
    if line.starts_with("spawnling listening on ") {
        return terminate(gateway);
    }
    let mut said = String::new();
    gateway.stderr.as_mut().expect("piped").read_to_string(&mut said).expect("it can be read");
    gateway.wait().expect("it can be waited for");
    panic!("{place}: {said}");
}

#[test]
fn the_documented_routes_are_the_routes() {
    let source = read("src/http/route.rs");
    let places = source.split("const PLACES").nth(1).and_then(|rest| rest.split("];").next());
    let real: BTreeSet<String> = places
        .expect("the table of routes")
        .split("(\"")
        .skip(1)
        .map(|entry| unnamed(entry.split('"').next().unwrap_or_default()))
        .collect();
    let documented: Vec<(String, String)> = documented_routes();
    let paths: BTreeSet<String> = documented.iter().map(|(_, path)| unnamed(path)).collect();
    assert_eq!(paths, real);

    // No route takes TRACE, so each says which methods it takes.
    let mut reader = Reader::new();
    reader.serve("spawnling serve");
    let address = reader.gateway.as_ref().expect("it serves").1.clone();
    for (method, path) in documented {
        let path: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let answer = ask(&address, &format!("TRACE {path}"));
        let allow = answer.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap_or_default();
        assert!(
            allow.split(", ").any(|allowed| allowed == method),
            "{method} {path}: allowed are {allow:?}\n{answer}"
        );
        assert!(!(method == "POST" && allow.contains("GET")), "{path}");
    }
    reader.leave();
}

/// The first cells of the table of routes, such as `` `GET /v1/servers` ``.
fn documented_routes() -> Vec<(String, String)> {
    let text = read("docs/http-api.md");
    let rows = text.lines().filter(|line| line.starts_with("| `GET /") || line.starts_with("| `POST /"));
    rows.map(|row| {
        let cell = row.split('`').nth(1).expect("a cell in code");
        let (method, path) = cell.split_once(' ').expect("a method and a path");
        (method.to_owned(), path.to_owned())
    })
    .collect()
}

/// A path whose names count for nothing.
fn unnamed(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_documented_problems_are_the_problems() {
    let source = read("src/http/problem/kind.rs");
    let real: BTreeSet<(String, String)> = source
        .lines()
        .filter_map(|line| {
            let (status, rest) = line.trim().split_once(": ")?.1.split_once(" \"")?;
            let name = rest.split('"').next()?;
            status.parse::<u16>().ok()?;
            Some((status.to_owned(), name.to_owned()))
        })
        .collect();
    assert!(real.len() > 20, "these are not all: {real:?}");
    let text = read("docs/http-api.md");
    let documented: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let (status, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
            status.trim().parse::<u16>().ok()?;
            Some((status.trim().to_owned(), rest.split('`').next()?.to_owned()))
        })
        .collect();
    assert_eq!(documented, real);
}

#[test]
fn the_documented_keys_are_the_keys() {
    let text = read("docs/configuration.md");
    let documented = |heading: &str| -> BTreeSet<String> {
        let section =
            text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        section
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
            .collect()
    };
    for (heading, table) in [
        ("The gateway", ""),
        ("A server", "[servers.a]\ncommand = \"x\"\n"),
        ("Limits of a server", "[servers.a]\ncommand = \"x\"\n[servers.a.limits]\n"),
        ("The original API", "[servers.a]\ncommand = \"x\"\n[browser_agent]\nserver = \"a\"\n"),
    ] {
        assert_eq!(documented(heading), known_keys(table), "{heading}");
    }
}

/// The keys that the program names when it meets one that it does not know, at the end of `toml`.
fn known_keys(toml: &str) -> BTreeSet<String> {
    let reader = Reader::new();
    fs::write(reader.dir.path().join("a.toml"), format!("{toml}qqqqqqqq = 1\n")).expect("written");
    let output = reader.command(PROGRAM).args(["check", "--config", "a.toml"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let known = said.lines().find_map(|line| line.split_once("qqqqqqqq: unknown key; known here: "));
    let known = known.unwrap_or_else(|| panic!("it named no keys: {said}")).1;
    known.split(", ").map(ToOwned::to_owned).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        let here: PathBuf = root().join(&page);
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path =
                if file.is_empty() { here.clone() } else { here.parent().expect("a directory").join(file) };
            assert!(path.exists(), "{page}: {target}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&path).expect("a page");
                let found =
                    text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
                assert!(found, "{page}: {target}");
            }
        }
    }
}

fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read("Makefile");
    for page in pages() {
        for rest in read(&page).split("`make ").skip(1) {
            let target = rest.split(['`', ' ']).next().unwrap_or_default();
            assert!(makefile.contains(&format!("\n{target}:")), "{page}: make {target}");
        }
    }
    assert!(makefile.contains("serve $(ARGS)"), "`make run` is tested as `spawnling serve`");
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

#[test]
fn every_dependency_is_used_and_has_its_reason() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("it is TOML");
    let names = ["dependencies", "dev-dependencies"].into_iter().flat_map(|table| {
        let table = manifest[table].as_table().expect("a table");
        table.keys().cloned()
    });
    let names: BTreeSet<String> = names.collect();
    let text = read("docs/decisions/dependencies.md");
    let reasons = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(reasons.map(ToOwned::to_owned).collect::<BTreeSet<_>>(), names);

    let mut code = String::new();
    let mut waiting = vec![root().join("src"), root().join("tests")];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting
                .extend(fs::read_dir(path).expect("it can be read").map(|entry| entry.expect("read").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&fs::read_to_string(path).expect("sources are UTF-8"));
        }
    }
    for name in names {
        let name = name.replace('-', "_");
        let used = [format!("{name}::"), format!("use {name} as ")].iter().any(|path| code.contains(path));
        assert!(used, "{name} is used nowhere");
    }
}
