//! Everything is bounded: seats, the queue, time, bodies.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, JSON, PATIENCE, Pending, Response, Start, demo, script_works, server, until};

const ECHO: &str = r#"{"message":"hello"}"#;
const LONG: &str = r#"{"seconds":600}"#;

fn with_limits(limits: &str) -> Gateway {
    Gateway::start(&(demo(&[]) + "limits = { " + limits + " }\n"))
}

/// Takes one seat of the server `demo` for ten minutes, and returns when it has it.
fn take_seat(gateway: &Gateway) -> Pending {
    let before = gateway.servers().len();
    let taken = gateway.begin_tool("sleep", LONG);
    gateway.until_servers(before + 1);
    taken
}

/// A call with its own time limit.
fn hurried(gateway: &Gateway, timeout: &str, tool: &str, arguments: &str) -> Response {
    let headers = [JSON, ("Spawnling-Timeout", timeout)];
    gateway.request("POST", &format!("/v1/servers/demo/tools/{tool}"), &headers, arguments)
}

/// A phase's time, in milliseconds, out of `Server-Timing`.
fn spent(answer: &Response, phase: &str) -> Option<f64> {
    let phases = answer.header("server-timing")?.split(", ");
    phases.filter_map(|entry| entry.split_once(";dur=")).find(|(name, _)| *name == phase)?.1.parse().ok()
}

#[test]
fn no_more_servers_live_at_once_than_have_seats() {
    let gateway = with_limits("concurrent = 2, queue = 8");
    let calls: Vec<_> = (0..8).map(|_| gateway.begin_tool("sleep", r#"{"seconds":0.2}"#)).collect();
    let mut most = 0;
    let statuses = std::thread::scope(|scope| {
        let done = scope.spawn(|| calls.into_iter().map(|call| call.response().status).collect::<Vec<_>>());
        until("all are answered", || {
            most = most.max(gateway.servers().len());
            done.is_finished()
        });
        done.join().unwrap()
    });
    assert_eq!(statuses, [200; 8]);
    assert_eq!(most, 2);
    gateway.stop();
}

#[test]
fn a_full_queue_is_said_at_once_with_the_time_to_come_back() {
    let gateway = with_limits("concurrent = 1, queue = 1, queue_timeout = \"20s\"");
    let seated = take_seat(&gateway);
    // One of these gets the place; which one, nobody can say.
    let (tell, told) = std::sync::mpsc::channel();
    let calls = [(); 3].map(|()| (gateway.begin_tool("echo", ECHO), tell.clone()));
    std::thread::scope(|scope| {
        for (call, tell) in calls {
            scope.spawn(move || tell.send(call.response()).unwrap());
        }
        for refused in [told.recv_timeout(PATIENCE).unwrap(), told.recv_timeout(PATIENCE).unwrap()] {
            assert_eq!(refused.problem(503, "overloaded")["phase"], "queue");
            let advice: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&advice), "{advice}");
        }
        assert_eq!(gateway.servers().len(), 1, "nothing was started for those who were refused");
        seated.hang_up();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().said(), "hello");
    });
    gateway.stop();
}

#[test]
fn whoever_waits_longest_is_served_first() {
    let gateway = with_limits("concurrent = 1, queue = 8, queue_timeout = \"20s\"");
    let seated = take_seat(&gateway);
    let waiting = [(); 4].map(|()| {
        let came = Instant::now();
        let call = gateway.begin_tool("sleep", r#"{"seconds":0.2}"#);
        gateway.until_at_rest();
        (came, call)
    });
    seated.hang_up();
    let seated = waiting.map(|(came, call)| {
        let waited = spent(&call.response(), "queue").unwrap();
        came + Duration::from_secs_f64(waited / 1000.0)
    });
    assert!(seated.is_sorted(), "{seated:?}");
    gateway.stop();
}

#[test]
fn a_wait_in_the_queue_has_an_end() {
    let gateway = with_limits("concurrent = 1, queue = 8, queue_timeout = \"150ms\"");
    let seated = take_seat(&gateway);
    let answer = gateway.tool("echo", ECHO);
    assert_eq!(answer.problem(503, "overloaded")["phase"], "queue");
    assert!(spent(&answer, "queue").is_some_and(|waited| waited >= 150.0), "{answer:?}");
    seated.hang_up();
    gateway.stop();
}

#[test]
fn the_house_bounds_all_servers_together() {
    let other = server("other", &[]) + "protocol = \"legacy\"\nlimits = { queue = 0 }\n";
    let gateway = Gateway::start(&(String::from("concurrent = 1\n") + &demo(&[]) + &other));
    let seated = take_seat(&gateway);
    gateway.post("/v1/servers/other/tools/echo", ECHO).problem(503, "overloaded");
    seated.hang_up();
    until("the seat is free again", || gateway.post("/v1/servers/other/tools/echo", ECHO).status == 200);
    gateway.stop();
}

#[test]
fn a_server_that_is_full_leaves_the_others_their_seats() {
    let other = server("other", &[]) + "protocol = \"legacy\"\n";
    let gateway = Gateway::start(&(demo(&[]) + "limits = { concurrent = 1, queue = 0 }\n" + &other));
    let seated = take_seat(&gateway);
    gateway.tool("echo", ECHO).problem(503, "overloaded");
    assert_eq!(gateway.post("/v1/servers/other/tools/echo", ECHO).said(), "hello");
    seated.hang_up();
    gateway.stop();
}

#[test]
fn the_start_of_a_server_has_a_deadline_of_its_own() {
    let hang = demo(&["--fault", "hang-open"]) + "open_deadline = \"150ms\"\ndeadline = \"20s\"\n";
    let gateway = Gateway::start(&hang);
    let answer = gateway.tool("echo", ECHO);
    assert_eq!(answer.problem(504, "deadline-exceeded")["phase"], "open");
    assert!(spent(&answer, "open").is_some_and(|time| (100.0..5_000.0).contains(&time)), "{answer:?}");
    assert_eq!(spent(&answer, "call"), None);
    gateway.stop();
}

#[test]
fn a_call_has_a_deadline() {
    let gateway = Gateway::start(&(demo(&[]) + "deadline = \"1s\"\n"));
    let answer = gateway.tool("sleep", LONG);
    let problem = answer.problem(504, "deadline-exceeded");
    assert_eq!((&problem["phase"], &problem["fault"]), (&json!("call"), &json!("deadline")));
    gateway.stop();
}

#[test]
fn a_caller_may_ask_for_less_time_but_not_for_more() {
    let gateway = Gateway::start(&(demo(&[]) + "deadline = \"300ms\"\n"));
    let began = Instant::now();
    hurried(&gateway, "5m", "sleep", LONG).problem(504, "deadline-exceeded");
    assert!(began.elapsed() >= Duration::from_millis(300));
    gateway.stop();

    let gateway = Gateway::start(&(demo(&[]) + "deadline = \"5m\"\n"));
    let began = Instant::now();
    hurried(&gateway, "100ms", "sleep", LONG).problem(504, "deadline-exceeded");
    gateway.post("/v1/servers/demo/tools/sleep?timeout=100ms", LONG).problem(504, "deadline-exceeded");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Each call has its own; the next is not hurried.
    assert_eq!(gateway.tool("sleep", r#"{"seconds":0.3}"#).said(), "slept 0.3 s");
    gateway.stop();
}

#[test]
fn the_time_in_the_queue_is_part_of_the_deadline() {
    let gateway = with_limits("concurrent = 1, queue = 8, queue_timeout = \"20s\"");
    let seated = take_seat(&gateway);
    let problem = hurried(&gateway, "150ms", "echo", ECHO).problem(504, "deadline-exceeded");
    assert_eq!(problem["phase"], "queue");
    seated.hang_up();
    gateway.stop();
}

#[test]
fn a_body_beyond_the_limit_is_refused_and_nothing_is_started() {
    let gateway = Gateway::start(&(String::from("body_limit = \"1KiB\"\n") + &demo(&[])));
    let fits = json!({"message": "x".repeat(900)}).to_string();
    let large = json!({"message": "x".repeat(1100)}).to_string();
    assert_eq!(gateway.tool("echo", &fits).said().len(), 900);
    let answer = gateway.tool("echo", &large);
    answer.problem(413, "body-too-large");
    assert_eq!(answer.header("spawnling-call-id"), None);
    gateway.stop();
}

#[test]
fn the_limits_in_force_are_told() {
    let limits = "concurrent = 3, queue = 5, queue_timeout = \"7s\", output = \"1MiB\", stderr = \"2KiB\"";
    let config = demo(&[]) + "deadline = \"50s\"\nopen_deadline = \"20s\"\nlimits = { " + limits + " }\n";
    let gateway = Gateway::start(&config);
    let told = gateway.get("/v1/servers").good();
    let expected = json!({
        "concurrent": 3, "queue": 5, "queue_timeout_ms": 7_000, "deadline_ms": 50_000,
        "open_deadline_ms": 20_000, "output_bytes": 1 << 20, "stderr_bytes": 2 << 10,
    });
    assert_eq!(told["servers"][0]["limits"], expected);
    gateway.stop();
}

#[test]
fn nobody_waits_for_a_server_that_is_only_being_learned_about() {
    // Its sibling, in the only seat, would keep silent for 5 s at least.
    let config = server("demo", &["--era", "legacy", "--silent-on-probe"])
        + "deadline = \"3s\"\nlimits = { concurrent = 1 }\n";
    let gateway = Gateway::start(&config);
    for _ in 0..3 {
        assert_eq!(gateway.tool("counter", "{}").status, 200);
    }
    gateway.stop();
}

#[test]
fn a_gateway_that_gets_no_further_thread_has_an_answer_for_everybody() {
    // Root has as many as it likes. The program is opened before, for the other user may not get to where it lies.
    let script = "[ $(id -u) != 0 ] && exec \"$0\" \"$@\"; chown -R 4242:4242 . || exit; exec 9<\"$0\"
        exec setpriv --reuid 4242 --regid 4242 --clear-groups -- sh -c 'exec /proc/self/fd/9 \"$@\"' sh \"$@\"";
    let start = Start { script: Some(script), args: &["--containment", "group"], ..Start::default() };
    let sleeping = |seconds| format!("[servers.demo]\ncommand = \"/bin/sleep\"\nargs = [\"{seconds}\"]\n");
    let gateway = Gateway::start_by(&sleeping(600), start);
    let of_that_user = "[ $(id -u) != 0 ] || as='setpriv --reuid 4242 --regid 4242 --clear-groups'; $as";
    assert!(script_works(&format!("{of_that_user} prlimit --pid {} --nproc=1", gateway.pid())));
    for _ in 0..3 {
        gateway.tool("echo", ECHO).problem(502, "spawn-failed");
    }
    // Its files are looked at all the same.
    gateway.configure(&sleeping(601));
    until("they were read again", || gateway.log().contains("was read again and is in place"));
    gateway.tool("echo", ECHO).problem(502, "spawn-failed");
    gateway.stop();
}
