//! A configuration that is exchanged while calls go on: the new one counts for new calls, and nobody loses anything.

use std::net::TcpListener;
use std::os::fd::AsFd as _;

use rustix::process::Signal;

use crate::support::{Gateway, JSON, Response, Start, alive, demo, server, until, until_some};

const ECHO: &str = r#"{"message":"hello"}"#;
const STANDBY: &str = "strategy = \"prewarmed\"\nstandby = { min = 1, max = 1 }\n";

fn echo(gateway: &Gateway, name: &str) -> Response {
    gateway.post(&format!("/v1/servers/{name}/tools/echo"), ECHO)
}

/// Puts this configuration into the file, says so, and waits until the log says `words` once more than before.
#[track_caller]
fn reload(gateway: &Gateway, config: &str, words: &str) {
    let count = || gateway.log().matches(words).count();
    let before = count();
    gateway.configure(config);
    gateway.signal(Signal::HUP);
    until(&format!("{words}\n{}", gateway.log()), || count() > before);
}

const IN_PLACE: &str = "was read again and is in place";

#[test]
fn new_calls_see_the_new_configuration_and_running_ones_finish_under_the_old() {
    let gateway = Gateway::start(&demo(&[]));
    assert_eq!(echo(&gateway, "second").status, 404);
    let running = gateway.begin_tool("sleep", r#"{"seconds":2}"#);
    let old = gateway.until_servers(1);
    reload(&gateway, &(demo(&[]) + "limits = { output = 100 }\n" + &server("second", &[])), IN_PLACE);
    assert_eq!(echo(&gateway, "second").said(), "hello");
    // The same server has other limits for whoever comes now, and the old ones for whoever was there.
    let long = format!("{{\"message\":\"{}\"}}", "x".repeat(200));
    let refused = gateway.tool("echo", &long);
    refused.problem(502, "output-too-large");
    assert_eq!(running.response().status, 200);
    until("nothing is left of the old server", || !alive(old[0]));
    until("that is said", || gateway.log().contains("nothing is left of the server as it was before"));
    gateway.stop();
}

#[test]
fn a_file_that_has_changed_is_read_without_being_told() {
    let gateway = Gateway::start(&demo(&[]));
    gateway.configure(&(demo(&[]) + &server("second", &[])));
    until("it was read", || gateway.log().contains(IN_PLACE));
    assert_eq!(echo(&gateway, "second").said(), "hello");
    gateway.stop();
}

#[test]
fn a_broken_file_changes_nothing_and_is_named() {
    let gateway = Gateway::start(&demo(&[]));
    let unusable = "the configuration cannot be used; the one before stays in place";
    reload(&gateway, &(demo(&[]) + "dedline = \"1s\"\n"), unusable);
    let log = gateway.log();
    assert!(log.contains("servers.demo.dedline: unknown key; did you mean `deadline`?"), "{log}");
    assert_eq!(echo(&gateway, "demo").said(), "hello");
    // Nor does one that asks for what this machine does not have, whatever else it says.
    let absent = "sandbox = { user = \"nobody-is-called-so\" }\n";
    let strict = ["strict", "stern"].map(|name| server(name, &[]) + absent).concat();
    reload(&gateway, &(server("second", &[]) + &strict), unusable);
    let log = gateway.log();
    for name in ["strict", "stern"] {
        assert!(log.contains(&format!("{name}: its sandbox cannot be had here")), "{log}");
    }
    assert_eq!((echo(&gateway, "demo").said().as_str(), echo(&gateway, "second").status), ("hello", 404));
    reload(&gateway, &server("second", &[]), IN_PLACE);
    assert_eq!((echo(&gateway, "demo").status, echo(&gateway, "second").said().as_str()), (404, "hello"));
    gateway.stop();
}

#[test]
fn what_has_not_changed_keeps_its_standbys_and_what_has_loses_them() {
    let ready = |gateway: &Gateway| {
        let listed = gateway.get("/v1/servers").good();
        let ready = listed["servers"].as_array().unwrap().iter().all(|one| one["standby"]["ready"] == 1);
        ready && gateway.servers().len() == 2
    };
    let with = |more: &str| {
        let kept = server("kept", &[]) + "protocol = \"legacy\"\n" + STANDBY;
        kept + &server("changed", &[]) + "protocol = \"legacy\"\n" + STANDBY + more
    };
    let gateway = Gateway::start(&with(""));
    until("both stand by", || ready(&gateway));
    let before = gateway.servers();
    reload(&gateway, &with("deadline = \"7s\"\n"), IN_PLACE);
    let after = until_some("one stays and one is another", || {
        let now = gateway.servers();
        let kept = now.iter().filter(|pid| before.contains(pid)).count();
        (ready(&gateway) && kept == 1).then_some(now)
    });
    reload(&gateway, &with("deadline = \"7s\"\n"), IN_PLACE);
    assert_eq!(gateway.servers(), after, "nothing had changed");
    gateway.signal(Signal::TERM);
    gateway.ended();
}

#[test]
fn what_takes_a_restart_is_said() {
    let gateway = Gateway::start(&demo(&[]));
    let config = format!("concurrent = 3\nlisten = [\"127.0.0.1:0\"]\nreceipts = 5\n{}", demo(&[]));
    reload(&gateway, &config, IN_PLACE);
    let log = gateway.log();
    let fixed = log.lines().filter(|line| line.contains("takes a restart to count")).collect::<Vec<_>>();
    assert_eq!(fixed.len(), 2, "the flag --listen says what the file says in vain: {fixed:?}");
    assert!(fixed[0].contains("concurrent") && fixed[1].contains("receipts"), "{fixed:?}");
    gateway.stop();
}

#[test]
fn what_was_counted_of_a_server_goes_with_the_last_one_of_its_name() {
    let second = server("second", &["--faults"]) + "protocol = \"legacy\"\n";
    let gateway = Gateway::start(&(demo(&[]) + &second));
    let echo = |name: &str| {
        let path = format!("/v1/servers/{name}/tools/echo");
        gateway.request("POST", &path, &[JSON, ("Spawnling-Wait", "end")], ECHO).good()
    };
    let counted = |text: &str| gateway.get("/metrics").body.matches(text).count();
    let second_calls =
        "spawnling_calls_total{server=\"second\",strategy=\"fresh\",outcome=\"ok\",fault=\"\"} ";
    let gone = || gateway.log().matches("nothing is left of the server as it was before").count();
    echo("demo");
    echo("second");

    // With other settings it is the same server to whoever counts.
    reload(&gateway, &(demo(&[]) + &second + "deadline = \"30s\"\n"), IN_PLACE);
    until("the old one is gone", || gone() == 1);
    echo("second");
    assert_eq!(counted(&format!("{second_calls}2")), 1, "{}", gateway.get("/metrics").body);

    reload(&gateway, &demo(&[]), IN_PLACE);
    until("the second server is gone", || gone() == 2);
    assert_eq!(counted("server=\"second\""), 0, "{}", gateway.get("/metrics").body);
    assert!(counted("server=\"demo\"") > 5);

    reload(&gateway, &(demo(&[]) + &second), IN_PLACE);
    echo("second");
    assert_eq!(counted(&format!("{second_calls}1")), 1, "{}", gateway.get("/metrics").body);
    gateway.stop();
}

#[test]
fn what_takes_a_restart_is_no_change_when_it_is_again_as_it_was() {
    let gateway = Gateway::start(&demo(&[]));
    reload(&gateway, &("concurrent = 3\n".to_owned() + &demo(&[])), IN_PLACE);
    reload(&gateway, &("concurrent = 3\n".to_owned() + &demo(&[]) + "deadline = \"7s\"\n"), IN_PLACE);
    reload(&gateway, &demo(&[]), IN_PLACE);
    let log = gateway.log();
    assert_eq!(log.matches("takes a restart to count").count(), 1, "{log}");
    gateway.stop();
}

#[test]
fn no_reload_opens_to_everybody_what_asks_for_tokens() {
    let everywhere = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let tokens = "\n[[tokens]]\nname = \"me\"\nvalue = \"correct-horse\"\n";
    let handed_over = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let by_file = "exec \"$0\" serve --log-format json --config it.toml";
    for script in [handed_over, by_file] {
        let start = Start { script: Some(script), stdin: Some(everywhere.as_fd()), ..Start::default() };
        let gateway =
            Gateway::start_by(&("listen = [\"0.0.0.0:0\"]\n".to_owned() + &demo(&[]) + tokens), start);
        // By what it says it would be within bounds, but it is not where it says.
        let near = "listen = [\"127.0.0.1:0\"]\n".to_owned() + &demo(&[]);
        reload(&gateway, &near, "the configuration cannot be used; the one before stays in place");
        assert!(gateway.log().contains("nobody would be asked for a token any more"), "{}", gateway.log());
        gateway.get("/v1/servers").problem(401, "unauthenticated");
        reload(&gateway, &(near + tokens), IN_PLACE);
        gateway.stop();
    }
}

#[test]
fn a_secret_that_comes_later_mends_the_file_that_names_it() {
    let gateway = Gateway::start(&demo(&[]));
    let secret = gateway.tmp().with_file_name("later");
    let second = format!("env = {{ KEY = \"${{file:{}}}\" }}\n", secret.display());
    let config = demo(&[]) + &server("second", &[]) + &second;
    gateway.configure(&config);
    until("it was read in vain", || gateway.log().contains("the configuration cannot be used"));
    assert_eq!(echo(&gateway, "second").status, 404);
    std::fs::write(&secret, "k-0123456789").expect("written");
    until("it was read", || gateway.log().contains(IN_PLACE));
    assert_eq!(echo(&gateway, "second").said(), "hello");
    gateway.stop();
}
