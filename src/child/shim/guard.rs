//! The process above a keeper: when that is killed it adopts what was kept, ends it, and says when nothing of it is left.
//!
//! ```text
//!   gateway ==control== guard ---> keeper ---> tree
//!                       guard ---> tree               the keeper was killed: its children are the guard's now
//! ```
//!
//! It was made before its keeper kept anything, so whatever that starts is below it from the first moment, said or not
//! said (`PR_SET_CHILD_SUBREAPER(2const)`). It holds the control channel too, so that the gateway hears no end of it
//! before there is proof; and it does nothing else, neither while the keeper lives nor when that has left in order.

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, kill_process, set_dumpable_behavior, waitid,
};

use super::control::Control;
use super::keep;
use super::words::Report;

/// Returns when the keeper, a child of ours, is gone, and all that it kept. One that somebody has stopped goes on at once.
pub(super) fn guard(control: &Control, keeper: Pid) {
    // Nobody of the same user may use us as a debugger would. Without that we guard all the same.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    loop {
        match waitid(WaitId::Pid(keeper), WaitIdOptions::EXITED | WaitIdOptions::STOPPED) {
            Ok(Some(status)) if status.stopped() => drop(kill_process(keeper, Signal::CONT)),
            Err(Errno::INTR) | Ok(None) => {}
            Ok(Some(_)) | Err(_) => break,
        }
    }
    // Nobody reads orders any more. An init that has lost its keeper before it could ask to be told hears it by this.
    control.close_ear();
    // As a rule the gateway has gone, or has let the keeper go; then nobody hears this, and nobody is left.
    let _ = control.tell(&Report::Forsaken);
    if keep::end_orphans_of(keeper).is_ok() {
        let _ = control.tell(&Report::Gone);
    }
}
