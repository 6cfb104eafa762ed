//! What does not answer as it should: deaths that cannot be watched, keepers that do not listen, wardens that do
//! not stay.

use std::os::fd::AsFd as _;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cradle::{self, Cradle, Outcome};
use super::*;
use crate::child::cgroup::Root;
use crate::child::keeper::Keepers;
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
