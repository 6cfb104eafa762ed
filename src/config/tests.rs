//! Whole configurations: what is read, what is refused, and who has the last word.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::browser::Availability;
use super::complaint::Complaints;
use super::*;
use crate::child::spec::limits::Share;
use crate::child::spec::sandbox::{Account, Network, Preset, Wish};

mod foreign;
mod layers;
mod mistakes;
mod tokens;

/// Where the sample configurations are.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config");

fn sources_in(dir: &Path, variables: &[(&str, &str)]) -> Sources {
    let variables = [("PATH", "/bin"), ("HOME", "/home/u")].iter().chain(variables);
    let plain = Sources::plain(Surroundings {
        environment: variables.map(|(name, value)| (name.into(), value.into())).collect(),
        dir: dir.to_owned(),
        program: "/opt/spawnling".into(),
    });
    Sources { exposure: Exposure::Refused, ..plain }
}

/// Sources in a directory without any file.
fn sources(variables: &[(&str, &str)]) -> Sources {
    sources_in(Path::new("/nowhere"), variables)
}

fn sample(name: &str) -> Sources {
    let sources = sources_in(Path::new(SAMPLES), &[("PROJECT_A", "a"), ("GIT_TOKEN", "t"), ("SECRET", "s")]);
    Sources { config: Some(name.into()), ..sources }
}

/// What comes of a file of this name and content, in a directory of its own.
fn file(name: &str, text: &str) -> Result<Config, Complaints> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join(name), text).expect("written");
    load(&Sources { config: Some(name.into()), ..sources_in(dir.path(), &[]) })
}

fn env(server: &Server) -> Vec<String> {
    let text = |part: &OsString| part.to_string_lossy().into_owned();
    server.spec.env.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.servers.iter().map(|server| server.name.as_str()).collect()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn every_sample_is_read_as_its_name_says() {
    let mut seen = 0;
    for entry in fs::read_dir(SAMPLES).expect("the samples are there") {
        let name = entry.expect("readable").file_name().into_string().expect("ASCII");
        if Path::new(&name).extension().is_some_and(|extension| extension == "txt") {
            continue;
        }
        let loaded = load(&sample(&name));
        assert_eq!(loaded.is_err(), name.starts_with("wrong"), "{name}: {:?}", loaded.err());
        seen += 1;
    }
    assert!(seen >= 6);
}

#[test]
fn the_smallest_file_leaves_everything_else_at_its_default() {
    let config = load(&sample("smallest.toml")).expect("a good file");
    assert_eq!(config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:5001"]);
    assert_eq!(config.edge, Edge::default());
    assert_eq!((config.concurrent, config.drain, config.body_limit), (64, secs(30), 4 << 20));
    assert_eq!(config.receipts, 1000);
    assert_eq!(config.default_server.as_deref(), Some("time"));
    assert_eq!((config.browser, config.cache_dir), (None, Some("/home/u/.cache/spawnling".into())));
    assert!(config.hosts.is_empty() && config.notices.is_empty());
    let [server] = config.servers.as_slice() else { panic!("one server") };
    assert_eq!((server.spec.program.to_str(), server.spec.cwd.as_deref()), (Some("uvx"), None));
    assert_eq!(server.spec.args, ["mcp-server-time"]);
    assert_eq!(env(server), ["HOME=/home/u", "PATH=/bin"]);
    assert_eq!(server.spec.teardown, Teardown::Ladder { eof: secs(2), term: secs(2) });
    assert_eq!((server.deadline, server.open_deadline, server.list_ttl), (secs(60), secs(30), secs(300)));
    assert_eq!((server.protocol, server.strategy), (Protocol::Auto, StrategyKind::Fresh));
    assert_eq!((server.on_disconnect, server.validate), (OnDisconnect::Cancel, Validate::Enforce));
    let expected =
        Limits { concurrent: 8, queue: 64, queue_timeout: secs(10), output: 67_108_864, stderr: 65_536 };
    assert_eq!((server.limits, server.spec.stderr_limit), (expected, 65_536));
}

#[test]
fn one_address_needs_no_brackets() {
    let with = |listen: &str| file("a.toml", &format!("listen = {listen}\n[servers.a]\ncommand = \"x\"\n"));
    let shown = with("\"${ADDRESS:-127.0.0.1:5002}\"").expect("good").show();
    let line = "listen = [\"127.0.0.1:5002\"]              # a.toml:1:10";
    assert!(shown.contains(line), "{shown}");
    assert_eq!(with("\"unix:gateway.sock\"").expect("good").listen.len(), 1);
    let public = with("\"0.0.0.0:5002\"").expect_err("it asks nobody for a token").to_string();
    assert!(public.starts_with("a.toml:1:10: listen: 0.0.0.0:5002 can be reached"), "{public}");
    let wrong = with("\"5002\"").expect_err("no address").to_string();
    assert!(wrong.starts_with("a.toml:1:10: listen: \"5002\" is no address to listen on"), "{wrong}");
    let wrong = with("5002").expect_err("no address").to_string();
    assert!(wrong.starts_with("a.toml:1:10: listen: must be a list, not a number"), "{wrong}");
}

#[test]
fn a_token_in_a_file_that_a_variable_names_is_watched_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let token = dir.path().join("token");
    fs::write(&token, "correct-horse").expect("written");
    let text = "[servers.a]\ncommand = \"x\"\n[[tokens]]\nname = \"t\"\nvalue_file = \"${WHERE}/token\"\n";
    fs::write(dir.path().join("a.toml"), text).expect("written");
    let variables = [("WHERE", dir.path().to_str().expect("UTF-8"))];
    let sources = Sources { config: Some("a.toml".into()), ..sources_in(dir.path(), &variables) };
    let config = load(&sources).expect("good");
    assert!(config.files.contains(&Stamped::before_reading(token)), "{:?}", config.files);
}

#[test]
fn what_a_variable_with_a_telling_name_holds_is_not_shown() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = "[servers.a]\ncommand = \"x\"\nargs = [\"--key=${API_KEY}\", \"${PLACE}\", \"${API_KEY_FILE:-none}\"]\n\
                env = { CREDIT = \"${API_KEY}\", ZONE = \"${PLACE}\" }\nlist_ttl = \"${AUTH_TTL}\"\n";
    fs::write(dir.path().join("a.toml"), text).expect("written");
    let load = |ttl: &str| {
        let variables = [("API_KEY", "k-0123456789"), ("PLACE", "here"), ("AUTH_TTL", ttl)];
        load(&Sources { config: Some("a.toml".into()), ..sources_in(dir.path(), &variables) })
    };
    let config = load("7m").expect("good");
    let shown = config.show();
    assert!(!shown.contains("k-0123456789") && !shown.contains("7m"), "{shown}");
    assert!(
        shown.contains("args = [\"...\", \"here\", \"none\"]") && shown.contains("env.ZONE = \"here\""),
        "{shown}"
    );
    assert!(shown.contains("env.CREDIT = \"...\""), "{shown}");
    // It is no secret wherever it turns up: that is for `secret_env` to say.
    assert!(config.secrets.is_empty(), "{:?}", config.secrets);
    let wrong = load("k-0123456789").expect_err("no duration").to_string();
    assert!(!wrong.contains("k-0123456789") && wrong.contains("will not do"), "{wrong}");
}

#[test]
fn every_key_of_the_edge_has_its_effect() {
    let samples = Path::new(SAMPLES);
    let tls = edge::Tls {
        cert: samples.join("tls/cert.pem"),
        key: "/tls/key.pem".into(),
        client_ca: Some(samples.join("tls/ca.pem")),
    };
    let edge = Edge {
        max_connections: 512,
        header_timeout: secs(10),
        body_timeout: secs(20),
        write_timeout: secs(40),
        in_flight: 64 << 20,
        socket_mode: 0o660,
        tls: Some(tls),
    };
    assert_eq!(load(&sample("full.toml")).expect("a good file").edge, edge);
    let said = |text: &str| file("a.toml", text).expect_err("a mistake").to_string();
    assert!(said("in_flight = \"1MiB\"").contains("in_flight: must be at least `body_limit`"));
    let larger = "body_limit = \"${LIMIT:-8MiB}\"\nin_flight = \"4MiB\"";
    assert!(said(larger).contains("in_flight: must be at least `body_limit`"));
    let good =
        |text: &str| file("a.toml", &(text.to_owned() + "\n[servers.a]\ncommand = \"x\"\n")).expect("good");
    let config = good("body_limit = \"${LIMIT:-1MiB}\"\nin_flight = \"2MiB\"");
    assert_eq!((config.body_limit, config.edge.in_flight), (1 << 20, 2 << 20));
    assert_eq!(good("body_limit = \"1GiB\"").edge.in_flight, 1 << 30, "the largest body alone finds room");
    assert!(said("tls = { cert = \"a\" }").contains("tls: has no `key`"));
    assert!(said("socket_mode = \"+66\"").contains("socket_mode: \"+66\" are no permissions"));
    assert!(said("socket_mode = 600").contains("socket_mode: must be a string such as \"0660\""));
    assert!(said("metrics = true").contains("metrics: must be a string, not a boolean: one of loopback, "));
}

#[test]
fn every_key_of_a_file_has_its_effect() {
    let config = load(&sample("full.toml")).expect("a good file");
    assert_eq!(
        config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:0", "[::1]:0", "unix:/run/gateway.sock"]
    );
    assert_eq!((config.concurrent, config.drain, config.body_limit), (16, secs(10), 1 << 20));
    assert_eq!((config.receipts, config.metrics), (0, MetricsFor::Token));
    assert_eq!(config.hosts, ["gateway.internal", "tools.example"]);
    assert_eq!((names(&config), &config.default_server), (vec!["time", "browser", "tickets"], &None));
    let [time, browser, tickets] = config.servers.as_slice() else { panic!("three servers") };
    is_for_tickets(tickets);
    let key = format!("API_KEY={}", include_str!("../../tests/fixtures/config/smallest.toml").trim_end());
    let expected = [
        "GIT_TOKEN=t",
        "HOME=/home/u",
        "HOME_PAGE=a:none",
        "PATH=/bin",
        "PLAIN=${x}",
        "PROJECT_A=a",
        "TZ=UTC",
    ];
    assert_eq!(env(time), [&[key.as_str()], &expected[..]].concat());
    let mask = crate::auth::Mask::default();
    mask.learn(&config.secrets);
    assert_eq!(mask.text("args = [\"mcp-server-time\"] time"), "*** time");
    let short = "full.toml:26:15: servers.time.secret_env: GIT_TOKEN is shorter than 8 bytes, and not hidden";
    assert_eq!(config.notices.first().map(String::as_str), Some(short));
    assert_eq!(time.spec.teardown, Teardown::Ladder { eof: Duration::from_millis(500), term: secs(1) });
    assert_eq!((time.deadline, time.open_deadline, time.list_ttl), (secs(20), secs(5), secs(60)));
    assert_eq!((time.protocol, time.on_disconnect), (Protocol::Legacy, OnDisconnect::Finish));
    assert_eq!((time.validate, time.required, browser.required), (Validate::Warn, true, false));
    let expected =
        Limits { concurrent: 4, queue: 0, queue_timeout: secs(2), output: 8 << 20, stderr: 16 << 10 };
    assert_eq!((time.limits, time.spec.stderr_limit), (expected, 16 << 10));
    is_kept_in_bounds(time, browser);
    let standby = Standby { min: 0, max: 2, max_age: secs(300) };
    let pool = Pool { uses: 10, max_age: secs(600), idle: secs(30) };
    let strategies = (StrategyKind::Prewarmed(standby), StrategyKind::Pooled(pool));
    assert_eq!((time.strategy, browser.strategy), strategies);
    assert_eq!(browser.spec.teardown, Teardown::Kill);
    assert_eq!(browser.spec.program, Path::new(SAMPLES).join("./bin/agent"));
    assert_eq!(browser.spec.cwd, Some(Path::new(SAMPLES).join("state")));
    let available =
        Availability::Program { program: Path::new(SAMPLES).join("./bin/agent"), path: "/bin".into() };
    let expected = Browser { server: "browser".to_owned(), tool: "browse".to_owned(), available };
    assert_eq!(config.browser, Some(expected));
    let arguments = Some(vec![("task".to_owned(), "/task".to_owned())]);
    let route = |path: &str, server: &str, tool: &str, arguments, response| Route {
        path: path.into(),
        server: server.into(),
        tool: tool.into(),
        arguments,
        response,
    };
    let expected = [
        route("/agent", "browser", "browse", arguments, RouteResponse::Envelope),
        route("/time", "time", "get_current_time", None, RouteResponse::Result),
    ];
    assert_eq!(config.routes, expected);
}

fn is_for_tickets(server: &Server) {
    let key = HeaderVariable { header: "x-ticket-key".into(), variable: "TICKET_KEY".into() };
    assert_eq!(server.header_env, [key]);
    assert_eq!((server.spec.home, env(server)), (Home::Scratch, vec!["PATH=/bin".to_owned()]));
}

fn is_kept_in_bounds(time: &Server, browser: &Server) {
    let expected = spec::limits::Limits {
        memory: Some(1 << 30),
        processes: Some(64),
        cpu: Share::of_percent(150),
        cpu_time: Some(secs(60)),
        open_files: Some(256),
        file_size: Some(1 << 30),
        scratch: Some(256 << 20),
    };
    assert_eq!(time.spec.limits, expected);
    let expected = Wish {
        presets: vec![Preset::Uvx],
        read: Some(vec![Path::new(SAMPLES).join("data"), "/srv".into()]),
        write: Some(vec!["/home/u/out".into()]),
        network: Network::None,
        no_new_privs: true,
        seccomp: Some(true),
        private_tmp: Some(true),
        user: Some(Account::Name("nobody".to_owned())),
        said: Vec::new(),
        best_effort: true,
    };
    assert_eq!(time.spec.wish, Some(expected));
    let expected = Wish {
        presets: vec![Preset::Python, Preset::Browser],
        seccomp: Some(false),
        user: Some(Account::Id(65534)),
        ..Wish::default()
    };
    assert_eq!(browser.spec.wish, Some(expected));
}

#[test]
fn the_whole_configuration_is_shown_with_where_it_came_from_and_without_secrets() {
    let shown = |sources: &Sources| load(sources).expect("good").show();
    let listen = vec!["127.0.0.1:1".to_owned()];
    let text = shown(&Sources { listen, drain: Some("3s".to_owned()), ..sample("full.toml") });
    for line in [
        "listen = [\"127.0.0.1:1\"]                 # --listen",
        "concurrent = 16                          # full.toml:3:14",
        "containment = \"auto\"                     # default",
        "drain = \"3s\"                             # --drain",
        "[servers.time]",
        "deadline = \"20s\"                         # full.toml:28:12",
        "limits.memory = \"1GiB\"                   # full.toml:37:105",
        "limits.cpu = \"150%\"                      # full.toml:37:135",
        "sandbox.seccomp = true                   # full.toml:38:121",
        "env.PATH = \"/bin\"                        # the gateway's environment",
        "env.TZ = \"UTC\"                           # full.toml:25:14",
        "env.HOME_PAGE = \"a:none\"                 # full.toml:25:33",
        "env.API_KEY = \"...\"                      # full.toml:25:81",
        "env.GIT_TOKEN = \"...\"                    # the gateway's environment",
        "env.PROJECT_A = \"...\"                    # the gateway's environment",
        "tool = \"browse\"                          # full.toml:50:8",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    // It is TOML, and but for what is hidden it means the same.
    let read_back = file("again.toml", &text).expect("it can be read");
    assert_eq!((names(&read_back), read_back.drain), (vec!["time", "browser", "tickets"], secs(3)));
    assert_eq!(read_back.servers[2].header_env.len(), 1);
    assert_eq!(read_back.servers[0].limits, load(&sample("full.toml")).expect("good").servers[0].limits);
    assert_eq!(read_back.servers[2].spec.home, Home::Scratch);
    let json = shown(&sample("vscode.jsonc"));
    for line in [
        "concurrent = 12                          # vscode.jsonc:17:31",
        "deadline = \"30s\"                         # vscode.jsonc:11:33",
        "env.PORT = \"8080\"                        # vscode.jsonc:9:23",
    ] {
        assert!(json.lines().any(|shown| shown == line), "{line}\n{json}");
    }
    let hosts = [("SPAWNLING_HOSTS", "a.example"), ("HTTPS_PROXY", "http://u:p@proxy")];
    let embedded = shown(&sources(&hosts));
    assert!(
        embedded.contains("hosts = [\"a.example\"]                    # SPAWNLING_HOSTS\n"),
        "{embedded}"
    );
    assert!(embedded.contains("env.HTTPS_PROXY = \"...\" ") && !embedded.contains("u:p"), "{embedded}");
}

#[test]
fn a_route_has_a_path_of_its_own_and_a_server_that_there_is() {
    let with = |routes: &str| {
        let text = format!("[servers.browser]\ncommand = \"x\"\n[browser_agent]\n{routes}");
        file("a.toml", &text).map(|config| config.routes.len()).map_err(|complaints| complaints.to_string())
    };
    let route = |path: &str, more: &str| {
        format!("[[routes]]\npath = {path:?}\nserver = \"browser\"\ntool = \"t\"\n{more}\n")
    };
    assert_eq!(with(&(route("/a", "") + &route("/b", "arguments = {}"))), Ok(2));
    let cases = [
        (route("/healthz", ""), "a.toml:5:8: routes[0].path: \"/healthz\" is a path of the gateway itself"),
        (route("/api/health", ""), "a.toml:5:8: routes[0].path: \"/api/health\" is a path of the gateway"),
        (
            route("/v1/servers/x", ""),
            "a.toml:5:8: routes[0].path: \"/v1/servers/x\" is a path of the gateway",
        ),
        (route("/a", "") + &route("/a", ""), "a.toml:10:8: routes[1].path: \"/a\" has a route already"),
        (route("a", ""), "a.toml:5:8: routes[0].path: \"a\" is no path"),
        (route("/a?b", ""), "a.toml:5:8: routes[0].path: \"/a?b\" is no path"),
        (route("/a/../b", ""), "a.toml:5:8: routes[0].path: \"/a/../b\" is no path"),
        (
            route("/a", "response = \"envelop\""),
            "a.toml:8:12: routes[0].response: \"envelop\" is none of result",
        ),
        (
            route("/a", "arguments = { a = \"b\" }"),
            "a.toml:8:19: routes[0].arguments.a: \"b\" is no JSON pointer",
        ),
        (
            route("/a", "arguments = { a = \"/~2\" }"),
            "a.toml:8:19: routes[0].arguments.a: \"/~2\" is no JSON",
        ),
        (
            route("/a", "").replace("\"browser\"", "\"browse\""),
            "a.toml:6:10: routes[0].server: no server is called \"browse\"; did you mean `browser`?",
        ),
        ("[[routes]]\npath = \"/a\"\ntool = \"t\"\n".to_owned(), "a.toml:4:1: routes[0]: has no `server`"),
        ("[routes]\n".to_owned(), "a.toml:4:1: routes: must be a list"),
    ];
    for (routes, expected) in cases {
        let complaints = with(&routes).expect_err(expected);
        assert!(complaints.starts_with(expected) && complaints.lines().count() == 1, "{complaints}");
    }
}

#[test]
fn a_server_is_not_required_that_nobody_can_try_without_a_callers_credentials() {
    let with = |more: &str| {
        let server = "[servers.a]\ncommand = \"x\"\nheader_env = { X-Key = \"KEY\" }\n";
        file("a.toml", &format!("{server}{more}")).map_err(|complaints| complaints.to_string())
    };
    let complaint = with("required = true\n").expect_err("it might never be ready");
    assert!(
        complaint.starts_with("a.toml:4:12: servers.a.required: whether it starts may depend"),
        "{complaint}"
    );
    assert!(with("required = false\n").is_ok());
}

#[test]
fn what_an_editor_would_put_in_place_is_put_in_place() {
    let text = r#"{"inputs": [{"id": "github-token"}], "servers": {
        "a": {"command": "x", "args": ["${workspaceFolder}/a"], "env": {"TOKEN": "${input:github-token}"}},
        "b": {"url": "https://mcp.example", "headers": {"Authorization": "${input:unasked}"}},
        "c": {"command": "x", "disabled": true, "args": ["${NONE}"]}}}"#;
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(dir.path().join(".vscode")).expect("created");
    fs::write(dir.path().join(".vscode/mcp.json"), text).expect("written");
    let config = |variables: &[(&str, &str)]| {
        load(&Sources { config: Some(".vscode/mcp.json".into()), ..sources_in(dir.path(), variables) })
    };
    let asked = config(&[("INPUT_GITHUB_TOKEN", "ghp_12345678")]).expect("a good file");
    let [server] = asked.servers.as_slice() else { panic!("one server") };
    assert_eq!(server.spec.args, [dir.path().join("a")]);
    assert_eq!(server.secrets, [crate::auth::Secret::new("ghp_12345678")]);
    assert!(asked.secrets.contains(&server.secrets[0]));
    assert!(!format!("{:?}", server.secrets).contains("ghp"));
    let complaints = config(&[]).expect_err("nobody can be asked").to_string();
    let expected = ".vscode/mcp.json:2:83: servers.a.env.TOKEN: an editor would ask for this; nobody can be asked \
                    here: set the variable INPUT_GITHUB_TOKEN";
    assert_eq!(complaints, expected);
}

#[test]
fn a_configuration_without_end_is_refused() {
    let sources = Sources { config: Some("/dev/zero".into()), ..sources(&[]) };
    let refused = load(&sources).expect_err("nobody has so much to say").to_string();
    assert_eq!(refused, "/dev/zero: cannot be read: it is longer than 4096 KiB");
}

#[test]
fn files_are_known_by_what_they_were_before_they_were_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let texts = [
        (
            "a.toml",
            "[servers.a]\ncommand = \"${file:secret}\"\n[[tokens]]\nname = \"t\"\nvalue_file = \"token\"\n",
        ),
        ("secret", "x"),
        ("token", "correct-horse"),
    ];
    // Whoever reads a pipe waits for somebody to write to it, which changes it.
    let writers = texts.map(|(name, text)| {
        let path = dir.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        let pipe = fs::File::options().read(true).write(true).open(&path).expect("opened by both ends");
        pipe.set_modified(std::time::UNIX_EPOCH).expect("long ago");
        drop(pipe);
        std::thread::spawn(move || fs::write(path, text))
    });
    let config =
        load(&Sources { config: Some("a.toml".into()), ..sources_in(dir.path(), &[]) }).expect("good");
    for writer in writers {
        writer.join().expect("no panic").expect("written");
    }
    assert_eq!(config.files.len(), 3, "{:?}", config.files);
    for file in &config.files {
        assert_ne!(file.stamp, Stamp::of(&file.path), "{}", file.path.display());
    }
}
