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
use std::process::Stdio;

use crate::cli::PROGRAM;

mod reader;

use reader::{Reader, Typed, agrees, blocks, terminate, typed};

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

#[test]
fn every_sample_configuration_fits_the_schema_and_wrong_ones_do_not() {
    let schema = |format: &str| {
        let reader = Reader::new();
        let output = reader.command(PROGRAM).args(["check", "--schema", format]).output().expect("it runs");
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a schema is JSON");
        jsonschema::validator_for(&schema).expect("a good schema")
    };
    let (toml, json) = (schema("toml"), schema("json"));
    let of_toml = |text: &str| -> serde_json::Value {
        let table: toml::Table = text.parse().expect("TOML");
        serde_json::to_value(table).expect("there is no date in it")
    };
    let fits = |validator: &jsonschema::Validator, value: &serde_json::Value, place: &str| {
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{place}: {errors:?}");
    };
    for page in pages() {
        for block in blocks(&read(&page)) {
            let place = format!("{page}:{}", block.line);
            match block.language.as_str() {
                "toml" => fits(&toml, &of_toml(&block.text), &place),
                "json" => fits(&json, &serde_json::from_str(&block.text).expect("JSON"), &place),
                _ => {}
            }
        }
    }
    for name in ["full.toml", "smallest.toml"] {
        fits(&toml, &of_toml(&read(&format!("tests/fixtures/config/{name}"))), name);
    }
    fits(
        &json,
        &serde_json::from_str(&read("tests/fixtures/config/plain.json")).expect("JSON"),
        "plain.json",
    );
    assert!(!toml.is_valid(&of_toml(&read("tests/fixtures/config/wrong.toml"))));
    for wrong in [
        "[servers.a]\nargs = []",
        "[servers.a]\ncommand = \"x\"\ndedline = \"1s\"",
        "[servers.a]\ncommand = \"x\"\ndeadline = 30",
        "[servers.a]\ncommand = \"x\"\nlimits = { memory = \"1GB\" }",
        "[servers.a]\ncommand = \"x\"\nvalidate = \"never\"",
    ] {
        assert!(!toml.is_valid(&of_toml(wrong)), "{wrong}");
    }
    let wrong = serde_json::json!({"mcpServers": {"a": {"command": "x", "spawnling": {"dedline": "1s"}}}});
    assert!(!json.is_valid(&wrong));
}

fn start_with(config: &str, extension: &str, place: &str) {
    let reader = Reader::new();
    let file = reader.dir().join(format!("sample.{extension}"));
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
    let address = reader.address().to_owned();
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
fn the_documented_metrics_are_the_metrics() {
    let source = read("src/telemetry/metrics.rs");
    let registered = source.split("registry.register(\"").skip(1);
    let real: BTreeSet<String> =
        registered.map(|rest| format!("spawnling_{}", rest.split('"').next().unwrap_or_default())).collect();
    let text = read("docs/operations.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented = rows.filter(|name| name.starts_with("spawnling_")).map(ToOwned::to_owned);
    assert_eq!(documented.collect::<BTreeSet<_>>(), real);
    assert!(real.len() > 10, "these are not all: {real:?}");
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
        ("Tokens", "[[tokens]]\n"),
        ("TLS", "[tls]\n"),
        ("Standbys of a server", "[servers.a]\ncommand = \"x\"\n[servers.a.standby]\n"),
        ("Limits of a server", "[servers.a]\ncommand = \"x\"\n[servers.a.limits]\n"),
        ("Sandbox of a server", "[servers.a]\ncommand = \"x\"\n[servers.a.sandbox]\n"),
        ("Routes of your own", "[servers.a]\ncommand = \"x\"\n[[routes]]\npath = \"/x\"\n"),
        ("The original API", "[servers.a]\ncommand = \"x\"\n[browser_agent]\nserver = \"a\"\n"),
    ] {
        assert_eq!(documented(heading), known_keys(table), "{heading}");
    }
}

/// The keys that the program names when it meets one that it does not know, at the end of `toml`.
fn known_keys(toml: &str) -> BTreeSet<String> {
    let reader = Reader::new();
    fs::write(reader.dir().join("a.toml"), format!("{toml}qqqqqqqq = 1\n")).expect("written");
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
