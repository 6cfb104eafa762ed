//! The lines of the log on their way to standard error, whose reader may be slow, or asleep, or gone.
//!
//! ```text
//!   a line --> is there room? -- no, for a while --> lost, and counted; nobody waits any more until there is
//!                  '-- yes --> how many were lost, if any; the line
//! ```
//!
//! A pipe that nobody reads would else hold up whoever logs, which in the end is everybody: no answers, and no stop.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// So many bytes a pipe takes at once when it can be written to at all (`pipe(7)`, `PIPE_BUF`).
const PIECE: usize = 4096;

/// Lines for one reader.
#[derive(Debug)]
pub(super) struct Lines<F> {
    to: F,
    /// How long the first line waits that there is no room for.
    patience: Duration,
    /// Lines that nobody took since the last one that somebody did.
    lost: u64,
    /// Whether the last of them was taken in part.
    torn: bool,
}

impl<F: AsFd> Lines<F> {
    /// Lines for whoever reads `to`. When there is no room, the first one waits so long.
    pub(super) const fn to(to: F, patience: Duration) -> Self {
        Self { to, patience, lost: 0, torn: false }
    }

    /// Writes a line, which ends with its line end, or loses it. Before the first one after some were lost comes what `words`
    /// makes of their number.
    pub(super) fn write(&mut self, line: &[u8], words: impl FnOnce(u64) -> String) {
        let mut text = if self.torn { b"\n".to_vec() } else { Vec::new() };
        let patience = if self.lost == 0 { self.patience } else { Duration::ZERO };
        if self.lost > 0 {
            text.extend_from_slice(words(self.lost).as_bytes());
        }
        text.extend_from_slice(line);
        let left = self.put(&text, Instant::now() + patience);
        if left == 0 {
            (self.lost, self.torn) = (0, false);
        } else {
            self.lost += 1;
            self.torn |= left < text.len();
        }
    }

    /// Writes until `give_up`; returns how much is left.
    fn put(&self, text: &[u8], give_up: Instant) -> usize {
        let mut rest = text;
        while !rest.is_empty() {
            if !self.has_room(give_up) {
                break;
            }
            match rustix::io::write(&self.to, &rest[..rest.len().min(PIECE)]) {
                Ok(written) if written > 0 => rest = &rest[written..],
                // Somebody else has filled it, and it is one that does not wait.
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < give_up => {}
                _ => break,
            }
        }
        rest.len()
    }

    /// Waits for room until `give_up`. One that is broken has room, as writing to it will tell.
    fn has_room(&self, give_up: Instant) -> bool {
        let mut ends = [PollFd::new(&self.to, PollFlags::OUT)];
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut ends, Some(&left)) {
                Err(Errno::INTR) => {}
                polled => return polled.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_nobody_takes_is_lost_and_counted_and_no_line_runs_into_another() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut lines = Lines::to(writer, Duration::ZERO);
        let words = |lost| format!("{lost} lost\n");
        // Longer than any pipe, so it goes in only in part, and nothing more behind it.
        let long = format!("{}\n", "x".repeat(4 << 20));
        lines.write(long.as_bytes(), words);
        lines.write(b"a line\n", words);
        assert_eq!((lines.lost, lines.torn), (2, true));
        rustix::io::ioctl_fionbio(&reader, true).expect("it can be told not to wait");
        let mut taken = Vec::new();
        let all = reader.read_to_end(&mut taken);
        assert_eq!(all.map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
        assert!((PIECE..long.len()).contains(&taken.len()) && taken.iter().all(|byte| *byte == b'x'));
        lines.write(b"next\n", words);
        lines.write(b"last\n", words);
        drop(lines);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the rest");
        assert_eq!(text, "\n2 lost\nnext\nlast\n");
    }

    #[test]
    fn a_reader_who_has_left_is_waited_for_by_nobody() {
        let (_, writer) = std::io::pipe().expect("a pipe");
        let mut lines = Lines::to(writer, Duration::from_hours(1));
        lines.write(b"a line\n", |_| String::new());
        assert_eq!((lines.lost, lines.torn), (1, false));
    }
}
