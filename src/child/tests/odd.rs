//! What does not answer as it should: deaths that cannot be watched, keepers that do not listen or die at rest, wardens
//! that do not stay.

use std::os::fd::AsFd as _;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::cradle::{self, Cradle, Outcome};
use super::*;
use crate::child::cgroup::Root;
use crate::child::keeper::{KeeperError, Keepers, Kept};
use crate::child::raze::tests::nest;
use crate::child::shim::words::{Keeping, Orders};
use crate::child::warden::Wardens;

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a stranger to look at, which the test itself kills and reaps")]
async fn a_death_that_cannot_be_watched_is_waited_for_all_the_same() {
    let mut process = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&process), PidfdFlags::NONBLOCK).unwrap();
    // A descriptor can be watched once (`epoll_ctl(2)`, EEXIST).
    let _watch = tree::watched(pidfd.as_fd()).unwrap();
    assert!(tree::watched(pidfd.as_fd()).is_err());
    let mut death = Box::pin(tree::dead(&pidfd));
    assert_eq!(death.as_mut().now_or_never(), None);
    process.kill().unwrap();
    death.await;
    process.wait().unwrap();
}

#[tokio::test]
async fn orders_that_nobody_reads_hold_nobody_up() {
    let Some(mut cradle) = Cradle::new(Containment::Subreaper) else { return };
    let deaf = tempfile::tempdir().unwrap();
    let keeper = deaf.path().join("keeper");
    // It hears nothing, and does not leave when it should.
    std::fs::write(&keeper, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&keeper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Arc::get_mut(&mut cradle.nursery.means).unwrap().keepers = Arc::new(Keepers::of(keeper));
    let mut spec = cradle.spec(Path::new("/bin/sh"), &["-c", "exec sleep 600"], hasty());
    // More than a socket holds, in variables of which each is short enough (`execve(2)`).
    spec.env.extend((0..40).map(|at| (format!("LARGE{at}").into(), "x".repeat(100_000).into())));
    for ended in [true, false] {
        let born = Child::spawn(&spec, &cradle.nursery, cradle.seat()).await.unwrap();
        if ended {
            let remains = stop(born, &Ladder::new(hasty())).await;
            assert_eq!((remains.receipt.exit, remains.receipt.pid), (None, 0));
        }
    }
    assert_eq!(cradle.leave().await, Outcome { returned: 2, rescued: 1 });
}

/// The one child of a process.
async fn only_child(parent: u32) -> Pid {
    loop {
        let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        if let Some(child) = list.split_whitespace().next() {
            return Pid::from_raw(child.parse().unwrap()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_keeper_that_is_killed_before_it_could_say_whom_it_had_started_leaves_nobody() {
    let Some(program) = cradle::program() else { return };
    for silenced in ["sleep 600", "setsid sleep 600 & sleep 600", "exec env -i setsid sleep 600"] {
        let keepers = Arc::new(Keepers::of(program.clone()));
        let mut kept = Kept::new(&keepers, Containment::Subreaper).unwrap();
        // Behind the second door a keeper stands between the start of its leader and the report of it: this one is a pipe
        // that is full.
        let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let ((said, stdout), (_never, door)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        rustix::io::ioctl_fionbio(&door, true).unwrap();
        while rustix::io::write(&door, &[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&door, false).unwrap();
        let orders = Orders {
            keeping: Keeping::Subreaper,
            cgroups: 2,
            program: "/bin/sh".into(),
            args: vec!["-c".into(), format!("echo; {silenced}").into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: "/".into(),
        };
        let given = [nothing.as_fd(), stdout.as_fd(), nothing.as_fd(), nothing.as_fd(), door.as_fd()];
        kept.order(&orders, &given).await.unwrap();
        drop(stdout);
        let mut said = ChildStdout::from_std(OwnedFd::from(said).into()).unwrap();
        assert_eq!(said.read(&mut [0]).await.unwrap(), 1, "its leader runs");
        let keeper = only_child(kept.guard()).await;
        kill_process(keeper, Signal::KILL).unwrap();
        assert!(matches!(kept.started().await, Err(KeeperError::Lost(_))) && kept.pid() == 0);
        kept.kill();
        kept.gone().await.unwrap();
        // Whoever is left holds the other end.
        assert_eq!(said.read(&mut [0]).now_or_never().unwrap().unwrap(), 0, "{silenced}: somebody is left");
        keepers.dismiss().await;
    }
}

#[tokio::test]
async fn wardens_that_die_at_every_start_are_replaced_with_pauses() {
    let root = match Root::create(&[]) {
        Ok(root) => root,
        Err(error) => return cradle::skip("a cgroup", &error.to_string()),
    };
    let home = tempfile::tempdir().unwrap();
    let (program, starts) = (home.path().join("warden"), home.path().join("starts"));
    std::fs::write(&program, format!("#!/bin/sh\necho >>{}\n", starts.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let began = Instant::now();
    let wardens = Wardens::start(&program, &root).unwrap();
    let (stand_by, closed) = tokio::sync::mpsc::channel(1);
    let started = || std::fs::read_to_string(&starts).map_or(0, |text| text.lines().count());
    let watch = async {
        while started() < 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(stand_by);
    };
    let replaced = Count::default();
    tokio::join!(wardens.stand_by(closed, &replaced), watch);
    assert!(replaced.get() > 0);
    // One of the two was started four times: at first, at once, and after two pauses of which the second is twice as long.
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_keeper_that_dies_while_it_keeps_nothing_is_reaped_without_being_hired() {
    let Some(cradle) = Cradle::new(Containment::Subreaper) else { return };
    let spec = cradle.spec(Path::new("/bin/sh"), &["-c", "echo $PPID; exec sleep 600"], hasty());
    let mut born = Child::spawn(&spec, &cradle.nursery, cradle.seat()).await.unwrap();
    let mut said = [0; 16];
    let length = born.stdout.read(&mut said).await.unwrap();
    let keeper = String::from_utf8_lossy(&said[..length]).trim().parse().unwrap();
    let keeper = Pid::from_raw(keeper).unwrap();
    stop(born, &Ladder::new(hasty())).await;
    kill_process(keeper, Signal::KILL).unwrap();
    let reaped = async {
        while std::fs::exists(format!("/proc/{}", keeper.as_raw_nonzero())).unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let keepers = Arc::clone(&cradle.nursery.means.keepers);
    tokio::select! {
        () = keepers.bury_the_dead() => unreachable!("it comes to no end"),
        () = reaped => {}
    }
    assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 0 });
}

#[tokio::test]
async fn cgroups_that_a_tree_has_nested_deeper_than_a_path_is_long_go_with_it() {
    let Some(cradle) = Cradle::new(Containment::Cgroup) else { return };
    let spec = cradle.spec(Path::new("/bin/sh"), &["-c", "echo ready; exec sleep 600"], Teardown::Kill);
    let mut born = Child::spawn(&spec, &cradle.nursery, cradle.seat()).await.unwrap();
    until_ready(&mut born).await;
    born.child.started().await.unwrap();
    let root = cradle.nursery.means.cgroups.as_ref().unwrap().path().to_owned();
    let leaf = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).find(|path| {
        let members = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        members.lines().any(|member| member == born.child.pid().to_string())
    });
    nest(&leaf.expect("it is in one of them"), &"n".repeat(200), 30);
    let ladder = Ladder::new(Teardown::Kill);
    let stopped = tokio::time::timeout(Duration::from_secs(20), stop(born, &ladder)).await;
    drop(stopped.expect("its seat comes back"));
    assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 0 });
}

/// Has every thread for what may take time wait until the second of these is dropped.
async fn keep_all_threads_busy() -> (tokio::task::JoinSet<()>, std::sync::mpsc::Sender<()>) {
    let (release, held) = std::sync::mpsc::channel();
    let (held, mut busy) = (Arc::new(std::sync::Mutex::new(held)), tokio::task::JoinSet::new());
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..crate::aside::MOST {
        let (held, begun) = (Arc::clone(&held), begun.clone());
        let wait = move || {
            begun.send(()).expect("somebody waits for it");
            // Until nobody could release it any more.
            let _ = held.lock().map(|held| held.recv());
        };
        busy.spawn(crate::aside::aside(wait));
    }
    for _ in 0..crate::aside::MOST {
        begins.recv().await;
    }
    (busy, release)
}

#[tokio::test]
async fn cgroups_that_a_tree_has_made_for_itself_are_removed_by_a_thread_that_nobody_else_needs() {
    let Some(cradle) = Cradle::new(Containment::Cgroup) else { return };
    let leaf = cradle.nursery.means.cgroups.as_ref().unwrap().leaf().unwrap();
    assert_eq!(leaf.clear().now_or_never(), Some(Vec::new()), "there is nothing to do");
    for number in 0..100 {
        std::fs::create_dir(leaf.path().join(number.to_string())).unwrap();
    }
    let leaf = leaf.remove(crate::child::Gone::never_born).unwrap_err();
    {
        let (_busy, release) = keep_all_threads_busy().await;
        let mut clearing = std::pin::pin!(leaf.clear());
        assert_eq!(clearing.as_mut().now_or_never(), None, "it was done by the runtime's own");
        drop(release);
        assert_eq!(clearing.await, Vec::<i32>::new());
    }
    leaf.remove(crate::child::Gone::never_born).unwrap();
    assert_eq!(cradle.leave().await, Outcome { returned: 0, rescued: 0 });
}

#[test]
fn gateways_that_start_at_the_same_moment_in_one_cgroup_take_nothing_from_each_other() {
    if let Err(error) = Root::create(&[]) {
        return cradle::skip("a cgroup", &error.to_string());
    }
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..30 {
                    // One that is made, and not locked yet, looks like that of a dead one.
                    cgroup::sweep();
                    let root = Arc::new(Root::create(&[]).unwrap());
                    let leaf = root.leaf().unwrap();
                    assert!(leaf.path().exists() && root.path().join("keepers").exists());
                    leaf.remove(crate::child::Gone::never_born).unwrap();
                    assert!(root.path().exists());
                }
            });
        }
    });
}
