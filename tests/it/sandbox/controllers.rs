//! Where the cgroups come from by which trees are limited, what the gateway does to get them, and that nothing of it is
//! left: not by one that ends, and not by one that is killed.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use super::{listed, possible};
use crate::support::peers::say_skipped;
use crate::support::processes::runs;
use crate::support::{Gateway, Pending, Start, alive, demo, shown, until, until_some};

const LIMITS: &str = "limits = { memory = \"64MiB\", processes = 20, cpu = \"50%\" }\n";
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// A cgroup of version 2, such as a service manager would make.
pub(super) struct Pen(PathBuf);

impl Pen {
    /// One that has all controllers, for one gateway. `None`: this host does not have it, which is said.
    pub(super) fn new() -> Option<Self> {
        let made = Self::has_controllers().and_then(|()| Self::within());
        made.map_err(|why| say_skipped("a cgroup of version 2 with controllers", &why)).ok()
    }

    /// One for several gateways. `None`: this host does not have it, which is said.
    pub(super) fn bare() -> Option<Self> {
        Self::within().map_err(|why| say_skipped("a cgroup of version 2", &why)).ok()
    }

    fn has_controllers() -> Result<(), String> {
        let own = own_cgroup("cgroup2", "").ok_or("version 2 is not mounted")?;
        let missing = |file: &str| {
            CONTROLLERS.iter().any(|name| !words(&own.join(file)).iter().any(|word| word == name))
        };
        if missing("cgroup.controllers") {
            return Err(format!("{} has not all of {CONTROLLERS:?}", own.display()));
        }
        // Only the top may hand them on with processes in it; where there is a service manager it does so anyway.
        if missing("cgroup.subtree_control") {
            fs::write(own.join("cgroup.subtree_control"), "+memory +pids +cpu")
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn within() -> Result<Self, String> {
        let own = own_cgroup("cgroup2", "").ok_or("version 2 is not mounted")?;
        let path = own.join(format!("it-{:016x}", getrandom::u64().unwrap()));
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        Ok(Self(path))
    }

    /// A gateway that was started in it, after `before`.
    pub(super) fn gateway(&self, before: &str, config: &str, args: &[&str]) -> Gateway {
        let script = format!("echo 0 > {}/cgroup.procs; {before} exec \"$0\" \"$@\"", shown(&self.0));
        Gateway::start_by(config, Start { script: Some(&script), args, ..Start::default() })
    }

    /// The roots of the gateways in it.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        directories(&self.0)
    }

    /// Whether nothing is in it, or shows that anything was.
    pub(super) fn is_as_before(&self) -> bool {
        directories(&self.0).is_empty() && words(&self.0.join("cgroup.subtree_control")).is_empty()
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        until("the pen can be removed", || fs::remove_dir(&self.0).is_ok());
    }
}

/// Our own cgroup in the hierarchy of this file system, with this controller in version 1.
fn own_cgroup(kind: &str, controller: &str) -> Option<PathBuf> {
    cgroup_of("self", kind, controller)
}

fn cgroup_of(pid: &str, kind: &str, controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let has = |list: &str| controller.is_empty() || list.split(',').any(|name| name == controller);
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mount.into_iter().find(|mount| mount[2] == kind && has(mount[3]))?[1].to_owned();
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        (controllers.is_empty() == controller.is_empty() && has(controllers)).then_some(path)
    })?;
    Some(Path::new(&mount).join(path.trim_start_matches('/')))
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

/// A server that only waits, under these limits.
pub(super) fn waits(settings: &str) -> String {
    format!("[servers.waits]\ncommand = \"sleep\"\nargs = [\"600\"]\neof_grace = \"50ms\"\n{settings}\n")
}

/// Begins a call that such a server never answers, and returns its process.
pub(super) fn begin_wait(gateway: &Gateway) -> (Pending, u32) {
    let call = gateway.begin("GET", "/v1/servers/waits/tools", &[], "");
    let server = until_some("a server that waits", || {
        let servers = gateway.servers();
        servers.into_iter().find(|pid| runs(*pid, "sleep"))
    });
    (call, server)
}

fn enforced(gateway: &Gateway, server: &str) -> Vec<bool> {
    let told = &listed(gateway, server)["limits"];
    let of = |name: &str| told[name]["enforced"].as_bool().unwrap_or_else(|| panic!("{told}"));
    ["memory_bytes", "processes", "cpu_percent"].map(of).to_vec()
}

#[test]
fn a_gateway_alone_in_its_cgroup_limits_its_trees_and_leaves_that_as_it_was() {
    let Some(pen) = Pen::new() else { return };
    let greedy = "[servers.greedy]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"exec tail -n 1 /dev/zero\"]\n\
                  limits = { memory = \"32MiB\" }\n";
    for containment in ["cgroup", "strict"] {
        let config = demo(&[]) + LIMITS + greedy;
        let gateway = pen.gateway("", &config, &["--containment", containment]);
        assert_eq!(enforced(&gateway, "demo"), [true; 3]);
        let place = cgroup_of(&gateway.pid().to_string(), "cgroup2", "").unwrap();
        assert!(shown(&place).ends_with(".gateway") && place.parent() == Some(&pen.0), "{}", place.display());
        assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
        let problem: Value = gateway.get("/v1/servers/greedy/tools").json();
        let end = &problem["exit"];
        assert_eq!(
            (&end["cause"], &end["signal"]),
            (&"memory".into(), &9.into()),
            "{containment}: {problem}"
        );
        gateway.stop();
        assert!(pen.is_as_before(), "{containment}: {:?}", directories(&pen.0));
    }
}

#[test]
fn a_killed_gateway_leaves_its_cgroup_as_it_was_too() {
    let Some(pen) = Pen::new() else { return };
    for containment in ["cgroup", "strict"] {
        let gateway = pen.gateway("", &waits(LIMITS), &["--containment", containment]);
        let (_call, server) = begin_wait(&gateway);
        assert!(!pen.is_as_before());
        let pid = gateway.pid();
        gateway.signal(Signal::KILL);
        until("all of it is gone", || !alive(server) && !alive(pid) && pen.is_as_before());
        gateway.was_killed();
    }
}

#[test]
fn where_somebody_else_lives_there_are_no_controllers_and_that_is_said() {
    let Some(pen) = Pen::new() else { return };
    let gateway = pen.gateway("(sleep 600 </dev/null >/dev/null 2>&1 &);", &(demo(&[]) + LIMITS), &[]);
    let listed = listed(&gateway, "demo");
    assert_eq!(enforced(&gateway, "demo"), [false; 3]);
    assert!(listed.to_string().contains("1 other processes live in"), "{listed}");
    assert_eq!(listed["containment"], "cgroup");
    assert!(words(&pen.0.join("cgroup.subtree_control")).is_empty());
    assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
    gateway.stop();
    assert!(pen.is_as_before());
}

#[test]
fn a_gateway_whose_servers_have_no_limits_moves_nobody() {
    let Some(pen) = Pen::new() else { return };
    let gateway = pen.gateway("", &demo(&[]), &[]);
    assert_eq!(cgroup_of(&gateway.pid().to_string(), "cgroup2", ""), Some(pen.0.clone()));
    assert!(words(&pen.0.join("cgroup.subtree_control")).is_empty());
    gateway.stop();
    assert!(pen.is_as_before());
}

#[test]
fn a_limit_that_is_new_with_a_reload_and_takes_a_restart_is_named() {
    let Some(pen) = Pen::new() else { return };
    let gateway = pen.gateway("", &demo(&[]), &["--containment", "cgroup"]);
    gateway.configure(&(demo(&[]) + "limits = { processes = 20 }\n"));
    until("it was read", || gateway.log().contains("was read again and is in place"));
    let log = gateway.log();
    let told = log.lines().find(|line| line.contains("NOT ENFORCED")).unwrap_or_else(|| panic!("{log}"));
    for part in ["demo", "processes", "`pids`", "restart the gateway"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
    gateway.stop();
    assert!(pen.is_as_before());
}

#[test]
fn a_server_that_has_a_share_of_a_processor_is_slowed_down() {
    let limits = "limits = { cpu = \"5%\" }\n";
    if !possible(limits) {
        return;
    }
    let config = "[servers.busy]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"while :; do :; done\"]\nteardown = \"kill\"\n";
    let gateway = Gateway::start(&(config.to_owned() + limits));
    let call = gateway.begin("GET", "/v1/servers/busy/tools", &[], "");
    until("it is slowed down", || {
        let of = |pid: &u32| {
            let (first, second) =
                (cgroup_of(&pid.to_string(), "cgroup", "cpu"), cgroup_of(&pid.to_string(), "cgroup2", ""));
            [first, second].into_iter().flatten().any(|place| {
                let stat = fs::read_to_string(place.join("cpu.stat")).unwrap_or_default();
                shown(&place).contains("spawnling-")
                    && stat.lines().any(|line| line.starts_with("nr_throttled ") && line != "nr_throttled 0")
            })
        };
        gateway.servers().iter().any(of)
    });
    call.hang_up();
    gateway.stop();
}

/// The cgroups of version 1 that one gateway made, of which a server of it is in one.
fn roots_of(server: u32) -> Vec<PathBuf> {
    let all = CONTROLLERS.iter().filter_map(|name| cgroup_of(&server.to_string(), "cgroup", name));
    let ours = all.filter(|place| shown(place).contains("/spawnling-"));
    ours.map(|place| place.parent().unwrap().to_owned()).collect()
}

#[test]
fn cgroups_of_version_1_go_with_their_gateway_and_those_of_a_dead_one_at_the_next_start() {
    if !possible(LIMITS) {
        return;
    }
    // A group holds nobody who has lost the gateway; then the cgroups do.
    for containment in ["auto", "group"] {
        let start = || {
            let args = &["--containment", containment];
            Gateway::start_by(&waits(LIMITS), Start { args, ..Start::default() })
        };
        let (dead, living) = (start(), start());
        let ((early, lost), (call, kept)) = (begin_wait(&dead), begin_wait(&living));
        let (left, held) = (roots_of(lost), roots_of(kept));
        if left.is_empty() {
            say_skipped("controllers of version 1", "here they are of version 2");
            early.hang_up();
            call.hang_up();
            dead.stop();
            living.stop();
            return;
        }
        dead.signal(Signal::KILL);
        let pid = dead.pid();
        until("it is dead", || !alive(pid) && (containment == "group" || !alive(lost)));

        // It has no limits of its own. Any other gateway on this machine that starts now does the same, and may be at it.
        let next = Gateway::start(&demo(&[]));
        until("what the dead one left is gone", || !alive(lost) && left.iter().all(|root| !root.exists()));
        assert!(alive(kept) && held.len() == 3 && held.iter().all(|root| root.exists()), "{held:?}");
        dead.was_killed();
        drop(early);
        call.hang_up();
        living.stop();
        assert!(held.iter().all(|root| !root.exists()), "{held:?} are left");
        next.stop();
    }
}
