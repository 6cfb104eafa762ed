//! The load test, as short as it can be: it is the shape of what it says, and what it leaves, that is checked.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::{PROGRAM, command};
use crate::support::{Gateway, processes, server, shown, until};

/// As little as can be measured.
const TINY: [&str; 9] =
    ["bench", "--quick", "--rounds", "2", "--time", "20ms", "--callers", "1,2", "--rates=40"];

/// Runs it with its temporary files in `dir`, which is in the words of whatever it starts.
fn bench(dir: &Path, words: &[&str]) -> Output {
    command(PROGRAM, dir).args(TINY).args(words).output().expect("it can be started")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
fn nothing_is_left(dir: &Path) {
    until("nothing runs that has to do with the run", || processes::mentioning(shown(dir)).is_empty());
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("spawnling-bench")), "{left:?}");
}

#[test]
fn a_quick_run_measures_every_strategy_and_the_bare_server_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &["--json", "--report", "made/report"]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    let written = std::fs::read_to_string(dir.path().join("made/report/report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), report);
    let page = std::fs::read_to_string(dir.path().join("made/report/index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 5, "distribution, callers, phases, processor time, memory");
    assert_eq!(report["about"]["rounds"], 2);
    let lines = report["results"].as_array().unwrap();
    let names: Vec<_> = lines.iter().take(6).map(|line| line["target"].as_str().unwrap()).collect();
    assert_eq!(names, ["bare, one per call", "bare, one live", "fresh", "prewarmed", "pooled", "shared"]);
    assert_eq!(lines.len(), 18, "six targets under three loads: {report}");
    for line in lines {
        assert_eq!(line["errors"], 0, "{line}");
        let has_hits = line.get("standby_hits").is_some();
        assert_eq!(has_hits, line["target"] == "prewarmed", "no other starts processes ahead: {line}");
        assert!(line["calls"].as_u64() > Some(0), "{line}");
        assert!(line["latency_ms"]["p50"]["median"].as_f64() > Some(0.0), "{line}");
        let fairness = line["least_served"]["median"].as_f64();
        assert_eq!(fairness.is_some(), line["callers"] == 2, "{line}");
        assert!(fairness.is_none_or(|least| (0.0..=1.0).contains(&least)), "{line}");
        assert!(line["rate_per_s"]["low"].as_f64() <= line["rate_per_s"]["high"].as_f64(), "{line}");
    }
    assert_eq!((&lines[2]["load"], &lines[2]["callers"]), (&"closed".into(), &1.into()));
    assert_eq!((&lines[17]["load"], &lines[17]["rate"]), (&"open".into(), &40.0.into()));
    let phases: Vec<_> = lines[2]["phases_ms"].as_array().unwrap().iter().map(|phase| &phase[0]).collect();
    assert_eq!(phases, ["queue", "spawn", "open", "call"]);
    assert!(lines[2]["seat_ms"].as_f64() > lines[2]["latency_ms"]["p50"]["low"].as_f64().map(|ms| ms / 10.0));
    assert!(lines[2]["gateway_memory_bytes"].as_u64() > Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("36 measurements, which take about "), "two rounds of each: {said}");
    nothing_is_left(dir.path());
}

#[test]
fn a_strategy_that_there_is_not_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &["--strategies", "fresh,lukewarm"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("\"lukewarm\" is none of fresh, prewarmed"), "{said}");
    nothing_is_left(dir.path());
}

#[test]
fn a_server_that_fails_is_not_measured() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &["--tool", "no-such-tool", "--strategies", "fresh"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no-such-tool"), "{said}");
    nothing_is_left(dir.path());
}

#[test]
fn another_gateway_is_started_measured_and_ended_with_all_that_it_leaves_behind() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("other.toml");
    std::fs::write(&config, format!("[servers.x]\ncommand = {PROGRAM:?}\nargs = [\"demo\"]\n")).unwrap();
    // A shell that leaves a process in a session of its own, and then is a gateway.
    let marker = dir.path().join("left-behind");
    std::fs::write(&marker, "sleep 300\n").unwrap();
    let against = format!(
        "sh -c 'setsid sh {} & exec \"$0\" \"$@\"' {PROGRAM} serve --listen 127.0.0.1:{{port}} --config {}",
        shown(&marker),
        shown(&config),
    );
    let words = [
        "--json",
        "--strategies",
        "fresh",
        "--path",
        "/v1/servers/x/tools/add",
        "--body",
        r#"{"a":1,"b":2}"#,
    ];
    // And a second one, with a path and a body of its own.
    let echo = [
        "--path",
        "/v1/servers/x/tools/echo",
        "--body",
        r#"{"message":"two"}"#,
        "--expect",
        "",
        "--expect",
        "two",
    ];
    let both = ["--against", &against, "--against", &against];
    let output = bench(dir.path(), &[&words[..], &echo, &both].concat());
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    for (place, name) in [(3, "sh"), (4, "sh 2")] {
        let other = &report["results"][place];
        assert_eq!((&other["target"], &other["errors"]), (&name.into(), &0.into()), "{report}");
        assert!(other["idle_memory_bytes"].as_u64() > Some(0), "{other}");
    }
    nothing_is_left(dir.path());

    let words = [&words[1..], &["--against", &against, "--expect", "\"four\""]].concat();
    let output = bench(dir.path(), &words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("an answer without \"\\\"four\\\"\""), "{said}");
    nothing_is_left(dir.path());
}

#[test]
fn an_interrupted_run_ends_what_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = command(PROGRAM, dir.path());
    run.args(["bench", "--time", "1h", "--strategies", "fresh"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = run.spawn().expect("it can be started");
    until_it_measures(dir.path(), &mut run);
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let said: Vec<String> = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert!(said.iter().any(|line| line.contains("interrupted")), "{said:?}");
    nothing_is_left(dir.path());
}

/// Until the gateway for `fresh` runs.
fn until_it_measures(dir: &Path, run: &mut Child) {
    until("a gateway runs", || {
        assert!(run.try_wait().unwrap().is_none(), "it measures for longer than that");
        !processes::mentioning(&format!(
            "serve --listen 127.0.0.1:0 --log-format human --config {}",
            shown(dir)
        ))
        .is_empty()
    });
}

#[test]
fn what_a_killed_run_has_started_ends_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = command(PROGRAM, dir.path());
    // A server that can be told from those of other tests.
    let mark = format!("mark={}", shown(dir.path()));
    let server =
        ["--tool", "echo", "--arguments", "{\"message\":\"x\"}", "--", "env", &mark, PROGRAM, "demo"];
    run.args(["bench", "--time", "1h", "--strategies", "fresh,prewarmed"]).args(server);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
    until_it_measures(dir.path(), &mut run);
    until("a standby runs", || processes::with(&mark).len() > 1);
    run.kill().unwrap();
    run.wait().unwrap();
    nothing_is_left(dir.path());
    until("no server is left", || processes::with(&mark).is_empty());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.ends_with("cache")), "{left:?}");
}

#[test]
fn a_gateway_that_wants_a_token_gets_that_of_the_variable_and_nobody_is_shown_it() {
    let gateway = Gateway::start(&format!(
        "[[tokens]]\nname = \"bench\"\nvalue = \"quite-secret\"\n{}",
        server("demo", &[])
    ));
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}", gateway.address());
    let words = ["--url", &url, "--server", "demo", "--tool", "echo", "--arguments", "{\"message\":\"x\"}"];
    let with = |token: Option<&str>| {
        let mut command = command(PROGRAM, dir.path());
        command.args(TINY).args(words).args(["--json", "--report", "made"]);
        command.envs(token.map(|token| ("SPAWNLING_TOKEN", token))).output().expect("it can be started")
    };
    for (token, told) in [
        (None, "for --url, put a token into the variable SPAWNLING_TOKEN"),
        (Some("wrong-secret"), "this was the answer to the token in SPAWNLING_TOKEN"),
    ] {
        let output = with(token);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("401") && said.contains(told), "{said}");
        assert!(!said.contains("wrong-secret"), "{said}");
    }
    let output = with(Some("quite-secret"));
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!(report["results"][0]["errors"], 0, "{report}");
    assert!(report["results"][0]["seat_ms"].as_f64() > Some(0.0), "receipts are read with it, too: {report}");
    let page = std::fs::read_to_string(dir.path().join("made/index.html")).unwrap();
    assert!(!format!("{report}{page}{output:?}").contains("quite-secret"));
    nothing_is_left(dir.path());
    gateway.stop();
}

#[test]
fn it_is_said_which_gateway_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = command(PROGRAM, dir.path());
    run.args(["bench", "--strategies", "fresh", "--against", "sleep 300"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("waiting until sleep listens on port ")));
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1));
    nothing_is_left(dir.path());
}
