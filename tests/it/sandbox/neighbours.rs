//! A gateway in surroundings that it did not choose: other gateways in its cgroup, and views of both that differ.

use rustix::process::Signal;

use super::controllers::{Pen, begin_wait, waits};
use crate::support::peers::say_skipped;
use crate::support::{PROGRAM, alive, kill, processes, script_output, script_works, shown, until};

/// Before a gateway that sees its own cgroup as the top of the hierarchy, and in another place.
const ELSEWHERE: &str = "exec unshare --mount --cgroup sh -c \
    'mkdir elsewhere && mount -t cgroup2 none elsewhere && exec \"$0\" \"$@\"' \"$0\" \"$@\";";

/// Before a gateway for which there is no `clone3(2)`, as in a container whose filter of system calls does not know it: 435
/// by its number, everywhere, and answered by ENOSYS (`seccomp(2)`).
const WITHOUT_CLONE3: &str = r#"exec python3 -c '
import ctypes, os, struct, sys
load, equal, result = 0x20, 0x15, 0x06
lines = [(load, 0, 0, 0), (equal, 0, 1, 435), (result, 0, 0, 0x50000 | 38), (result, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
kernel = ctypes.CDLL(None, use_errno=True)
for step in [(38, 1, 0, 0, 0), (22, 2, program, 0, 0)]:
    if kernel.prctl(*step):
        sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
' "$0" "$@";"#;

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
fn where_nobody_can_be_born_in_a_cgroup_a_tree_joins_its_own_before_it_runs() {
    let Some(pen) = Pen::bare() else { return };
    for containment in ["cgroup", "strict"] {
        let gateway = pen.gateway(WITHOUT_CLONE3, &waits(""), &["--containment", containment]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
        let (call, server) = begin_wait(&gateway);
        let [root] = &pen.roots()[..] else { panic!("{:?}", pen.roots()) };
        let root = root.file_name().unwrap().to_str().unwrap().to_owned();
        let place = std::fs::read_to_string(format!("/proc/{server}/cgroup")).unwrap();
        let leaf = place.lines().find_map(|line| line.strip_prefix("0::")?.split_once(&root)).unwrap().1;
        assert!(leaf.trim_start_matches('/').parse::<u64>().is_ok(), "{place}");
        call.hang_up();
        gateway.stop();
        assert!(!alive(server));
    }
    assert!(pen.is_as_before());
}

#[test]
fn where_nobody_can_be_born_in_a_cgroup_a_tree_may_still_be_one_process() {
    let Some(pen) = Pen::new() else { return };
    let waits = waits("limits = { processes = 1 }");
    let gateway = pen.gateway(WITHOUT_CLONE3, &waits, &["--containment", "cgroup"]);
    let (call, server) = begin_wait(&gateway);
    call.hang_up();
    gateway.stop();
    assert!(!alive(server) && pen.is_as_before());
}

#[test]
fn what_a_dead_gateway_left_is_ended_by_one_that_sees_it_in_another_place() {
    let Some(pen) = Pen::bare().filter(|_| may_unshare()) else { return };
    is_ended_by_the_next(&pen, ELSEWHERE, "cgroup");
}

#[test]
fn what_a_dead_gateway_left_in_a_cgroup_is_ended_by_one_that_makes_none() {
    let Some(pen) = Pen::bare() else { return };
    is_ended_by_the_next(&pen, "", "subreaper");
}

/// Kills a gateway so that nobody ends its tree, and starts another after `view`.
fn is_ended_by_the_next(pen: &Pen, view: &str, containment: &str) {
    let dead = pen.gateway("", &waits(""), &["--containment", "cgroup"]);
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

    let next = pen.gateway(view, &waits(""), &["--containment", containment]);
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
