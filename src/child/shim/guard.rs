//! The process above a keeper: when that is killed it adopts what was kept, ends it, and says when nothing of it is left.
//!
//! ```text
//!   gateway ==control== guard ---> keeper ---> tree
//!                       guard ---> tree               the keeper was killed: its children are the guard's now
//! ```
//!
//! It was made before its keeper kept anything, so whatever that starts is below it from the first moment, said or not
//! said (`PR_SET_CHILD_SUBREAPER(2const)`). It holds the control channel too, so that the gateway hears no end of it
//! before there is proof. While the keeper lives it does no more than to wake it, should it be stopped, and to tell it of the
//! gateway's death, should it not hear of that by itself; when it has left in order, nothing.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getppid, kill_process, pidfd_open,
    set_dumpable_behavior, waitid,
};

use super::control::Control;
use super::keep;
use super::words::Report;

/// Returns when the keeper, a child of ours, is gone, and all that it kept. One that somebody has stopped goes on at once.
pub(super) fn guard(control: &Control, keeper: Pid) {
    // Nobody of the same user may use us as a debugger would. Without that we guard all the same.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    outlast(control, keeper);
    // Nobody reads orders any more. An init that has lost its keeper before it could ask to be told hears it by this.
    control.close_ear();
    // As a rule the gateway has gone, or has let the keeper go; then nobody hears this, and nobody is left.
    let _ = control.tell(&Report::Forsaken);
    if keep::end_orphans_of(keeper).is_ok() {
        let _ = control.tell(&Report::Gone);
    }
}

/// Returns when the keeper is dead. Wakes it when it was stopped, and tells it when the gateway is dead: as a rule it has heard
/// that, but a child of the gateway that was stopped before its exec holds the other end of the control channel, too.
fn outlast(control: &Control, keeper: Pid) {
    let changed = WaitIdOptions::EXITED | WaitIdOptions::STOPPED;
    let children = keep::Children::watch().ok();
    let mut gateway = getppid().and_then(|gateway| pidfd_open(gateway, PidfdFlags::empty()).ok());
    loop {
        // A bell that rings from here on is heard below.
        let bell = children.as_ref().zip(gateway.as_ref());
        let options = bell.map_or(changed, |_| changed | WaitIdOptions::NOHANG);
        match waitid(WaitId::Pid(keeper), options) {
            Ok(Some(status)) if status.stopped() => drop(kill_process(keeper, Signal::CONT)),
            Err(Errno::INTR) => {}
            Ok(Some(_)) | Err(_) => return,
            Ok(None) => {
                if bell.is_some_and(|(children, gateway)| is_over(gateway, children)) {
                    control.hang_up();
                    gateway = None;
                }
            }
        }
    }
}

/// Waits until the gateway is dead, or something is known of a child; whether the former.
fn is_over(gateway: &OwnedFd, children: &keep::Children) -> bool {
    let mut watched =
        [gateway.as_fd(), children.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    // A signal interrupts it, and is as good as the bell.
    let _ = poll(&mut watched, None);
    children.silence();
    !watched[0].revents().is_empty()
}
