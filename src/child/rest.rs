//! The rest of a child beside its stdin and stdout: its stderr and, where it is a child of ours, its exit.
//!
//! Both of a child of ours are driven by `tokio-process-stream`. It comes to its last item, for which it reaps the process,
//! only when stderr has ended; so we hold a write end of that ourselves until what is left of the tree was killed.

use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;
use tokio_process_stream::{Item, ProcessChunkStream};

/// How much of stderr is read at once, in bytes.
const CHUNK: usize = 4096;

/// What is still to be read and to be waited for.
#[derive(Debug)]
pub(super) enum Rest {
    /// A child of ours.
    Ours {
        stream: Box<ProcessChunkStream>,
        /// Dropped with all the rest, and not before the leader was reaped.
        _hold: OwnedFd,
    },
    /// A keeper's child: reaped by it.
    Kept(ChildStderr),
    /// Its stderr has ended.
    Ended,
}

impl Rest {
    /// The next piece of its stderr; `None`: there will be none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Ours { stream, .. } => match stream.next().await {
                Some(Item::Stderr(chunk) | Item::Stdout(chunk)) => Some(chunk),
                // While we hold stderr open there is no end to come to.
                Some(Item::Done(_)) | None => None,
            },
            Self::Kept(stderr) => {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                match stderr.read_buf(&mut chunk).await {
                    Ok(length) if length > 0 => Some(chunk.freeze()),
                    _ => {
                        *self = Self::Ended;
                        None
                    }
                }
            }
            Self::Ended => None,
        }
    }

    /// Waits for a leader of ours, which is a zombie. The end of stderr is not waited for: somebody who escaped may hold it
    /// open, and nobody asks for its words any more.
    pub(super) async fn reap(&mut self) {
        match self {
            // While we hold stderr open the stream cannot have come to its end, and has the process still.
            Self::Ours { stream, .. } => {
                if let Some(process) = stream.child_mut() {
                    let _ = process.wait().await;
                }
            }
            Self::Kept(_) | Self::Ended => {}
        }
    }
}
