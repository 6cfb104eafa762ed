//! The scripts around the program: that each can fail on what it is there for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;

mod operator;

use crate::cli::command;
use crate::support::peers::installed;
use crate::support::{Gateway, PROGRAM, demo};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `.ci/run` has `make` know of the variable that makes every real server a must.
fn required_by_ci(given: Option<&str>) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    for program in ["make", "cargo"] {
        let path = dir.path().join(program);
        let text = "#!/bin/sh\necho \"$@: ${SPAWNLING_REQUIRE_PEERS-unset}\"\n";
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
    }
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    let path = [dir.path().to_owned()].into_iter().chain(std::env::split_paths(&theirs));
    let mut ci = command(root().join(".ci/run"), dir.path());
    ci.env("PATH", std::env::join_paths(path).expect("no path holds a colon")).env("HOME", dir.path());
    match given {
        Some(value) => ci.env("SPAWNLING_REQUIRE_PEERS", value),
        None => ci.env_remove("SPAWNLING_REQUIRE_PEERS"),
    };
    let output = ci.output().expect("it can be started");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_script_that_hangs_up_fails_where_calls_outlive_their_callers() {
    if installed("curl").is_none() {
        return;
    }
    let gateway =
        Gateway::start(&(String::from("drain = \"100ms\"\n") + &demo(&[]) + "on_disconnect = \"finish\"\n"));
    let mut script = command(root().join("scripts/curl/hang-up"), &gateway.tmp());
    script.env("SPAWNLING_URL", format!("http://{}", gateway.address())).env_remove("SPAWNLING_TOKEN");
    let output = script.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("calls outlived their callers"), "{output:?}");
    gateway.signal(Signal::TERM);
    gateway.ended();
}

#[test]
fn the_curl_scripts_with_tokens_meet_what_they_expect() {
    if installed("curl").is_none() {
        return;
    }
    let config = include_str!("../../scripts/curl/tokens/gateway.toml");
    let gateway = Gateway::start(&config.replace("\"spawnling\"", &format!("{PROGRAM:?}")));
    let mut script = command(root().join("scripts/curl/all"), &gateway.tmp());
    script.arg("tokens").env("SPAWNLING_URL", format!("http://{}", gateway.address()));
    let output = script.env_remove("SPAWNLING_TOKEN").output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("6 passed, 0 failed"), "{output:?}");
    gateway.stop();
}

#[test]
fn ci_takes_no_skipped_test_for_a_passed_one() {
    assert_eq!(required_by_ci(None), "check: 1\n");
    assert_eq!(required_by_ci(Some("0")), "check: 0\n");
}

/// Installs the pages of a program, by a `PATH` that begins with these directories; returns what it says.
fn install_pages(program: &Path, prefix: &Path, first: &[&Path]) -> String {
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    let path = first.iter().map(|dir| dir.to_path_buf()).chain(std::env::split_paths(&theirs));
    let mut script = command(root().join("scripts/install-pages"), prefix);
    script.args([program, prefix]).env("PATH", std::env::join_paths(path).expect("no path holds a colon"));
    let output = script.output().expect("it can be started");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_manual_page_and_completion_is_installed_where_it_is_looked_for() {
    let prefix = tempfile::tempdir().expect("a directory");
    let (bin, share) = (prefix.path().join("bin"), prefix.path().join("share"));
    fs::create_dir(&bin).expect("made");
    let program = bin.join("spawnling");
    std::os::unix::fs::symlink(PROGRAM, &program).expect("linked");
    let said = install_pages(&program, prefix.path(), &[&bin]);
    let read =
        |file: &str| fs::read_to_string(share.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let page = read("man/man1/spawnling.1");
    // Every page that it refers to is there: those of all the commands that the program has.
    let named: Vec<_> = page.lines().filter_map(|line| line.strip_suffix("(1)")).collect();
    assert!(named.len() >= 8, "{page}");
    for name in named {
        let name = name.replace('\\', "");
        assert!(read(&format!("man/man1/{name}.1")).starts_with(".ie"), "{name}");
    }
    for file in [
        "bash-completion/completions/spawnling",
        "zsh/site-functions/_spawnling",
        "fish/vendor_completions.d/spawnling.fish",
    ] {
        assert!(read(file).contains("containment"), "{file}");
    }
    assert!(
        said.contains("fpath") && !said.contains("not in PATH") && !said.contains("comes first"),
        "{said}"
    );
}

#[test]
fn who_installs_a_program_that_is_not_found_by_its_name_is_told_so() {
    let (prefix, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let program = prefix.path().join("spawnling");
    for place in [&program, &other.path().join("spawnling")] {
        std::os::unix::fs::symlink(PROGRAM, place).expect("linked");
    }
    let said = install_pages(&program, prefix.path(), &[other.path()]);
    assert!(
        said.contains(&format!("not in PATH yet: export PATH=\"{}:$PATH\"\n", prefix.path().display())),
        "{said}"
    );
    assert!(said.contains(&format!("comes first in PATH: {}/spawnling\n", other.path().display())), "{said}");
}

#[test]
fn the_five_lines_in_the_readme_of_a_backend_are_lines_of_it() {
    for (name, program) in
        [("php", "app.php"), ("java", "Server.java"), ("ruby", "app.rb"), ("cgi", "cgi-bin/api")]
    {
        let directory = root().join("scripts/legacy").join(name);
        let [page, code] = ["README.md", program].map(|file| {
            fs::read_to_string(directory.join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
        });
        let (_, lines) = page.split_once("\n```").expect("a block");
        let (_, lines) = lines.split_once('\n').expect("a language");
        let (lines, _) = lines.split_once("```").expect("its end");
        assert!(code.contains(lines), "{name}: not in {program}:\n{lines}");
        assert!(lines.lines().count() <= 5, "{name}: more than five lines");
    }
}
