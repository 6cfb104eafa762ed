//! `check`: what it says of servers that start, of those that do not, and of those that are used again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{PROGRAM, Place};
use crate::support::{example, script_output, shown};

#[test]
fn check_starts_every_server_and_counts_those_that_do_not() {
    let place = Place::new();
    let done = place.run(&["check"]);
    assert_eq!(done.out.matches(": ok: spawnling-demo").count(), 2, "{done:?}");
    let config = format!(
        "[servers.good]\ncommand = {PROGRAM:?}\nargs = [\"demo\"]\n[servers.bad]\ncommand = \"/no/server\"\n\
         [servers.mute]\ncommand = \"true\"\n"
    );
    place.write("spawnling.toml", &config);
    let done = place.run(&["check"]);
    done.failed(1, "2 of 3 did not start: bad, mute");
    assert!(done.out.contains("good: ok: spawnling-demo"), "{done:?}");
    assert!(done.out.contains("bad: FAILED: cannot start /no/server: /no/server does not exist"), "{done:?}");
    assert!(done.out.contains("mute: FAILED: the server did not open"), "{done:?}");
}

#[test]
fn check_says_what_to_try_with_each_server_that_does_not_start() {
    let place = Place::new();
    let demo = |name: &str, fault: &str| {
        format!(
            "[servers.{name}]\ncommand = {PROGRAM:?}\nargs = [\"demo\", \"--fault\", \"{fault}\"]\nopen_deadline = \"1s\"\n"
        )
    };
    let shell = |name: &str, script: &str| {
        format!("[servers.{name}]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\n")
    };
    fs::create_dir(place.path().join("bin")).expect("made");
    place.write("bin/my-server", "#!/bin/sh\n");
    let path = place.path().join("bin");
    fs::set_permissions(path.join("my-server"), fs::Permissions::from_mode(0o755)).expect("changed");
    place.write("plain", "text");
    let config = [
        format!("[servers.mistyped]\ncommand = \"my-sever\"\nenv = {{ PATH = {path:?} }}\n"),
        "[servers.plain]\ncommand = \"./plain\"\n".to_owned(),
        demo("hangs", "hang-open"),
        demo("noisy", "garbage-at-start"),
        shell("python", "echo \"No module named 'mcp'\" >&2; exit 1"),
        shell("wants", "echo 'Error: GITHUB_TOKEN is not set' >&2; exit 1"),
        shell("inner", "no-such-program-anywhere"),
        shell("web", "echo 'Uvicorn running on http://127.0.0.1:8000'; exit 1"),
    ];
    place.write("spawnling.toml", &config.concat());
    let done = place.run(&["check"]);
    done.failed(1, "7 of 8 did not start: mistyped, plain, hangs, python, wants, inner, web");
    let of = |name: &str| {
        let start = done.out.find(&format!("{name}: ")).unwrap_or_else(|| panic!("{name}: {done:?}"));
        let told = &done.out[start..];
        let end = told
            .match_indices('\n')
            .find(|(at, _)| !told[at + 1..].starts_with(' '))
            .map_or(told.len(), |(at, _)| at);
        told[..end].to_owned()
    };
    for (name, words) in [
        ("mistyped", &["    try: did you mean \"my-server\"? Else install it"][..]),
        ("plain", &["    try: `chmod +x "]),
        ("hangs", &["    try: it said nothing for 1s.", "start it once by hand"]),
        ("noisy", &[": ok: spawnling-demo", "    warning: it writes to stdout what is no message"]),
        ("python", &["it exited with code 1", "    try: this Python lacks a module"]),
        ("wants", &["    try: it seems to want GITHUB_TOKEN: set it under `env`"]),
        ("inner", &["it exited with code 127", "    try: it runs another program"]),
        (
            "web",
            &[
                "    try: it seems to serve HTTP",
                "    try: it writes to stdout what is no message (\"Uvicorn",
            ],
        ),
    ] {
        let told = of(name);
        assert!(words.iter().all(|words| told.contains(words)), "{words:?}: {told}");
    }
    let done = place.run(&["tools", "python"]);
    done.failed(1, "\ntry: this Python lacks a module");
}

#[test]
fn who_asks_for_one_server_is_not_kept_from_it_by_what_others_ask_for() {
    let place = Place::new();
    let server = |name: &str, more: &str| {
        format!("[servers.{name}]\ncommand = {PROGRAM:?}\nargs = [\"demo\"]\n{more}")
    };
    let absent = "sandbox = { user = \"nobody-is-called-so\" }\n";
    place.write("spawnling.toml", &(server("strict", absent) + &server("free", "")));
    place.run(&["call", "free", "echo", "message=hello"]).printed("hello\n");
    assert_eq!(place.run(&["tools", "free"]).code, Some(0));
    let refused = "strict: its sandbox cannot be had here";
    for command in [&["call", "strict", "echo"][..], &["tools", "strict"], &["check", "--reuse", "strict"]] {
        let done = place.run(command);
        done.failed(1, refused);
        done.failed(1, "there is no user nobody-is-called-so");
    }
    // It is configured all the same.
    place.run(&["call", "other", "echo"]).failed(2, "there is no server \"other\"; there are: free, strict");
    let done = place.run(&["check"]);
    done.failed(1, "1 of 2 did not start: strict");
    assert!(done.out.contains("free: ok: ") && done.out.contains("strict: FAILED: "), "{done:?}");
}

#[test]
fn a_program_that_repeats_what_it_is_told_is_called_no_server() {
    let place = Place::new();
    let words = "it repeats what it is told, and is no MCP server\n";
    for protocol in ["auto", "legacy", "modern"] {
        place.write(
            "spawnling.toml",
            &format!("[servers.cat]\ncommand = \"cat\"\nprotocol = \"{protocol}\"\n"),
        );
        let done = place.run(&["check"]);
        done.failed(1, "1 of 1 did not start: cat");
        let failed = format!("cat: FAILED: the server did not open: {words}");
        assert!(done.out.starts_with(&failed), "{protocol}: {done:?}");
        place.run(&["call", "cat", "any"]).failed(1, words);
        place.run(&["tools", "cat"]).failed(1, words);
    }
}

#[test]
fn what_reuse_would_change_is_found_and_what_it_would_not_is_not() {
    let place = Place::new();
    let server = format!("[servers.demo]\ncommand = {PROGRAM:?}\nargs = [\"demo\", \"--faults\"]\n");
    place.write("spawnling.toml", &(server + "strategy = \"prewarmed\"\n"));
    let done = place.run(&["check", "--reuse", "demo"]);
    done.failed(1, "reuse changes what demo answers: counter");
    let lines: Vec<&str> = done.out.lines().collect();
    for line in [
        "    echo: the same",
        "    add: the same",
        "    environment: differs among fresh processes, so nothing can be said of it",
        "    fault: left out: it may destroy something; --all-tools asks it all the same",
    ] {
        assert!(lines.contains(&line), "{line}: {done:?}");
    }
    let changed: Vec<_> = lines.iter().filter(|line| line.contains("CHANGED BY REUSE: fresh ")).collect();
    let [counter] = *changed else { panic!("{done:?}") };
    assert!(counter.starts_with("    counter: ") && counter.contains("\"count\":1"), "{counter}");

    let floor = example("floor-server");
    let done = place.run(&["check", "--reuse", "default", "--all-tools", "--", shown(&floor)]);
    assert!(done.code == Some(0) && done.out.contains("    echo: the same\n"), "{done:?}");

    place.run(&["check", "--reuse", "other"]).failed(2, "there is no server \"other\"; there are: demo");
    assert_eq!(place.run(&["check", "--all-tools"]).code, Some(2));
}

#[test]
fn a_start_without_descriptors_is_an_error_with_advice_and_no_panic() {
    for command in ["check", "call demo echo message=hi", "serve --listen 127.0.0.1:0"] {
        let said = script_output(&format!("ulimit -n 15; exec \"$0\" {command} 2>&1"));
        assert!(said.contains("cannot set up the runtime: Too many open files"), "{command}: {said}");
        assert!(said.contains("\ntry: `LimitNOFILE=`") && !said.contains("panicked"), "{command}: {said}");
    }
}
