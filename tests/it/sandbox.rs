//! What a server in a sandbox may do, and what it may not: tried by a thief in its place, and by real servers that have
//! to work in it all the same.
//!
//! What this machine cannot enforce is found by trying, and said loudly.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::peers::say_skipped;
use crate::support::{EMBEDDED, Gateway, PROGRAM, Start, command_output, demo, shown};

mod controllers;
mod limits;
mod neighbours;
mod presets;

/// Things that a thief is after, none of them in a place that anybody may see: not below `/tmp`, which is another one
/// in most sandboxes.
pub(super) struct Treasure {
    home: TempDir,
    foreign: tempfile::NamedTempFile,
}

impl Treasure {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("home-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        fs::write(home.path().join(".ssh/id_x"), "treasure").unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(home.path().join(".ssh/id_x"), mode).unwrap();
        fs::create_dir(home.path().join("shared")).unwrap();
        let foreign = tempfile::Builder::new().prefix("it-foreign-").tempfile_in("/tmp").unwrap();
        fs::write(foreign.path(), "somebody else's").unwrap();
        Self { home, foreign }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn shared(&self) -> PathBuf {
        self.home().join("shared")
    }

    /// What a thief is told, as the `env` of its server.
    fn env(&self) -> String {
        format!(
            "env = {{ SECRET = {:?}, OUT = {:?}, SHARED = {:?}, FOREIGN = {:?}, THIEF = {:?} }}\n",
            shown(&self.home().join(".ssh/id_x")),
            shown(&self.home().join("stolen")),
            shown(&self.shared()),
            shown(self.foreign.path()),
            shown(&thief()),
        )
    }

    /// A thief as the server `name`, in this sandbox.
    fn thief(&self, name: &str, settings: &str) -> String {
        let (args, env) = ([shown(&thief()).to_owned()], self.env());
        format!("\n[servers.{name}]\ncommand = \"/bin/sh\"\nargs = {args:?}\n{env}{settings}\n")
    }
}

fn thief() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/thief.sh")
}

/// What came of a thief's tries, by name.
pub(super) fn tries(gateway: &Gateway, server: &str) -> BTreeMap<String, String> {
    let problem = gateway.get(&format!("/v1/servers/{server}/tools")).json();
    let said = problem["stderr_tail"].as_str().unwrap_or_else(|| panic!("{problem}"));
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    let tries: BTreeMap<_, _> = pairs.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect();
    assert!(tries.contains_key("big"), "it did not come to its end: {problem}");
    tries
}

/// Checks some of a thief's tries.
#[track_caller]
pub(super) fn came(tries: &BTreeMap<String, String>, done: &[&str], refused: &[&str]) {
    let refused = refused.iter().filter(|name| **name != "signal" || signals_can_be_refused());
    let expected = done.iter().map(|name| (name, "done")).chain(refused.map(|name| (name, "refused")));
    let wrong: Vec<_> =
        expected.filter(|(name, outcome)| tries.get(**name).is_none_or(|came| came != outcome)).collect();
    assert!(wrong.is_empty(), "expected {wrong:?}\n{tries:#?}");
}

/// By Landlock, from its ABI 6 on, which is Linux 6.12; by a namespace anyway.
fn signals_can_be_refused() -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_str().unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let since = (numbers.next(), numbers.next()) >= (Some(6), Some(12));
    if !since {
        say_skipped("Landlock of ABI 6, for signals", &format!("this is Linux {release}"));
    }
    since
}

/// Whether this machine can do all that these settings of a server ask for; if not, that is said.
pub(super) fn possible(settings: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it.toml");
    fs::write(&file, demo(&[]) + settings).unwrap();
    let said = command_output(&["check", "--config", shown(&file)]);
    let missing: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("cannot be had here") || line.contains("NOT ENFORCED"))
        .collect();
    if !missing.is_empty() {
        say_skipped(settings.trim(), &missing.join("; "));
    }
    missing.is_empty()
}

/// What is told of a server without starting it.
fn listed(gateway: &Gateway, server: &str) -> Value {
    let all = gateway.get("/v1/servers").good();
    let found = all["servers"].as_array().unwrap().iter().find(|listed| listed["name"] == server);
    found.unwrap_or_else(|| panic!("{all}")).clone()
}

/// What the containment alone leaves a thief to do to the gateway.
fn in_reach(gateway: &Gateway) -> &'static [&'static str] {
    let all = gateway.get("/v1/servers").good();
    match all["servers"][0]["containment"].as_str() {
        // Nobody outside can so much as be named.
        Some("namespace" | "strict") => &[],
        _ => &["signal", "spy"],
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn without_a_sandbox_a_thief_has_its_way() {
    let treasure = Treasure::new();
    let gateway = Gateway::start(&treasure.thief("thief", ""));
    let done = ["read", "write", "shared", "scratch", "tmpdir", "tmp", "foreign", "big"];
    let tries = tries(&gateway, "thief");
    came(&tries, in_reach(&gateway), &[]);
    came(&tries, &done, &["core"]);
    assert!(treasure.home().join("stolen").is_file());
    gateway.stop();
}

#[test]
fn a_server_reads_and_writes_what_it_was_given_and_nothing_else() {
    let treasure = Treasure::new();
    let fixtures = thief().parent().unwrap().to_owned();
    let shared = treasure.shared();
    let (read, shared) = (shown(&fixtures), shown(&shared));
    let reading = format!("sandbox = {{ read = [{read:?}], write = [{shared:?}] }}");
    if !possible("sandbox = { read = [] }") {
        return;
    }
    let writing = format!("sandbox = {{ write = [{shared:?}] }}");
    let gateway =
        Gateway::start(&(treasure.thief("reading", &reading) + &treasure.thief("writing", &writing)));
    let reading = tries(&gateway, "reading");
    came(&reading, &["shared", "scratch", "tmpdir"], &["read", "write", "tmp", "foreign", "signal", "spy"]);
    assert_eq!(reading["NoNewPrivs"], "1");
    let writing = tries(&gateway, "writing");
    came(&writing, &["read", "shared", "scratch", "tmpdir", "foreign"], &["write", "tmp", "signal", "spy"]);
    assert!(!treasure.home().join("stolen").exists());
    let files = &listed(&gateway, "reading")["sandbox"]["files"];
    assert_eq!(files["enforced"], true, "{files}");
    gateway.stop();
}

#[test]
fn a_private_tmp_is_empty_and_gone_with_its_server() {
    let treasure = Treasure::new();
    let settings = "sandbox = { private_tmp = true }";
    if !possible(settings) {
        return;
    }
    let gateway = Gateway::start(&treasure.thief("thief", settings));
    came(&tries(&gateway, "thief"), &["tmp", "scratch", "tmpdir", "read"], &["foreign", "sockets"]);
    gateway.stop();
}

#[test]
fn dangerous_system_calls_are_refused() {
    let treasure = Treasure::new();
    let settings = "sandbox = { seccomp = true }";
    if !possible(settings) {
        return;
    }
    let gateway = Gateway::start(&treasure.thief("thief", settings));
    let tries = tries(&gateway, "thief");
    came(&tries, &["read", "scratch"], &["namespace"]);
    assert_eq!((tries["NoNewPrivs"].as_str(), tries["Seccomp"].as_str()), ("1", "2"));
    // CAP_SYS_ADMIN is the 21st.
    let bounding = u64::from_str_radix(&tries["CapBnd"], 16).unwrap();
    assert!(!is_root() || bounding & (1 << 21) == 0, "{bounding:x}");
    gateway.stop();
}

#[test]
fn a_server_without_a_network_reaches_nobody() {
    let site = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site_address = site.local_addr().unwrap();
    let settings = "sandbox = { network = false }\n";
    if !possible(settings) {
        return;
    }
    let gateway = Gateway::start(&(demo(&["--allow-private"]) + settings));
    let task = format!(r#"{{"task":"Go to http://{site_address}/"}}"#);
    let answer = gateway.tool("run_browser_agent", &task);
    assert_eq!(answer.status, 424, "{answer:?}");
    site.set_nonblocking(true).unwrap();
    assert!(site.accept().is_err(), "somebody came");
    let network = &listed(&gateway, "demo")["sandbox"]["network"];
    assert_eq!(network["enforced"], true, "{network}");
    gateway.stop();
}

/// A gateway that may make no namespaces itself: a filter of our own refuses them to it.
const IN_A_CAGE: &str = r#"exec "$0" confine --sandbox "$CAGE" --scratch . -- "$0" "$@""#;
const CAGE: &str = r#"{"files":null,"network":"Shared","no_new_privs":true,"syscalls":"Safe","private_tmp":false,"in_sight":[],"env":[],"rlimits":{},"scratch_size":null,"user":null,"best_effort":false}"#;

#[test]
fn where_there_are_no_namespaces_a_filter_keeps_a_server_from_the_network() {
    let site = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    if !possible("sandbox = { network = false, seccomp = true }") {
        return;
    }
    let config = demo(&["--allow-private"]) + "sandbox = { network = false }\n";
    let start = Start {
        script: Some(IN_A_CAGE),
        env: &[("CAGE", CAGE)],
        args: &["--containment", "group"],
        ..Start::default()
    };
    let gateway = Gateway::start_by(&config, start);
    let task = format!(r#"{{"task":"Go to http://{}/"}}"#, site.local_addr().unwrap());
    assert_eq!(gateway.tool("run_browser_agent", &task).status, 424);
    site.set_nonblocking(true).unwrap();
    assert!(site.accept().is_err(), "somebody came");
    let network = &listed(&gateway, "demo")["sandbox"]["network"];
    assert!(network["how"].as_str().is_some_and(|how| how.contains("filter")), "{network}");
    gateway.stop();
}

#[test]
fn what_cannot_be_enforced_stops_the_start_unless_the_best_effort_will_do() {
    if !possible("sandbox = { seccomp = true }") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it.toml");
    let config = |best| demo(&[]) + &format!("sandbox = {{ private_tmp = true, best_effort = {best} }}\n");
    let other = demo(&[]).replace("servers.demo", "servers.other") + "sandbox = { private_tmp = true }\n";
    fs::write(&file, config(false) + &other + &demo(&[]).replace("servers.demo", "servers.free")).unwrap();
    let words = [
        "confine",
        "--sandbox",
        CAGE,
        "--scratch",
        shown(dir.path()),
        "--",
        PROGRAM,
        "",
        "--containment",
        "group",
        "--config",
        shown(&file),
    ];
    let ordered = |order| command_output(&words.map(|word| if word.is_empty() { order } else { word }));
    // Whoever looks is told of each server, also of those that start.
    let said = ordered("check");
    for name in ["demo", "other"] {
        assert!(said.contains(&format!("{name}: FAILED: its sandbox cannot be had here")), "{said}");
    }
    assert!(said.contains("`private_tmp` cannot be enforced here: "), "{said}");
    assert!(said.contains("free: ok: "), "{said}");
    assert!(said.contains("2 of 3 did not start: demo, other"), "{said}");
    // All of them are served, or none.
    let said = ordered("serve");
    for name in ["demo", "other"] {
        assert!(said.contains(&format!("{name}: its sandbox cannot be had here")), "{said}");
    }

    let start = Start {
        script: Some(IN_A_CAGE),
        env: &[("CAGE", CAGE)],
        args: &["--containment", "group"],
        ..Start::default()
    };
    let gateway = Gateway::start_by(&config(true), start);
    assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
    let part = &listed(&gateway, "demo")["sandbox"]["private_tmp"];
    assert_eq!(part["enforced"], false, "{part}");
    assert!(gateway.log().contains("NOT ENFORCED"), "{}", gateway.log());
    gateway.stop();
}

#[test]
fn a_path_that_is_not_there_stops_the_start_with_its_name() {
    if !possible("sandbox = { read = [] }") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it.toml");
    fs::write(&file, demo(&[]) + "sandbox = { read = [\"absent\"] }\n").unwrap();
    let said = command_output(&["check", "--config", shown(&file)]);
    assert!(said.contains(&format!("{}: No such file", dir.path().join("absent").display())), "{said}");
}

#[test]
fn with_best_effort_a_path_that_is_not_there_is_left_out_and_all_else_enforced() {
    if !possible("sandbox = { read = [] }") {
        return;
    }
    let treasure = Treasure::new();
    let fixtures = thief().parent().unwrap().to_owned();
    let settings = format!("sandbox = {{ read = [\"absent\", {:?}], best_effort = true }}", shown(&fixtures));
    let gateway = Gateway::start(&treasure.thief("thief", &settings));
    came(&tries(&gateway, "thief"), &["scratch", "tmpdir"], &["read", "write", "tmp", "foreign", "spy"]);
    let told = &listed(&gateway, "thief")["sandbox"];
    assert_eq!(told["files"]["enforced"], true, "{told}");
    let left_out = told.as_object().unwrap().iter().find(|(name, _)| name.ends_with("/absent"));
    assert_eq!(left_out.expect("it is told").1["enforced"], false, "{told}");
    let log = gateway.log();
    assert!(log.contains("NOT ENFORCED") && log.contains("it is left out, all else is enforced"), "{log}");
    gateway.stop();
}

#[test]
fn a_server_runs_as_another_user_in_a_scratch_directory_of_its_own() {
    if !is_root() {
        return say_skipped("sandbox.user", "we are not root");
    }
    let treasure = Treasure::new();
    for more in ["", ", private_tmp = true"] {
        let settings = format!("sandbox = {{ user = 65534{more} }}");
        if !possible(&settings) {
            continue;
        }
        let gateway = Gateway::start_by(
            &treasure.thief("thief", &settings),
            // Scratch directories are to be reached by everybody.
            Start { script: Some("chmod 755 . tmp && exec \"$0\" \"$@\""), ..Start::default() },
        );
        let tries = tries(&gateway, "thief");
        came(&tries, &["scratch", "tmpdir", "tmp"], &["read", "write", "shared", "foreign", "signal", "spy"]);
        assert_eq!(tries["user"], "65534:65534:65534");
        // Wherever it is called something its home is not there; else it has none.
        assert_eq!(tries["home"], "scratch");
        let who = nix::unistd::User::from_uid(65534.into()).unwrap();
        let who = who.map_or("65534".to_owned(), |user| user.name);
        assert_eq!(tries["who"], format!("{who}:{who}"));
        gateway.stop();
    }
}

#[test]
fn another_user_is_called_and_lives_as_the_configuration_says() {
    let settings = "sandbox = { user = 65534 }\n";
    if !is_root() || !possible(settings) {
        return say_skipped("sandbox.user", "we are not root, or cannot have it");
    }
    let treasure = Treasure::new();
    let config = treasure.thief("thief", settings).replace("env = {", "env = { USER = \"somebody\",");
    let start = Start {
        script: Some("chmod 755 . tmp && HOME=/srv/gateway LOGNAME=gateway exec \"$0\" \"$@\""),
        ..Start::default()
    };
    let gateway = Gateway::start_by(&(config + "pass_env = [\"LOGNAME\"]\n"), start);
    let tries = tries(&gateway, "thief");
    assert_eq!((&*tries["who"], &*tries["home"]), ("somebody:gateway", "scratch"));
    gateway.stop();
}

#[test]
fn a_gateway_without_root_confines_its_servers_too() {
    let settings = "sandbox = { read = [], network = false, seccomp = true, private_tmp = true }\n";
    let config = demo(&["--allow-private"]) + settings;
    if !possible(settings) {
        return;
    }
    let free = r#"setpriv --reuid 65534 --regid 65534 --clear-groups "$0" --version >/dev/null 2>&1"#;
    if is_root() && !crate::support::script_works(free) {
        return say_skipped(
            "a gateway without root",
            "setpriv is missing, or nobody may not run our program",
        );
    }
    let script = if is_root() {
        r#"chown 65534:65534 . tmp cache it.toml && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@""#
    } else {
        r#"exec "$0" "$@""#
    };
    let args = &["--containment", "auto"];
    let gateway = Gateway::start_by(&config, Start { script: Some(script), args, ..Start::default() });
    assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
    let sandbox = &listed(&gateway, "demo")["sandbox"];
    for part in ["private_tmp", "network", "no_new_privs", "files", "seccomp"] {
        assert_eq!(sandbox[part]["enforced"], true, "{sandbox}");
    }
    gateway.stop();
}

#[test]
fn the_built_in_servers_have_no_sandbox_to_tell_of() {
    let gateway = Gateway::start(EMBEDDED);
    assert!(listed(&gateway, "demo")["sandbox"].is_null());
    gateway.stop();
}
