//! Tells when a file has become another. docs/decisions/reload.md says why by looking, and not by being told.

use std::path::PathBuf;
use std::time::Duration;

use crate::aside::aside;
use crate::config::{Stamp, Stamped};

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Files that are looked at.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    /// As they were before they were last read.
    known: Vec<Stamp>,
    /// As they were at the last look.
    last: Vec<Stamp>,
}

impl Watch {
    /// Watches these, which have changed already if they are not as they were before they were read.
    pub(super) fn new(files: &[Stamped]) -> Self {
        let (files, known): (Vec<_>, Vec<_>) =
            files.iter().map(|Stamped { path, stamp }| (path.clone(), *stamp)).unzip();
        Self { files, last: known.clone(), known }
    }

    /// Returns when any of them is another than it was, and has stayed so from one look to the next: whoever writes it
    /// may not be done. Never, if there are none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing but the time since the last look.
    pub(super) async fn changed(&mut self) {
        if self.files.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let files = self.files.clone();
            // A file system of the network may take its time.
            let now = aside(move || files.iter().map(|file| Stamp::of(file)).collect()).await;
            if self.sees(now) {
                return;
            }
        }
    }

    fn sees(&mut self, now: Vec<Stamp>) -> bool {
        let settled = now == self.last;
        self.last.clone_from(&now);
        if !settled || now == self.known {
            return false;
        }
        self.known = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled_and_once_only() {
        let dir = tempfile::tempdir().unwrap();
        let one = |size: usize| {
            let file = dir.path().join(size.to_string());
            fs::write(&file, "x".repeat(size)).unwrap();
            vec![Stamp::of(&file)]
        };
        let (one, two, three) = (one(1), one(2), one(3));
        let none = vec![Stamp::of(Path::new("/nowhere/at/all"))];
        let mut watch = Watch { files: Vec::new(), known: one.clone(), last: one.clone() };
        let looks = [
            (&one, false),
            (&two, false),
            (&three, false),
            (&three, true),
            (&three, false),
            (&none, false),
            (&three, false),
            (&none, false),
            (&none, true),
        ];
        for (index, (now, expected)) in looks.into_iter().enumerate() {
            assert_eq!(watch.sees(now.clone()), expected, "look {index}");
        }
    }

    #[test]
    fn a_file_that_changed_while_it_was_read_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("it.toml");
        fs::write(&file, "a").unwrap();
        let read = [Stamped::before_reading(file.clone())];
        fs::write(&file, "longer").unwrap();
        let mut watch = Watch::new(&read);
        let now = vec![Stamp::of(&file)];
        assert!(!watch.sees(now.clone()), "it may not be done");
        assert!(watch.sees(now));
    }
}
