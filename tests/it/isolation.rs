//! What a server is given: its own process, directory and descriptors, a chosen environment, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

mod home;
mod strategies;

use crate::support::peers::say_skipped;
use crate::support::processes::{self, runs};
use crate::support::{
    Gateway, JSON, PROGRAM, Start, command_output, demo, script_works, server, until, until_some,
};

/// What the server `demo` sees of itself.
fn environment(gateway: &Gateway) -> Value {
    gateway.tool("environment", "{}").good()["structuredContent"].clone()
}

fn names(environment: &Value) -> BTreeSet<String> {
    environment["variables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// The variables of a living process, as the kernel tells them.
fn variables_of(pid: u32) -> Vec<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    environment.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Begins a call of the server `name` that leaves a file in its directory and then sleeps.
fn begin_work(gateway: &Gateway, name: &str) -> crate::support::Pending {
    let steps = json!({"steps": [
        {"tool": "fault", "arguments": {"kind": "scratch-file"}},
        {"tool": "sleep", "arguments": {"seconds": 600}},
    ]});
    gateway.begin("POST", &format!("/v1/servers/{name}/calls"), &[JSON], &steps.to_string())
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).map_or_else(|_| Vec::new(), |all| all.flatten().map(|file| file.path()).collect())
}

#[test]
fn a_server_sees_the_allowed_variables_and_those_configured_for_it() {
    let gateways = [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("LC_TEST", "C"),
        ("UV_TEST", "x"),
        ("PASSED_ON", "x"),
        ("ONE", "x"),
        ("ONE_MORE", "x"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2hunter2"),
        ("OPENAI_API_KEY", "hunter2hunter2"),
        ("SPAWNLING_TOKEN", "hunter2hunter2"),
        ("LD_LIBRARY_PATH", "/nowhere"),
    ];
    let config =
        demo(&[]) + "pass_env = [\"PASSED_*\", \"ONE\"]\nenv = { MINE = \"a b\", TZ = \"Asia/Tokyo\" }\n";
    let gateway = Gateway::start_by(&config, Start { env: &gateways, ..Start::default() });
    let seen = environment(&gateway);
    let allowed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "REQUESTS_CA_BUNDLE"];
    let allowed =
        allowed.into_iter().chain(["NODE_EXTRA_CA_CERTS", "XDG_CACHE_HOME", "PLAYWRIGHT_BROWSERS_PATH"]);
    let expected = [
        "HTTPS_PROXY",
        "http_proxy",
        "LC_TEST",
        "UV_TEST",
        "PASSED_ON",
        "ONE",
        "MINE",
        "TZ",
        "PWD",
        "TMPDIR",
    ];
    let mut seen_names = names(&seen);
    for name in expected.into_iter().chain(["PATH", "SPAWNLING_TEST_MARK"]) {
        assert!(seen_names.remove(name), "{name} is missing");
    }
    let may_be = |name: &String| {
        let prefixes = ["LC_", "UV_", "NPM_CONFIG_", "SSL_CERT_"];
        allowed.clone().any(|known| known == name)
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
            || name.ends_with("_PROXY")
            || name.ends_with("_proxy")
    };
    seen_names.retain(|name| !may_be(name));
    assert_eq!(seen_names, BTreeSet::new());
    assert_eq!(seen["values"]["TZ"], "Asia/Tokyo");
    assert_eq!(seen["values"]["HOME"].as_str(), std::env::var("HOME").ok().as_deref());
    gateway.stop();
}

#[test]
fn a_secret_of_the_gateway_is_in_no_servers_memory() {
    let secret = "hunter2-and-some-more";
    let env = [("OPENAI_API_KEY", secret), ("DATABASE_URL", secret)];
    let gateway = Gateway::start_by(&demo(&[]), Start { env: &env, ..Start::default() });
    let busy = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    let servers = gateway.until_servers(1);
    let variables = variables_of(servers[0]);
    assert!(!variables.iter().any(|variable| variable.contains(secret)), "{variables:?}");
    assert!(variables_of(gateway.pid()).iter().any(|variable| variable.contains(secret)));
    busy.hang_up();
    gateway.stop();
}

#[test]
fn a_server_works_in_a_directory_of_its_own_that_nobody_else_can_enter() {
    let gateway = Gateway::start(&demo(&[]));
    let busy = begin_work(&gateway, "demo");
    until("the server has left its file", || gateway.scratch().iter().any(|dir| !files_in(dir).is_empty()));
    let scratch = gateway.scratch();
    assert_eq!(scratch.len(), 1);
    let root = scratch[0].parent().unwrap();
    assert_eq!((mode(&scratch[0]), mode(root)), (0o700, 0o700));
    let server = gateway.until_servers(1)[0];
    assert_eq!(fs::read_link(format!("/proc/{server}/cwd")).unwrap(), scratch[0].canonicalize().unwrap());
    let seen = environment(&gateway);
    let cwd = seen["cwd"].as_str().unwrap();
    assert!(Path::new(cwd).starts_with(gateway.tmp().canonicalize().unwrap()), "{cwd}");
    assert_eq!((&seen["values"]["TMPDIR"], &seen["values"]["PWD"]), (&json!(cwd), &json!(cwd)));
    // A socket's path may have 107 bytes, and servers make sockets there.
    assert!(cwd.len() < 90, "{cwd}");
    assert_ne!(Path::new(cwd), scratch[0].canonicalize().unwrap());
    busy.hang_up();
    gateway.settle();
    gateway.stop();
}

#[test]
fn a_configured_working_directory_leaves_the_scratch_directory_as_tmpdir() {
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().canonicalize().unwrap();
    let gateway = Gateway::start(&(demo(&[]) + &format!("cwd = {elsewhere:?}\n")));
    let seen = environment(&gateway);
    assert_eq!((&seen["cwd"], &seen["values"]["PWD"]), (&json!(elsewhere), &json!(elsewhere)));
    let tmpdir = seen["values"]["TMPDIR"].as_str().unwrap();
    assert!(Path::new(tmpdir).starts_with(gateway.tmp().canonicalize().unwrap()), "{tmpdir}");
    gateway.stop();
}

#[test]
fn a_server_inherits_no_descriptor_even_if_the_gateway_did() {
    let inherits = "exec \"$0\" \"$@\" 7</dev/null 9>/dev/null";
    let gateway = Gateway::start_by(&demo(&[]), Start { script: Some(inherits), ..Start::default() });
    assert!(Path::new(&format!("/proc/{}/fd/7", gateway.pid())).exists());
    // A connection of the gateway's that is open meanwhile is not inherited either.
    let busy = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    gateway.until_servers(1);
    let seen = environment(&gateway);
    let descriptors = seen["descriptors"].as_object().unwrap();
    assert_eq!(descriptors.keys().collect::<Vec<_>>(), ["0", "1", "2"], "{descriptors:?}");
    let pipes: BTreeSet<_> = descriptors.values().map(|target| target.as_str().unwrap()).collect();
    assert!(pipes.len() == 3 && pipes.iter().all(|pipe| pipe.starts_with("pipe:")), "{pipes:?}");
    busy.hang_up();
    gateway.stop();
}

#[test]
fn a_server_has_the_limit_of_open_files_that_the_gateway_was_given() {
    let limited = "ulimit -Sn 345; exec \"$0\" \"$@\"";
    let gateway = Gateway::start_by(&demo(&[]), Start { script: Some(limited), ..Start::default() });
    let limit = &environment(&gateway)["open_file_limit"];
    assert_eq!(limit["soft"], 345);
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    assert_eq!(limit["hard"].as_u64(), hard);
    gateway.stop();
}

/// The containments that this machine can have; the others are named loudly.
fn containments() -> impl Iterator<Item = &'static str> {
    ["strict", "cgroup", "namespace", "subreaper", "group"].into_iter().filter(|name| {
        let said = command_output(&["check", "--containment", name, "--", PROGRAM, "demo"]);
        let possible = !said.contains("does not allow the containment");
        if !possible {
            say_skipped(name, said.trim());
        }
        possible
    })
}

#[test]
fn what_the_kernel_cannot_execute_is_given_to_no_shell() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("without-a-first-line");
    fs::write(&script, "exit 7\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for containment in containments() {
        let args = ["--containment", containment];
        let config = format!("[servers.script]\ncommand = {script:?}\n");
        let gateway = Gateway::start_by(&config, Start { args: &args, ..Start::default() });
        let problem = gateway.post("/v1/servers/script/tools/x", "{}").problem(502, "spawn-failed");
        assert!(problem["detail"].as_str().unwrap().contains("cannot execute"), "{containment}: {problem}");
        gateway.stop();
    }
}

#[test]
fn a_server_starts_clean_in_every_containment_whatever_the_gateway_was_started_with() {
    // No stdin, no stderr, a spare descriptor, ignored signals, a limit of its own, which the gateway must not raise, and the
    // right to leave core dumps.
    let bad_parent =
        "ulimit -Sn 345; ulimit -Sc $(ulimit -Hc); trap '' CHLD PIPE HUP USR1 INT; exec 9>/dev/null";
    for containment in containments() {
        let call = format!(
            "{bad_parent}; \"$0\" call --containment {containment} default environment -- \"$0\" demo <&- 2>&- | \
             tr -d ' \\n' | grep -q '\"open_file_limit\":{{[^}}]*\"soft\":345}}'"
        );
        assert!(script_works(&call), "{containment}");

        let script = format!("{bad_parent}; exec \"$0\" \"$@\" <&-");
        let still = "\n[servers.still]\ncommand = \"sleep\"\nargs = [\"600\"]\neof_grace = \"50ms\"\n";
        let start =
            Start { script: Some(&script), args: &["--containment", containment], ..Start::default() };
        let gateway = Gateway::start_by(&(demo(&[]) + still), start);
        let seen = environment(&gateway);
        let descriptors: Vec<_> = seen["descriptors"].as_object().unwrap().keys().collect();
        assert_eq!(descriptors, ["0", "1", "2"], "{containment}: {seen}");
        assert_eq!(seen["open_file_limit"]["soft"], 345, "{containment}");
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        assert_eq!(seen["open_file_limit"]["hard"].as_u64(), hard, "{containment}");
        gateway.settle();

        // No program of ours, which would set up its own signals.
        let busy = gateway.begin("POST", "/v1/servers/still/tools/x", &[JSON], "{}");
        let server = until_some("a program that sleeps", || {
            gateway.servers().into_iter().find(|pid| runs(*pid, "sleep"))
        });
        let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
        for mask in ["SigIgn:", "SigBlk:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap();
            // 32 and 33 are the C library's own (`nptl(7)`): its posix_spawn ignores them in the child.
            let signals = u64::from_str_radix(line.trim(), 16).unwrap() & !(0b11 << 31);
            assert_eq!(signals, 0, "{containment}: {mask} {line}");
        }
        let limits = fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"], "{containment}");
        busy.hang_up();
        gateway.stop();
    }
}

#[test]
fn a_server_leads_a_process_group_of_its_own_and_has_no_signal_blocked() {
    // No program of ours, which would set up its own signals.
    let config = "[servers.demo]\ncommand = \"sleep\"\nargs = [\"600\"]\neof_grace = \"50ms\"\n";
    let gateway = Gateway::start(config);
    let busy = gateway.begin_tool("x", "{}");
    let server = gateway.until_servers(1)[0];
    let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    let group = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(group, server.to_string());
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0, "signals are blocked");
    assert_eq!(mask("SigIgn:") & (1 << 12), 0, "SIGPIPE is ignored");
    busy.hang_up();
    gateway.stop();
}

#[test]
fn servers_at_work_at_the_same_time_share_nothing() {
    let other = server("other", &["--faults"]) + "protocol = \"legacy\"\nenv = { THEIRS = \"theirs\" }\n";
    let gateway = Gateway::start(&(demo(&[]) + "env = { OURS = \"ours\" }\n" + &other));
    let calls = ["demo", "demo", "other"].map(|name| begin_work(&gateway, name));
    let servers = gateway.until_servers(3);
    until("each has left its file", || {
        gateway.scratch().iter().filter(|dir| files_in(dir).len() == 1).count() == 3
    });
    let mut directories = BTreeSet::new();
    for server in &servers {
        let directory = fs::read_link(format!("/proc/{server}/cwd")).unwrap();
        let files = files_in(&directory);
        let number = processes::own_number(*server);
        assert!(files.len() == 1 && files[0].to_str().unwrap().contains(&format!("-{number}.")), "{files:?}");
        directories.insert(directory);
        let variables = variables_of(*server);
        let has = |variable: &str| variables.iter().any(|entry| entry == variable);
        assert!(has("OURS=ours") != has("THEIRS=theirs"), "{variables:?}");
    }
    assert_eq!(directories.len(), 3);
    calls.into_iter().for_each(crate::support::Pending::hang_up);
    gateway.stop();
}

#[test]
fn what_one_server_leaves_no_later_one_finds() {
    let gateway = Gateway::start(&demo(&[]));
    let first = gateway.tool("fault", r#"{"kind":"scratch-file"}"#).good();
    let files = first["structuredContent"]["files"].as_array().unwrap().clone();
    assert_eq!(files.len(), 2);
    until("they are swept", || !files.iter().any(|file| Path::new(file.as_str().unwrap()).exists()));
    assert_eq!(gateway.tool("counter", "{}").good()["structuredContent"]["count"], 1);
    gateway.stop();
}

#[test]
fn a_server_is_started_without_a_shell() {
    let args = r#"["demo", "--allow-origin", "http://x/;$(touch oops)`touch oops`&& touch oops"]"#;
    let config = format!("[servers.demo]\ncommand = {PROGRAM:?}\nargs = {args}\nprotocol = \"legacy\"\n");
    let config = config.replace("\"http", "'http").replace("oops\"]", "oops']");
    let gateway = Gateway::start(&config);
    let busy = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    let server = gateway.until_servers(1)[0];
    let line = fs::read(format!("/proc/{server}/cmdline")).unwrap();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    assert_eq!(words[3], "http://x/;$(touch oops)`touch oops`&& touch oops");
    busy.hang_up();
    gateway.stop();
}
