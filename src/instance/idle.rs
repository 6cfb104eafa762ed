//! A server that waits for its next question: attended to, and fit to be asked or not.

use super::{Body, Closed, Instance};
use crate::child::Lesson;

const ENDED: &str = "it ended";

impl Instance {
    /// Attends to a server that nobody asks anything: reads what it says, drains its stderr. Returns when it is no
    /// longer fit to be asked, with the reason in a few words.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped; [`Self::unfit`] then says whether it may be asked.
    pub(crate) async fn wait_unasked(&mut self) -> &'static str {
        self.body.ears.between_calls = self.body.ears.line > 0; // one for each call so far
        let Body { child, wire, ears, .. } = &mut self.body;
        let why = tokio::select! {
            closed = wire.run(ears) => match closed {
                Closed::Eof => "it closed its stdout",
                Closed::Broken(_) => "it wrote what cannot be read",
                Closed::Deaf => "it closed its stdin",
            },
            () = child.attend() => ENDED,
        };
        self.body.lesson = Lesson::Ignore;
        why
    }

    /// Why a server that has waited may not be asked, if so. It waits no more from here on.
    pub(crate) fn unfit(&mut self) -> Option<&'static str> {
        self.body.ears.between_calls = false;
        let deaf = self.body.wire.writer().is_none_or(|stdin| stdin.has_no_reader());
        if deaf || self.body.child.has_exited() {
            self.body.lesson = Lesson::Ignore;
            return Some(ENDED);
        }
        if self.body.ears.babbled {
            return Some("it wrote what is no message");
        }
        (self.body.wire.strays() > 0).then_some("it answered what nobody had asked")
    }

    /// Why a server that has served a call may not be asked by another, if so. What it wrote beside its answers is
    /// forgotten, and what it still tells of them will not be heard: it is no other caller's business.
    pub(crate) fn unfit_for_others(&mut self) -> Option<&'static str> {
        self.body.ears.noise.clear();
        self.body.ears.line += 1;
        self.session = self.session.line(self.body.ears.line);
        if self.session.questioned() || self.session.contradicted() {
            return Some("its era is in doubt");
        }
        self.unfit()
    }

    /// Its leader's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.body.child.pid()
    }
}
