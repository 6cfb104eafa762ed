//! The architecture, held to: which room may use which, which files are pure, how long a file may be.
//!
//! The rules stand in the tables below and in the map of `src/lib.rs`; docs/architecture.md says why. Sources are read
//! with comments and texts blanked and test modules left out. Every rule is first tried on code that breaks it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod homes;

use homes::HOMES;

/// Each room with the rooms that it may use. The order is that of a call: pure files of any room further down may be
/// named too.
const ARROWS: [(&str, &[&str]); 15] = [
    ("main", &["cli"]),
    ("fuzz", &["http", "rpc"]),
    ("cli", &["config", "serve", "demo", "bench", "child::sandbox", "child::shim", "child::warden"]),
    ("config", &[]),
    ("serve", &["config", "http", "catalog", "call", "strategy", "instance", "mcp", "rpc", "child"]),
    ("http", &["catalog"]),
    ("catalog", &["call"]),
    ("call", &["strategy"]),
    ("strategy", &["instance"]),
    ("instance", &["mcp", "rpc", "child"]),
    ("mcp", &["rpc"]),
    ("rpc", &[]),
    ("child", &[]),
    ("demo", &[]),
    ("bench", &[]),
];

/// What every room may use, `demo` and `bench` apart; and what these may use themselves.
const OPEN: [(&str, &[&str]); 6] = [
    ("exchange", &["auth", "deadline"]),
    ("auth", &[]),
    ("aside", &[]),
    ("tasks", &[]),
    ("deadline", &[]),
    ("telemetry", &["auth"]),
];

/// What no pure file names: files, sockets, processes, clocks, tasks.
const IMPURE: &str = "std::fs std::process std::env std::thread tokio:: tokio_util:: rustix:: Instant::now \
    SystemTime TcpStream TcpListener UdpSocket ToSocketAddrs";

/// The most lines of a file, its test modules apart.
const MOST_LINES: usize = 500;

/// One source file, ready to be judged.
struct Source {
    /// Below `src/`, `http/route.rs` for example.
    name: String,
    text: String,
    /// The same without comments, texts and test modules.
    code: String,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let code = without_tests(&blanked(text));
        Self { name: name.to_owned(), text: text.to_owned(), code }
    }

    /// `http` of `http/route.rs`; `exchange` of `exchange.rs`.
    fn room(&self) -> &str {
        let end = self.name.find(['/', '.']).unwrap_or(self.name.len());
        &self.name[..end]
    }

    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs") || self.name.contains("/tests/")
    }

    fn header(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }

    fn says_pure(&self) -> bool {
        let header = self.header();
        ["(pure)", " Pure.", " Pure:", " Pure;"].iter().any(|mark| header.contains(mark))
    }
}

/// All Rust files of a folder, by their paths below it.
fn sources_in(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut waiting = vec![root.clone()];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    let source = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("it lies below").to_str().expect("names are ASCII");
        Source::new(name, &fs::read_to_string(path).expect("sources are UTF-8"))
    };
    found.iter().map(source).collect()
}

fn sources() -> Vec<Source> {
    let found = sources_in("src");
    assert!(found.len() > 50, "these are not all the sources");
    found
}

// ------------------------------------------------------------------------------------------------ reading

/// The same code with every comment, string and character replaced by spaces; line ends stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + blank_length(&text[at..], at.checked_sub(1).map(|before| bytes[before]));
        if end == at {
            let letter = text[at..].chars().next().expect("there is more");
            out.push(letter);
            at += letter.len_utf8();
        } else {
            out.extend(text[at..end].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// How many bytes from the start of `rest` are no code.
fn blank_length(rest: &str, before: Option<u8>) -> usize {
    let until = |rest: &str, from: usize, end: &str| {
        rest[from..].find(end).map_or(rest.len(), |found| from + found + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(rest, 2, "*/");
    }
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !in_word && rest.starts_with(['r', 'b']) {
        let raw = rest.trim_start_matches(['b', 'r']);
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let opened = rest.len() - raw.len() + hashes;
        if rest[..opened].contains('r') && rest[opened..].starts_with('"') {
            return until(rest, opened + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if let Some(string) = rest.strip_prefix('"') {
        return 1 + escaped_until(string, '"');
    }
    // A lifetime has no second quote after one character.
    let mut letters = rest.chars();
    if letters.next() == Some('\'') {
        let first = letters.next();
        if first == Some('\\') || (first.is_some() && letters.next() == Some('\'')) {
            return 1 + escaped_until(&rest[1..], '\'');
        }
    }
    0
}

/// The length up to and including the first `end` that no backslash escapes.
fn escaped_until(rest: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == end => return at + letter.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The same code without the items that are compiled for tests only.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        rest = &rest[start + MARK.len()..];
        rest = &rest[end_of_item(rest)..];
    }
    out + rest
}

/// Where an item ends: at its semicolon, or at the brace that closes its body.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in code.char_indices() {
        match letter {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

/// Every path that begins with `crate::`, groups taken apart: `child::spec::Spec`.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find("crate::") {
        rest = &rest[start + "crate::".len()..];
        expand(rest, "", &mut paths);
    }
    paths
}

/// Reads one path, or one group of paths, at the start of `code`; returns what follows it.
fn expand<'c>(code: &'c str, prefix: &str, paths: &mut Vec<String>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = expand(rest, prefix, paths).trim_start();
            let Some(more) = rest.strip_prefix(',') else { break };
            rest = more.trim_start();
            if rest.starts_with('}') {
                break;
            }
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = code.find(|letter: char| !(letter.is_alphanumeric() || "_*".contains(letter)));
    let (word, rest) = code.split_at(end.unwrap_or(code.len()));
    let path = if prefix.is_empty() { word.to_owned() } else { format!("{prefix}::{word}") };
    match rest.strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => expand(deeper, &path, paths),
        _ => {
            paths.push(path);
            rest
        }
    }
}

/// Whether the code names something of this crate, and not of a module or a longer name that ends alike.
fn names_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || before == '_' || before == ':')
    })
}

// ------------------------------------------------------------------------------------------------- rules

/// Every arrow of this file that is not allowed. `pure`: the pure files.
fn wrong_arrows(source: &Source, pure: &BTreeSet<String>) -> Vec<String> {
    let room = source.room();
    if room == "lib" {
        return Vec::new();
    }
    let open = OPEN.iter().find(|(name, _)| *name == room);
    let rank = |room: &str| ARROWS.iter().position(|(name, _)| *name == room);
    let allowed = |target: &str, path: &str| {
        if target == room {
            return true;
        }
        if let Some((_, uses)) = open {
            return uses.contains(&target);
        }
        let Some(index) = rank(room) else { return false };
        let is_open = !["demo", "bench"].contains(&room) && OPEN.iter().any(|(name, _)| *name == target);
        let is_pure = pure.iter().any(|file| {
            let module = file.trim_end_matches(".rs").replace('/', "::");
            path.starts_with(&format!("{module}::"))
        });
        // An arrow may lead to one module of a room only; what that is called there is its own affair.
        let leads =
            |arrow: &&str| *arrow == target || path == *arrow || path.starts_with(&format!("{arrow}::"));
        is_open || ARROWS[index].1.iter().any(leads) || (is_pure && rank(target) > Some(index))
    };
    let mut wrong: Vec<String> = crate_paths(&source.code)
        .into_iter()
        .filter(|path| !allowed(path.split("::").next().unwrap_or_default(), path))
        .map(|path| format!("{}: {room} may not use crate::{path}", source.name))
        .collect();
    let depth = source.name.matches('/').count() + 1;
    if source.code.contains(&"super::".repeat(depth)) {
        wrong.push(format!("{}: reaches another room by `super`: write `crate::`", source.name));
    }
    wrong
}

fn impurities(source: &Source) -> Vec<String> {
    let found = IMPURE.split(' ').filter(|name| source.code.contains(*name));
    found.map(|name| format!("{}: a pure file names {name}", source.name)).collect()
}

fn strangers(source: &Source) -> Vec<String> {
    let foreign = HOMES
        .iter()
        .filter(|(name, homes)| !homes.contains(&source.room()) && names_crate(&source.code, name));
    foreign.map(|(name, homes)| format!("{}: {name} is named only in {homes:?}", source.name)).collect()
}

fn untidiness(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut complain = |what: &str| wrong.push(format!("{}: {what}", source.name));
    let lines = source.code.trim_end().lines().count();
    if lines > MOST_LINES && !source.is_test() {
        complain(&format!("{lines} lines; a file ends at {MOST_LINES}"));
    }
    if !source.is_test() && !source.text.starts_with("//! ") {
        complain("does not begin by saying what it is for");
    }
    if source.name.ends_with("mod.rs") {
        complain("a room's own file stands beside its folder: no mod.rs");
    }
    let code = &source.code;
    let is_unsafe =
        code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).any(|word| word == "unsafe");
    if is_unsafe && source.name != "child/os/linux.rs" {
        complain("no unsafe code but in child/os/linux.rs");
    }
    if code.contains("#[allow") || code.contains("#![allow") {
        complain("no bare allow: `#[expect(lint, reason = \"...\")]`");
    }
    wrong
}

/// The files in the map of `lib.rs`, and those of them that it calls pure.
fn mapped(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let lines = text.lines().map(|line| line.trim_start_matches("//!").trim());
    let is_source = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "rs");
    let is_file = |line: &&str| line.split(' ').next().is_some_and(is_source);
    let (mut all, mut pure) = (BTreeSet::new(), BTreeSet::new());
    for line in lines.filter(is_file) {
        let name = line.split(' ').next().unwrap_or_default().to_owned();
        if line.ends_with("(pure)") {
            pure.insert(name.clone());
        }
        all.insert(name);
    }
    (all, pure)
}

fn pure_files() -> BTreeSet<String> {
    mapped(&fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).expect("there is one")).1
}

fn over_all(rule: impl Fn(&Source) -> Vec<String>) {
    let wrong: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

// ------------------------------------------------------------------------------------------------- tests

#[test]
fn every_room_uses_only_the_rooms_behind_its_arrows() {
    let pure = pure_files();
    over_all(|source| if source.is_test() { Vec::new() } else { wrong_arrows(source, &pure) });
}

#[test]
fn pure_files_touch_nothing() {
    let pure = pure_files();
    over_all(|source| if pure.contains(&source.name) { impurities(source) } else { Vec::new() });
}

#[test]
fn a_file_is_called_pure_by_the_map_and_by_its_own_header_or_by_neither() {
    let all = sources().into_iter().filter(|source| source.name != "lib.rs");
    let said: BTreeSet<String> = all.filter(Source::says_pure).map(|source| source.name).collect();
    assert_eq!(said, pure_files());
}

#[test]
fn each_foreign_crate_stays_in_its_home() {
    over_all(strangers);
}

#[test]
fn every_file_is_tidy() {
    over_all(untidiness);
}

#[test]
fn no_file_of_tests_goes_on_for_ever() {
    let lengths = sources_in("tests").into_iter().map(|file| (file.text.lines().count(), file.name));
    let long: Vec<_> = lengths.filter(|(lines, _)| *lines > MOST_LINES).collect();
    assert!(long.is_empty(), "a file ends at {MOST_LINES} lines: {long:?}");
}

#[test]
fn the_map_shows_every_file_and_so_does_the_architecture() {
    let real: BTreeSet<String> =
        sources().into_iter().filter(|source| !source.is_test()).map(|source| source.name).collect();
    for file in ["src/lib.rs", "docs/architecture.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("it is there");
        let (all, pure) = mapped(&text);
        assert_eq!(all, real, "the map in {file}");
        assert_eq!(pure, pure_files(), "the pure files in {file}");
    }
}

#[test]
fn every_room_has_its_arrows() {
    let known: BTreeSet<String> = ARROWS.iter().chain(&OPEN).map(|(name, _)| (*name).to_owned()).collect();
    let rooms = sources().into_iter().map(|source| source.room().to_owned()).filter(|room| room != "lib");
    assert_eq!(rooms.collect::<BTreeSet<_>>(), known);
}

#[test]
fn a_wrong_arrow_is_found_however_it_is_written() {
    let pure = BTreeSet::from(["child/spec.rs".to_owned(), "http/route.rs".to_owned()]);
    for (name, code) in [
        ("rpc.rs", "use crate::mcp::Session;"),
        ("rpc/frame.rs", "use crate::{exchange::RawJson, child::{Child, Gone}};"),
        ("http/rest.rs", "fn f() { crate::call::run() }"),
        ("http/rest.rs", "use crate::\n    instance::Instance;"),
        ("demo/wire.rs", "use crate::exchange::RawJson;"),
        ("exchange.rs", "use crate::call::Calls;"),
        ("telemetry.rs", "use crate::exchange::CallId;"),
        ("child/tree.rs", "use super::super::serve;"),
        ("mcp.rs", "use super::child::Child;"),
        ("child.rs", "use crate::http::route::Route;"),
        ("call.rs", "use crate::child::spec_of;"),
        ("attic.rs", "use crate::call::Calls;"),
        ("http.rs", "use crate::*;"),
    ] {
        let wrong = wrong_arrows(&Source::new(name, code), &pure);
        assert!(!wrong.is_empty(), "{name}: {code}");
    }
}

#[test]
fn a_right_arrow_is_let_through() {
    let pure = BTreeSet::from(["child/spec.rs".to_owned()]);
    for (name, code) in [
        ("config/server.rs", "use crate::child::spec::{Spec, Teardown};"),
        ("http/rest.rs", "use crate::catalog::Catalog; use crate::http::problem::Kind; use super::json;"),
        ("instance.rs", "use crate::{child::Child, rpc, mcp::era::Era}; use crate::deadline::EarlyEnd;"),
        ("rpc.rs", "// use crate::mcp::Session;\n/* crate::mcp */ const A: &str = \"crate::mcp::x\";"),
        ("rpc.rs", "const A: &str = r#\"\" crate::mcp::x\"#; const Q: char = '\"'; // \" crate::mcp"),
        ("rpc.rs", "#[cfg(test)]\nmod tests { use crate::mcp::Session; fn f() { {} } }"),
        ("exchange.rs", "use crate::deadline::Deadline; fn f<'a>(x: &'a str) {}"),
    ] {
        let wrong = wrong_arrows(&Source::new(name, code), &pure);
        assert!(wrong.is_empty(), "{name}: {code}: {wrong:?}");
    }
}

#[test]
fn every_other_rule_can_fail_too() {
    let breaks = |name: &str, code: &str| Source::new(name, &format!("//! What it is for.\n{code}"));
    assert_eq!(
        impurities(&breaks("http/route.rs", "fn f() { std::fs::read(\"x\"); Instant::now(); }")).len(),
        2
    );
    assert_eq!(strangers(&breaks("call.rs", "use hyper::Request; fn f() { x::hyper::y() }")).len(), 1);
    assert_eq!(strangers(&breaks("http/body.rs", "use hyper::Request; use crate::call::toml::x;")).len(), 0);
    for bad in ["unsafe fn f() {}", "#[allow(dead_code)] fn f() {}", "#![allow(dead_code)]"] {
        assert_eq!(untidiness(&breaks("call.rs", bad)).len(), 1, "{bad}");
    }
    assert_eq!(untidiness(&breaks("call/mod.rs", "")).len(), 1);
    assert_eq!(untidiness(&Source::new("call.rs", "fn f() {}")).len(), 1);
    assert_eq!(untidiness(&breaks("call.rs", &"fn f() {}\n".repeat(MOST_LINES))).len(), 1);
    let with_tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn g() {}\n".repeat(600));
    assert!(untidiness(&breaks("call.rs", &with_tests)).is_empty());
    assert!(untidiness(&breaks("call.rs", "#[expect(lint, reason = \"unsafe\")] fn f() {}")).is_empty());
}
