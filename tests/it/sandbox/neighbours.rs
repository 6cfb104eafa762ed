//! A gateway in surroundings that it did not choose: other gateways in its cgroup, and views of both that differ.

use rustix::process::Signal;

use super::controllers::{Pen, begin_wait, waits};
use crate::support::peers::say_skipped;
use crate::support::{PROGRAM, alive, kill, processes, script_output, script_works, shown, until};

/// Before a gateway that sees its own cgroup as the top of the hierarchy, and in another place.
const ELSEWHERE: &str = "exec unshare --mount --cgroup sh -c \
    'mkdir elsewhere && mount -t cgroup2 none elsewhere && exec \"$0\" \"$@\"' \"$0\" \"$@\";";

fn may_unshare() -> bool {
    let may = script_works("unshare --mount --cgroup --pid --fork mount -t proc proc /proc 2>/dev/null");
    if !may {
        say_skipped("namespaces of one's own", "unshare(1) is not allowed to make them");
    }
    may
}

#[test]
fn gateways_in_one_cgroup_leave_each_other_alone_however_they_see_it() {
    let Some(pen) = Pen::bare().filter(|_| may_unshare()) else { return };
    let args = ["--containment", "cgroup"];
    let living = pen.gateway("", &waits(""), &args);
    let (call, server) = begin_wait(&living);
    // Each has a TMPDIR of its own, too.
    for view in ["", ELSEWHERE] {
        let other = pen.gateway(view, &waits(""), &args);
        let (early, another) = begin_wait(&other);
        assert_eq!((alive(server), alive(another), pen.roots().len()), (true, true, 2), "{view}");
        early.hang_up();
        other.stop();
        assert!(alive(server) && pen.roots().len() == 1, "{view}");
    }
    call.hang_up();
    living.stop();
    assert!(pen.is_as_before());
}

#[test]
fn what_a_dead_gateway_left_is_ended_by_one_that_sees_it_in_another_place() {
    let Some(pen) = Pen::bare().filter(|_| may_unshare()) else { return };
    let args = ["--containment", "cgroup"];
    let dead = pen.gateway("", &waits(""), &args);
    let (early, lost) = begin_wait(&dead);
    let [root] = &pen.roots()[..] else { panic!("{:?}", pen.roots()) };
    let wardens = processes::mentioning(&format!("warden {}", shown(root)));
    assert_eq!(wardens.len(), 2);
    // Nobody may get to work who could end its tree: neither when it dies, nor, by its orders, when they die before it.
    let pid = dead.pid();
    let guards = processes::keepers_of(pid);
    let keepers: Vec<u32> = guards.iter().flat_map(|guard| processes::keepers_of(*guard)).collect();
    dead.signal(Signal::STOP);
    let helpers = [wardens, guards, keepers].concat();
    helpers.iter().copied().for_each(kill);
    until("its helpers are dead", || !helpers.iter().any(|pid| alive(*pid)));
    dead.signal(Signal::KILL);
    until("it is dead", || !alive(pid));
    assert!(alive(lost) && root.exists());

    let next = pen.gateway(ELSEWHERE, &waits(""), &args);
    assert!(!alive(lost) && !root.exists());
    dead.was_killed();
    drop(early);
    next.stop();
    assert!(pen.is_as_before());
}

/// What `spawnling check` says where `/proc` was mounted by `mount`, in a PID namespace of its own, and how it ended.
fn checked(containment: &str, mount: &str, without: &str) -> String {
    let check = format!("{without} \"$0\" check --containment {containment} -- \"$0\" demo");
    let inside = format!("{mount} {check}; echo status $?");
    script_output(&format!("unshare --mount --pid --fork sh -c '{inside}' \"$0\" 2>&1"))
}

#[test]
fn a_parent_that_could_not_find_all_its_descendants_is_no_containment() {
    if !may_unshare() {
        return;
    }
    // Without this capability, and outside of that group, not even root sees everybody.
    let hides = "mount -t proc -o hidepid=2,gid=65534 proc /proc;";
    let without = "setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace";
    let cases = [
        (hides, without, "/proc does not show it", "status 1"),
        ("", "", "/proc is that of another PID namespace", "status 1"),
        ("mount -t proc proc /proc;", without, "containment subreaper", "status 0"),
        (hides, "", "containment subreaper", "status 0"),
    ];
    for (mount, without, expected, status) in cases {
        let said = checked("subreaper", mount, without);
        assert!(said.contains(expected) && said.contains(status), "{mount} {without}: {said}");
    }
    assert!(processes::mentioning(PROGRAM).iter().all(|pid| processes::parent_of(*pid) != Some(1)));
}
