//! A child as the room above sees it: where it is born, what can be asked of it, and the two pipes to it.
//!
//! The room above joins a process to a conversation, and needs no more than this of the process. Here a child is a
//! [`Child`], born in a [`Nursery`].

use std::fmt::Debug;
use std::io;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::spec::Spec;
use super::{Born, Child, Containment, Ladder, Lesson, Nursery, Program, Remains, SpawnError, Stdin, Tail};
use crate::exchange::{Cause, Exit, Seat};

/// Where children are born.
pub(crate) trait Birthplace: Debug + Send + Sync {
    /// Starts a process: [`Child::spawn`], with its promises.
    fn bear<'a>(&'a self, spec: &'a Spec, seat: Seat) -> BoxFuture<'a, Result<Newborn, SpawnError>>;

    /// What makes their trees killable as a whole.
    fn containment(&self) -> Containment;
}

/// A child that was just born.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) child: Box<dyn Offspring>,
    /// The file that it was started from.
    pub(crate) program: Program,
    pub(crate) stdin: Box<dyn Intake>,
    pub(crate) stdout: Box<dyn Output>,
}

/// A process tree that we own, with the promises of [`Child`].
pub(crate) trait Offspring: Debug + Send + Sync {
    /// [`Child::started`]
    fn started(&mut self) -> BoxFuture<'_, Result<Instant, SpawnError>>;
    /// [`Child::attend`]
    fn attend(&mut self) -> BoxFuture<'_, ()>;
    /// [`Child::drain_stderr`]
    fn drain_stderr(&mut self) -> BoxFuture<'_, ()>;
    /// [`Child::pid`]
    fn pid(&self) -> u32;
    /// [`Child::has_exited`]
    fn has_exited(&mut self) -> bool;
    /// [`Child::last_words`]
    fn last_words(&mut self) -> (Option<Exit>, Option<Cause>, String);
    /// [`Child::stderr`]
    fn stderr(&self) -> Tail;
    /// [`Child::stop`]
    fn stop<'a>(
        self: Box<Self>,
        ladder: &'a Ladder,
        lesson: Lesson,
        goodbye: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Remains>;
}

/// The way to its stdin, with the promises of [`Stdin`].
pub(crate) trait Intake: AsyncWrite + Debug + Send + Sync + Unpin {
    /// [`Stdin::unread`]
    fn unread(&self) -> Option<u64>;
    /// [`Stdin::no_reader`]
    fn no_reader(&self) -> io::Result<BoxFuture<'static, ()>>;
    /// [`Stdin::has_no_reader`]
    fn has_no_reader(&self) -> bool;
}

/// The way from its stdout.
pub(crate) trait Output: AsyncRead + Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + Debug + Send + Sync + Unpin> Output for T {}

impl Birthplace for Nursery {
    fn bear<'a>(&'a self, spec: &'a Spec, seat: Seat) -> BoxFuture<'a, Result<Newborn, SpawnError>> {
        async move {
            let Born { child, program, stdin, stdout } = Child::spawn(spec, self, seat).await?;
            Ok(Newborn { child: Box::new(child), program, stdin: Box::new(stdin), stdout: Box::new(stdout) })
        }
        .boxed()
    }

    fn containment(&self) -> Containment {
        self.containment()
    }
}

impl Offspring for Child {
    fn started(&mut self) -> BoxFuture<'_, Result<Instant, SpawnError>> {
        self.started().boxed()
    }

    fn attend(&mut self) -> BoxFuture<'_, ()> {
        self.attend().boxed()
    }

    fn drain_stderr(&mut self) -> BoxFuture<'_, ()> {
        self.drain_stderr().boxed()
    }

    fn pid(&self) -> u32 {
        self.pid()
    }

    fn has_exited(&mut self) -> bool {
        self.has_exited()
    }

    fn last_words(&mut self) -> (Option<Exit>, Option<Cause>, String) {
        self.last_words()
    }

    fn stderr(&self) -> Tail {
        self.stderr()
    }

    fn stop<'a>(
        self: Box<Self>,
        ladder: &'a Ladder,
        lesson: Lesson,
        goodbye: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Remains> {
        (*self).stop(ladder, lesson, goodbye).boxed()
    }
}

impl Intake for Stdin {
    fn unread(&self) -> Option<u64> {
        self.unread()
    }

    fn no_reader(&self) -> io::Result<BoxFuture<'static, ()>> {
        Ok(self.no_reader()?.boxed())
    }

    fn has_no_reader(&self) -> bool {
        self.has_no_reader()
    }
}
