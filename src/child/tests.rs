//! Real processes: how they are born, how they end, and that nothing is left of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::containment::Means;
use super::spec::Teardown;
use super::*;
use crate::telemetry::metrics::Count;

pub(crate) mod cradle;
pub(crate) mod doll;
mod dropped;
mod odd;

/// Says when it is dropped.
struct Bell(Arc<AtomicBool>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A place for children of its own, and the other side of its reaper.
struct Home {
    nursery: Nursery,
    rescue: reaper::Rescue,
    base: tempfile::TempDir,
    free: Arc<AtomicBool>,
}

impl Home {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let (reaper, rescue) = reaper(Count::default());
        spawn::keep_what_we_inherited();
        let nursery =
            Nursery::of(ScratchRoot::create(base.path()).unwrap(), reaper, Means::of(Containment::Group));
        Self { nursery, rescue, base, free: Arc::default() }
    }

    async fn spawn(&self, script: &str) -> Result<Born, SpawnError> {
        self.spawn_spec(&spec(script)).await
    }

    async fn spawn_spec(&self, spec: &Spec) -> Result<Born, SpawnError> {
        Child::spawn(spec, &self.nursery, Seat::new(Bell(Arc::clone(&self.free)), Vec::new())).await
    }

    fn seat_is_free(&self) -> bool {
        self.free.load(Ordering::SeqCst)
    }

    /// Gives everything up, and checks that no file is left.
    fn leave(self) {
        drop(self.nursery);
        drop(self.rescue);
        assert_eq!(std::fs::read_dir(self.base.path()).unwrap().count(), 0);
    }
}

fn spec(script: &str) -> Spec {
    Spec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        home: spec::Home::Real,
        cwd: None,
        stderr_limit: 1024,
        limits: spec::limits::Limits::default(),
        wish: None,
        sandbox: spec::sandbox::Sandbox::default(),
        teardown: patient(),
    }
}

/// Longer than any test may take, so that only what a test is about ends a process.
fn patient() -> Teardown {
    let grace = Duration::from_mins(5);
    Teardown::Ladder { eof: grace, term: grace }
}

fn hasty() -> Teardown {
    Teardown::Ladder { eof: Duration::from_millis(20), term: Duration::from_millis(20) }
}

/// Ends a child as an instance would: stdin closed, stdout read to its end.
async fn stop(born: Born, ladder: &Ladder) -> Remains {
    let Born { child, stdin, mut stdout, .. } = born;
    let goodbye = async move {
        drop(stdin);
        let _ = stdout.read_to_end(&mut Vec::new()).await;
    };
    child.stop(ladder, Lesson::Learn, goodbye).await
}

/// Waits until it has said that it is ready: from then on its traps stand.
async fn until_ready(born: &mut Born) {
    let mut line = [0; 6];
    born.stdout.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"ready\n");
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_child_that_heeds_the_end_of_its_stdin_leaves_on_the_first_rung() {
    let home = Home::new();
    let born = home.spawn("cat; exit 7").await.unwrap();
    let remains = stop(born, &Ladder::new(patient())).await;
    assert_eq!((remains.receipt.exit, remains.receipt.rung), (Some(Exit::Code(7)), Rung::Eof));
    assert!(!home.seat_is_free() && !exists(remains.receipt.pid));
    drop(remains);
    assert!(home.seat_is_free());
    home.leave();
}

#[tokio::test]
async fn a_child_that_ignores_its_stdin_is_asked_and_next_time_at_once() {
    let home = Home::new();
    let ladder =
        Ladder::new(Teardown::Ladder { eof: Duration::from_millis(20), term: Duration::from_mins(5) });
    for _ in 0..2 {
        let mut born = home.spawn("echo ready; exec sleep 100").await.unwrap();
        until_ready(&mut born).await;
        let remains = stop(born, &ladder).await;
        assert_eq!((remains.receipt.exit, remains.receipt.rung), (Some(Exit::Signal(15)), Rung::Term));
    }
    assert_eq!(ladder.first(), Rung::Term);
    home.leave();
}

#[tokio::test]
async fn a_child_that_ignores_everything_is_killed_with_its_children() {
    let home = Home::new();
    let script = "trap '' TERM; sleep 100 & echo $! >pid; echo ready; while :; do sleep 1; done";
    let mut born = home.spawn(script).await.unwrap();
    until_ready(&mut born).await;
    let file = born.child.living().scratch.path().join("pid");
    let grandchild: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let remains = stop(born, &Ladder::new(hasty())).await;
    assert_eq!((remains.receipt.exit, remains.receipt.rung), (Some(Exit::Signal(9)), Rung::Kill));
    // Adopted by another, it may still wait to be reaped; it lives no more.
    let stat = |pid: u32| proc::stat(rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap());
    assert!(stat(grandchild).is_none_or(|stat| !stat.alive));
    home.leave();
}

#[tokio::test]
async fn a_child_that_has_left_by_itself_leaves_its_children_behind_and_they_are_killed() {
    let home = Home::new();
    let mut born = home.spawn("sleep 100 & echo ready; exit 3").await.unwrap();
    until_ready(&mut born).await;
    born.child.attend().await;
    assert_eq!(born.child.last_words().0, Some(Exit::Code(3)));
    let remains = stop(born, &Ladder::new(patient())).await;
    assert_eq!((remains.receipt.exit, remains.receipt.rung), (Some(Exit::Code(3)), Rung::Already));
    home.leave();
}

#[tokio::test]
async fn a_child_without_an_owner_is_killed_reaped_swept_and_counted() {
    let home = Home::new();
    let mut born = home.spawn("echo ready; touch file; exec sleep 100").await.unwrap();
    until_ready(&mut born).await;
    let pid = born.child.living().tree.pid();
    drop(born);
    assert_eq!(home.nursery.rescued(), 1);
    assert!(!home.seat_is_free());
    let Home { nursery, rescue, base, free } = home;
    drop(nursery);
    rescue.run().await;
    assert!(free.load(Ordering::SeqCst) && !exists(pid));
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_it_wrote_to_stderr_last_is_kept() {
    let home = Home::new();
    let mut born =
        home.spawn("i=0; while [ $i -lt 999 ]; do echo line $i >&2; i=$((i+1)); done").await.unwrap();
    born.child.attend().await;
    born.child.drain_stderr().await;
    let (_, _, stderr) = born.child.last_words();
    assert!(
        stderr.len() <= 1024 && stderr.starts_with("line ") && stderr.ends_with("line 998\n"),
        "{stderr}"
    );
    stop(born, &Ladder::new(patient())).await;
    home.leave();
}

#[tokio::test]
async fn its_environment_is_what_was_given_and_its_directory_its_own() {
    let home = Home::new();
    let mut born = home
        .spawn("pwd; echo $TMPDIR; env | cut -d= -f1 | sort | tr '\\n' ' '; ls /proc/self/fd | wc -l")
        .await
        .unwrap();
    let mut text = String::new();
    born.stdout.read_to_string(&mut text).await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let scratch = born.child.living().scratch.path().to_str().unwrap();
    // `ls` has one more open than it was given: the directory that it lists.
    assert_eq!(lines, [scratch, scratch, "PATH PWD TMPDIR 4"]);
    stop(born, &Ladder::new(patient())).await;
    home.leave();
}

#[tokio::test]
async fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let home = Home::new();
    let broken = home.base.path().join("broken");
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cases = [
        (Spec { program: "absent".into(), ..spec("") }, "no program \"absent\" in /usr/bin:/bin"),
        (Spec { program: "/absent".into(), ..spec("") }, "/absent does not exist"),
        (Spec { cwd: Some("/absent".into()), ..spec("") }, "the working directory /absent does not exist"),
        (Spec { program: broken.clone(), ..spec("") }, "the interpreter that"),
    ];
    for (spec, expected) in cases {
        let error = home.spawn_spec(&spec).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(home.seat_is_free());
    }
    std::fs::remove_file(broken).unwrap();
    home.leave();
}

#[tokio::test]
async fn more_than_a_pipe_holds_is_written_while_the_child_reads() {
    let home = Home::new();
    let mut born = home.spawn("wc -c").await.unwrap();
    born.stdin.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
    let Born { child, stdin, mut stdout, .. } = born;
    drop(stdin);
    let mut counted = String::new();
    stdout.read_to_string(&mut counted).await.unwrap();
    assert_eq!(counted.trim(), "1048576");
    child.stop(&Ladder::new(patient()), Lesson::Learn, std::future::ready(())).await;
    home.leave();
}

#[tokio::test]
async fn whoever_outlives_its_leader_is_counted_once_in_every_containment() {
    // One that has left the group, one that has lost its parent as well; one that is dead already, and not by our doing.
    let script = "setsid sleep 600 & (setsid sleep 600 &); sh -c 'kill -9 $$' &
        dead() { read -r stat </proc/$!/stat && case $stat in *') Z '*) ;; *) false; esac; }
        while [ -e /proc/$! ] && ! dead; do :; done; echo ready; exec cat";
    for containment in cradle::EVERY.into_iter().filter(|kind| *kind != Containment::Group) {
        let Some(cradle) = cradle::Cradle::new(containment) else { continue };
        for teardown in [patient(), Teardown::Kill].repeat(10) {
            let spec = cradle.spec(Path::new("/bin/sh"), &["-c", script], teardown);
            let mut born = Child::spawn(&spec, &cradle.nursery, cradle.seat()).await.unwrap();
            until_ready(&mut born).await;
            let remains = stop(born, &Ladder::new(teardown)).await;
            let killed = remains.receipt.killed;
            // Where the leader is killed with the others, the third is not reaped before that.
            let third = u32::from(teardown == Teardown::Kill);
            assert!((2..=2 + third).contains(&killed), "{containment:?} {teardown:?}: {killed}");
        }
        cradle.leave().await;
    }
}

#[tokio::test]
async fn the_peak_of_a_small_tree_is_known_after_a_large_one() {
    for containment in cradle::EVERY {
        let Some(cradle) = cradle::Cradle::new(containment) else { continue };
        let mut peaks = Vec::new();
        for script in ["x=$(head -c 30000000 /dev/zero | tr '\\0' x)", ":", ":"] {
            let script = format!("{script}; echo ready; cat; exit 0");
            let spec = cradle.spec(Path::new("/bin/sh"), &["-c", &script], patient());
            let mut born = Child::spawn(&spec, &cradle.nursery, cradle.seat()).await.unwrap();
            until_ready(&mut born).await;
            // Who it is may be told after its first word.
            born.child.started().await.unwrap();
            let peak = stop(born, &Ladder::new(patient())).await.receipt.peak_memory;
            peaks.push(peak.unwrap_or_else(|| panic!("{containment:?}: {peaks:?}")).value);
        }
        let large =
            peaks[0] > 30_000_000 && peaks[1..].iter().all(|peak| (100_000..20_000_000).contains(peak));
        assert!(large, "{containment:?}: {peaks:?}");
        cradle.leave().await;
    }
}

#[tokio::test]
async fn nobody_is_looked_at_whose_cgroup_of_version_1_tells_the_peak_of_memory() {
    for (limit, source) in
        [(None, "VmHWM, largest process alive at its end"), (Some(1 << 30), "memory.max_usage_in_bytes")]
    {
        let cradle = cradle::Cradle::new(Containment::Group).expect("every host has it");
        let mut spec = cradle.spec(Path::new("/bin/cat"), &[], patient());
        spec.limits.memory = limit;
        let born = match Child::spawn(&spec, &cradle.nursery, cradle.seat()).await {
            Err(SpawnError::Limit { why, .. }) => {
                return cradle::skip("the memory controller of version 1", &why);
            }
            born => born.unwrap(),
        };
        let Born { mut child, stdin, .. } = born;
        child.living_mut().climb(&Ladder::new(patient()), async { drop(stdin) }).await;
        assert_eq!(child.living().peak_memory.is_some(), limit.is_none());
        let (receipt, seat) = child.finish().await;
        assert_eq!(receipt.peak_memory.map(|peak| peak.source), Some(source));
        drop(seat);
        cradle.leave().await;
    }
}
