//! Flags, variables, files and what comes with the program: who has the last word.

use super::*;

#[test]
fn flags_come_before_variables_and_variables_before_the_file() {
    let listen = |variables: &[(&str, &str)], flags: &[&str]| {
        let sources = sources_in(Path::new(SAMPLES), variables);
        let listen = flags.iter().map(ToString::to_string).collect();
        let config = load(&Sources { config: Some("full.toml".into()), listen, ..sources }).expect("good");
        config.listen.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let variable = [("SPAWNLING_LISTEN", "127.0.0.1:1, [::1]:2")];
    assert_eq!(listen(&[], &[]), ["127.0.0.1:0", "[::1]:0", "unix:/run/gateway.sock"]);
    assert_eq!(
        listen(&[("SPAWNLING_LISTEN", "")], &[]),
        ["127.0.0.1:0", "[::1]:0", "unix:/run/gateway.sock"]
    );
    assert_eq!(listen(&variable, &[]), ["127.0.0.1:1", "[::1]:2"]);
    assert_eq!(listen(&variable, &["localhost:3"]), ["127.0.0.1:3"]);

    let hosts = |variables: &[(&str, &str)]| {
        let sources = sources_in(Path::new(SAMPLES), variables);
        load(&Sources { config: Some("full.toml".into()), ..sources }).expect("good").hosts
    };
    assert_eq!(hosts(&[("SPAWNLING_HOSTS", "")]), ["gateway.internal", "tools.example"]);
    assert_eq!(hosts(&[("SPAWNLING_HOSTS", "A.example, 10.0.0.1")]), ["a.example", "10.0.0.1"]);

    let drain = Some("1s".to_owned());
    assert_eq!(load(&Sources { drain, ..sample("full.toml") }).expect("good").drain, secs(1));

    let smallest = [("SPAWNLING_CONFIG", "smallest.toml")];
    let by_variable = load(&sources_in(Path::new(SAMPLES), &smallest)).expect("good");
    assert_eq!(names(&by_variable), ["time"]);
    let by_flag = Sources { config: Some("full.toml".into()), ..sources_in(Path::new(SAMPLES), &smallest) };
    assert_eq!(names(&load(&by_flag).expect("good")), ["time", "browser", "tickets"]);
}

#[test]
fn the_usual_file_is_read_if_it_is_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(names(&load(&sources_in(dir.path(), &[])).expect("embedded")), ["demo", "browser"]);
    fs::write(dir.path().join("spawnling.toml"), "[servers.a]\ncommand = \"x\"\ncwd = \"s\"")
        .expect("written");
    let config = load(&sources_in(dir.path(), &[])).expect("a good file");
    assert_eq!((names(&config), &config.servers[0].spec.cwd), (vec!["a"], &Some(dir.path().join("s"))));
}

#[test]
fn a_command_is_one_server_and_no_file() {
    let command = ["./server", "--key", "${NOT_OURS}"].map(OsString::from).to_vec();
    let variables = [("SPAWNLING_CONFIG", "/nowhere/missing.toml"), ("MCP_BROWSER_USE_DIR", "/nowhere")];
    let config = load(&Sources { command: command.clone(), ..sources(&variables) }).expect("good");
    assert_eq!((names(&config), config.default_server.as_deref()), (vec!["default"], Some("default")));
    assert_eq!(config.servers[0].spec.program, Path::new("/nowhere/./server"));
    assert_eq!(config.servers[0].spec.args, command[1..]);
    assert_eq!(config.browser, None);
    let dropped = "MCP_BROWSER_USE_DIR: does not count beside a command";
    assert!(matches!(config.notices.as_slice(), [one] if one.starts_with(dropped)), "{:?}", config.notices);
    let plain = load(&Sources { command: command.clone(), ..sources(&[]) }).expect("good");
    assert!(plain.notices.is_empty());

    let both = Sources { command, config: Some("smallest.toml".into()), ..sources(&[]) };
    assert!(load(&both).expect_err("both").to_string().starts_with("--config: a command"));
}

#[test]
fn flags_and_variables_are_checked_too() {
    let cases = [
        (&[][..], vec!["5001"], None, "--listen: \"5001\" is no address to listen on"),
        (&[("SPAWNLING_LISTEN", "a:1")], vec![], None, "SPAWNLING_LISTEN: \"a:1\" is no address"),
        (&[("SPAWNLING_HOSTS", "a,http://b")], vec![], None, "SPAWNLING_HOSTS: \"http://b\" is no host name"),
        (&[], vec!["0.0.0.0:1"], None, "--listen: 0.0.0.0:1 can be reached from other machines"),
        (&[], vec![], Some("soon"), "--drain: \"soon\" is no duration"),
    ];
    for (variables, listen, drain, expected) in cases {
        let listen = listen.into_iter().map(ToOwned::to_owned).collect();
        let sources = Sources { listen, drain: drain.map(ToOwned::to_owned), ..sources(variables) };
        let complaints = load(&sources).expect_err(expected).to_string();
        assert!(complaints.starts_with(expected) && complaints.lines().count() == 1, "{complaints}");
    }
}

#[test]
fn only_the_insecure_listen_where_others_reach_them() {
    let listen = vec!["0.0.0.0:1".to_owned(), "127.0.0.9:1".to_owned()];
    let config = load(&Sources { listen, exposure: Exposure::Accepted, ..sources(&[]) }).expect("insecure");
    assert_eq!(config.listen.len(), 2);
    assert!(matches!(config.notices.as_slice(), [one] if one.contains("0.0.0.0:1 can be reached")));
    let complaints =
        file("a.toml", "listen = [\"[::]:1\"]\n[servers.a]\ncommand = \"x\"").expect_err("insecure");
    assert!(complaints.to_string().starts_with("a.toml:1:11: listen: [::]:1 can be reached"));
}

#[test]
fn addresses_are_not_judged_where_nobody_listens() {
    let variables = [("SPAWNLING_LISTEN", "0.0.0.0:1")];
    let config = load(&Sources { exposure: Exposure::Moot, ..sources(&variables) }).expect("nobody listens");
    assert!(config.notices.is_empty());
}

#[test]
fn without_any_configuration_the_program_serves_itself() {
    let mut config = load(&sources(&[("SPAWNLING_ORIGIN", "x"), ("OPENAI_API_KEY", "k")])).expect("embedded");
    assert_eq!((names(&config), &config.default_server), (vec!["demo", "browser"], &None));
    config.announce_origins(&["http://127.0.0.1:1".to_owned(), "http://[::1]:2".to_owned()]);
    config.announce_origins(&["http://127.0.0.1:3".to_owned(), "http://[::1]:4".to_owned()]);
    for server in &config.servers {
        assert_eq!(
            (server.spec.program.to_str(), server.spec.args.as_slice()),
            (Some("/opt/spawnling"), &["demo".into()][..])
        );
        let origins =
            "SPAWNLING_ORIGIN=http://127.0.0.1:3,http://[::1]:4,http://localhost:3,http://localhost:4";
        assert_eq!(env(server), ["HOME=/home/u", "PATH=/bin", origins]);
    }
    let browser = config.browser.expect("the original API is on");
    assert_eq!((browser.server.as_str(), browser.tool.as_str()), ("browser", "run_browser_agent"));
    assert_eq!(browser.available, Availability::Embedded);
}

#[test]
fn localhost_is_this_gateway_where_that_name_leads_to_it() {
    let cases = [
        ("http://127.0.0.1:1", Some("http://localhost:1")),
        ("http://[::1]:2", Some("http://localhost:2")),
        ("http://0.0.0.0:3", Some("http://localhost:3")),
        ("http://[::]:4", Some("http://localhost:4")),
        ("http://127.0.0.9:5", None),
        ("http://10.0.0.1:6", None),
        ("http://localhost:7", None),
    ];
    for (origin, expected) in cases {
        assert_eq!(localhost(origin).as_deref(), expected, "{origin}");
    }
    let mut config = load(&sources(&[])).expect("embedded");
    config.announce_origins(&["http://0.0.0.0:1".to_owned(), "http://127.0.0.1:1".to_owned()]);
    let origins = "SPAWNLING_ORIGIN=http://0.0.0.0:1,http://127.0.0.1:1,http://localhost:1";
    assert_eq!(env(&config.servers[0])[2], origins);
}

#[test]
fn the_original_variable_brings_the_real_browser_agent() {
    let variables = [
        ("MCP_BROWSER_USE_DIR", "agent"),
        ("MCP_MODEL_NAME", "m"),
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_ENDPOINT", "e"),
        ("BROWSER_USE_HEADLESS", "1"),
        ("CHROME_PATH", "/c"),
        ("ANONYMIZED_TELEMETRY", "0"),
        ("AWS_SECRET", "s"),
    ];
    let mut config = load(&sources(&variables)).expect("embedded");
    config.announce_origins(&["http://127.0.0.1:1".to_owned()]);
    assert_eq!(names(&config), ["demo", "browser"]);
    let browser = &config.servers[1];
    assert_eq!(browser.spec.program.to_str(), Some("uv"));
    assert_eq!(browser.spec.args, ["run", "--directory", "/nowhere/agent", "mcp-server-browser-use"]);
    assert_eq!((browser.deadline, browser.open_deadline), (secs(600), secs(60)));
    let passed: Vec<String> =
        env(browser).iter().map(|pair| pair.split('=').next().unwrap_or_default().to_owned()).collect();
    let expected = [
        "ANONYMIZED_TELEMETRY",
        "BROWSER_USE_HEADLESS",
        "CHROME_PATH",
        "HOME",
        "MCP_BROWSER_USE_DIR",
        "MCP_MODEL_NAME",
        "OPENAI_API_KEY",
        "OPENAI_ENDPOINT",
        "PATH",
    ];
    assert_eq!(passed, expected);
    let available = Availability::Uv { dir: "/nowhere/agent".into(), path: "/bin".into() };
    assert!(!available.check());
    assert_eq!(config.browser.map(|browser| browser.available), Some(available));
    assert!(
        matches!(config.notices.as_slice(), [one] if one.starts_with("MCP_BROWSER_USE_DIR: /nowhere/agent"))
    );
}

#[test]
fn a_file_and_the_original_variable_go_together() {
    let real = [("MCP_BROWSER_USE_DIR", SAMPLES)];
    let load = |name: &str, variables: &[(&str, &str)]| {
        let sources = sources_in(Path::new(SAMPLES), variables);
        super::load(&Sources { config: Some(name.into()), ..sources }).expect("a good file")
    };
    let beside = load("smallest.toml", &real);
    assert_eq!((names(&beside), beside.default_server.as_deref()), (vec!["time", "browser"], None));
    assert!(matches!(beside.browser, Some(Browser { available: Availability::Uv { .. }, .. })));
    let its_own = load("full.toml", &real);
    assert_eq!(names(&its_own), ["time", "browser", "tickets"]);
    assert!(
        matches!(its_own.browser, Some(Browser { available: Availability::Program { .. }, tool, .. }) if tool == "browse")
    );
}

#[test]
fn the_default_server_is_the_only_one_or_has_that_name() {
    let server = |name: &str| format!("[servers.{name}]\ncommand = \"x\"\n");
    for (names, expected) in
        [(&["a"][..], Some("a")), (&["a", "b"], None), (&["a", "default"], Some("default"))]
    {
        let text: String = names.iter().map(|name| server(name)).collect();
        assert_eq!(file("a.toml", &text).expect("good").default_server.as_deref(), expected);
    }
}
