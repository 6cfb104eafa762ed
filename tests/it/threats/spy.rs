//! What a hostile program of the gateway's own user can see of it: from within its own tree, and from beside it.

use super::{Host, User, worst};
use crate::support::{processes, script_says, shown};

/// The name of a variable that only one gateway has: no server gets to see variables of that name.
fn secret() -> String {
    format!("SPY_LOOKS_FOR_{:016x}", getrandom::u64().expect("random bits"))
}

/// What a spy says that it could do.
fn successes(said: &str) -> Vec<&str> {
    let told = said.lines().filter(|line| line.ends_with(": yes") || line.ends_with(": no")).count();
    assert!(told >= 3, "it did not get to the end: {said}");
    said.lines().filter_map(|line| line.strip_suffix(": yes")).collect()
}

/// What it can do from within its tree.
fn seen_from_inside(host: &Host, place: &str) -> String {
    let secret = secret();
    let config = host.scripted("spy", "spy.sh", &[place, &secret]);
    let gateway = host.gateway(&config, &[(&secret, "a secret")]);
    let problem = worst(&gateway, "spy").problem(502, "open-failed");
    gateway.stop();
    successes(problem["stderr_tail"].as_str().expect("what it said")).join(" ")
}

/// What a process of the same user can do from beside it.
fn seen_from_beside(host: &Host, pid: u32, secret: &str) -> String {
    let become_user = "exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh \"$@\"";
    let script = if host.becomes_nobody() { become_user } else { "exec sh \"$@\"" };
    let (spy, pid) = (host.program("spy.sh"), pid.to_string());
    let said = script_says(script, host.dir.path(), &[], &[shown(&spy), "outside", secret, &pid]);
    successes(&said).join(" ")
}

#[test]
fn a_tool_without_root_sees_nothing_of_its_gateway_from_a_namespace() {
    for containment in ["namespace", "strict"] {
        let Some(host) = Host::with(containment, User::Plain) else { continue };
        assert_eq!(seen_from_inside(&host, "inside"), "", "{containment}");
    }
}

/// Its own init is the one that it can trace at first.
#[test]
fn a_tool_of_root_uncovers_everything_even_in_a_namespace() {
    for containment in ["namespace", "strict"] {
        let Some(host) = Host::with(containment, User::Root) else { continue };
        let seen = seen_from_inside(&host, "inside");
        assert_eq!(seen, "traces lists uncovers reads-then", "{containment}");
    }
}

#[test]
fn a_tool_without_a_namespace_reads_its_gateways_secrets() {
    for user in [User::Root, User::Plain] {
        let Some(host) = Host::with("subreaper", user) else { continue };
        let seen = seen_from_inside(&host, "outside");
        // Whether it may trace as well is a setting of the host (Yama).
        assert!(seen == "reads traces lists" || seen == "reads lists", "{user:?}: {seen}");
    }
}

#[test]
fn a_strict_gateway_cannot_be_looked_into_by_its_users_other_processes_and_another_can() {
    for (containment, expected) in [("strict", ""), ("subreaper", "reads lists")] {
        let Some(host) = Host::with(containment, User::Plain) else { continue };
        let secret = secret();
        let config = host.scripted("spy", "spy.sh", &["inside", &secret]);
        let gateway = host.gateway(&config, &[(&secret, "a secret")]);
        let seen = seen_from_beside(&host, gateway.pid(), &secret).replace("traces ", "");
        gateway.stop();
        assert_eq!(seen, expected, "{containment}");
    }
}

#[test]
fn no_helper_of_a_strict_gateway_can_be_looked_into_by_its_users_other_processes() {
    let Some(host) = Host::with("strict", User::Plain) else { return };
    let secret = secret();
    let config = host.scripted("spy", "spy.sh", &["inside", &secret]);
    let gateway = host.gateway(&config, &[(&secret, "a secret")]);
    // Now there is a keeper that has made a namespace, and waits for the next.
    worst(&gateway, "spy");
    let guards = processes::keepers_of(gateway.pid());
    let keepers: Vec<_> = guards.iter().flat_map(|guard| processes::keepers_of(*guard)).collect();
    let wardens = processes::mentioning("spawnling warden ").into_iter();
    let wardens: Vec<_> = wardens.filter(|pid| processes::parent_of(*pid) == Some(gateway.pid())).collect();
    assert!(wardens.len() == 2 && !keepers.is_empty(), "{wardens:?} {guards:?} {keepers:?}");
    for helper in [wardens, guards, keepers].concat() {
        let seen = seen_from_beside(&host, helper, &secret);
        assert_eq!(seen, "", "{}", processes::command_line(helper));
    }
    gateway.stop();
}
