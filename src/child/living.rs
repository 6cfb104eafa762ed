//! The life of a tree in the hands of its owner, and its end: the ladder, the kill, the proof, the receipt.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::Living;
use super::ladder::{self, Ladder};
use super::limits::{self, Cage};
use super::spec::Teardown;
use crate::exchange::{Cause, Exit, Measured, Receipt, Rung, Seat};

impl Living {
    pub(super) async fn attend(&mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.tree.leader_exits() => return,
                chunk = self.rest.next() => match chunk {
                    Some(chunk) => self.stderr.push(&chunk),
                    None => return self.tree.leader_exits().await,
                },
            }
        }
    }

    /// The limit that the tree met, whose leader ended so.
    pub(super) fn cause(&self, exit: Option<Exit>) -> Option<Cause> {
        let time = limits::Time { limited: self.timed, met: self.tree.is_out_of_time(exit) };
        limits::cause(exit, time, self.cage.as_ref())
    }

    /// Walks the ladder until the leader has left, and says which rung it took. Returns with the leader a zombie, or
    /// about to be one.
    pub(super) async fn climb(&mut self, ladder: &Ladder, goodbye: impl Future<Output = ()>) -> Rung {
        if self.tree.leader_exit().is_some() {
            return Rung::Already;
        }
        if !self.cage.as_ref().is_some_and(Cage::tells_peak_memory) {
            self.peak_memory = self.tree.peak_memory();
        }
        let first = ladder.first();
        let mut goodbye = std::pin::pin!(ladder::goodbye_then_silence(goodbye));
        if first != Rung::Eof {
            // What there is to say still fits into the pipe, most probably: it goes before any signal.
            let _ = goodbye.as_mut().now_or_never();
        }
        if let Teardown::Ladder { eof, term } = ladder.teardown() {
            if first == Rung::Eof && self.leaves_within(eof, goodbye.as_mut()).await {
                return Rung::Eof;
            }
            if first != Rung::Kill {
                self.tree.terminate();
                if self.leaves_within(term, goodbye.as_mut()).await {
                    return Rung::Term;
                }
            }
        }
        self.tree.kill();
        Rung::Kill
    }

    async fn leaves_within(&mut self, grace: Duration, goodbye: impl Future<Output = ()>) -> bool {
        // Neither of the two may come first always: each could use up what one turn may do (tokio's cooperative
        // budget), and the other would never get on. `timeout` looks at its clock all the same.
        let leaves = async {
            tokio::select! {
                () = self.attend() => {}
                () = goodbye => {}
            }
        };
        tokio::time::timeout(grace, leaves).await.is_ok()
    }

    /// Kills what is left, reaps, waits for the proof, sweeps. The receipt's rung and duration are not known
    /// here.
    pub(super) async fn finish(mut self: Box<Self>) -> (Receipt, Seat) {
        if !self.tree.is_known_to_be_gone() {
            self.tree.kill();
        }
        self.tree.leader_dies().await;
        let (pid, exit, cpu) = (self.tree.pid(), self.tree.leader_exit(), self.tree.cpu_time());
        let cause = self.cause(exit);
        self.rest.reap().await;
        let Self { tree, cage, peak_memory, scratch, seat, counted, .. } = *self;
        let of_cage = cage.as_ref().and_then(Cage::peak_memory);
        let containment = tree.containment().name();
        let (gone, toll) = tree.gone().await;
        scratch.sweep(&gone).await;
        if let Some(cage) = cage {
            cage.remove().await;
        }
        drop(counted);
        let receipt = Receipt {
            pid,
            exit,
            cause,
            rung: Rung::Kill,
            killed: toll.killed,
            cpu: toll.cpu.or(cpu.map(|value| Measured { value, source: "proc_pid_stat" })),
            peak_memory: of_cage.or(toll.peak_memory).or(peak_memory),
            containment,
            end: Duration::ZERO,
        };
        (receipt, seat)
    }
}
