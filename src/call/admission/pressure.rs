//! Whether the machine is short of memory, by the kernel's own account of time that was lost waiting for it.
//!
//! `some avg10` of `/proc/pressure/memory` says which share of the last ten seconds some task has stood still for want of
//! memory; a cgroup has its own account in `memory.pressure` (Documentation/accounting/psi.rst). Both are looked at: the
//! group may be short where the machine is not, and the other way round.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked at. The kernel brings its averages up to date every two seconds.
const EVERY: Duration = Duration::from_millis(500);

/// What is looked at, and how much is too much.
#[derive(Debug, Clone)]
pub(crate) struct Pressure {
    files: Vec<PathBuf>,
    /// In percent.
    most: f64,
}

/// Why nothing can be looked at.
#[derive(Debug, thiserror::Error)]
#[error("this kernel keeps no account of memory pressure (`psi=1` on its command line may help)")]
pub(crate) struct NoAccount(#[source] io::Error);

impl Pressure {
    /// Too much is above `most` percent.
    ///
    /// # Errors
    ///
    /// Where the kernel has no such account.
    pub(crate) fn of_this_machine(most: u32) -> Result<Self, NoAccount> {
        let machine = PathBuf::from("/proc/pressure/memory");
        read(&machine).map_err(NoAccount)?;
        let ours = fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| own_account(&groups));
        let ours = ours.filter(|file| read(file).is_ok());
        Ok(Self { files: [Some(machine), ours].into_iter().flatten().collect(), most: f64::from(most) })
    }

    /// The share of time that was lost of late, in percent, where it is highest.
    fn now(&self) -> f64 {
        // An account that was there and is not now belongs to a group that is gone.
        self.files.iter().filter_map(|file| read(file).ok()).fold(0.0, f64::max)
    }

    /// Returns once it is too much, or once it is so no more.
    pub(super) async fn until(&self, too_much: bool) {
        loop {
            let now = self.now();
            // Twice the time as between the two would be, so that a value on the edge does not flicker.
            let is = if too_much { now > self.most } else { now <= self.most / 2.0 };
            if is {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// In percent.
    pub(super) const fn most(&self) -> f64 {
        self.most
    }
}

/// The file of the group of version 2 that we are in.
fn own_account(groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path).join("memory.pressure"))
}

fn read(file: &Path) -> io::Result<f64> {
    let text = fs::read_to_string(file)?;
    parsed(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not what the kernel writes there"))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn parsed(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|part| part.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
impl Pressure {
    /// Of an account of one's own.
    pub(super) fn of_file(file: &Path, most: u32) -> Self {
        Self { files: vec![file.to_owned()], most: f64::from(most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=12.34 avg60=1.00 avg300=0.10 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parsed(text), Some(12.34));
        for text in ["", "full avg10=1.00", "some avg60=1.00", "some avg10=x"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn the_account_of_our_own_group_is_found() {
        let found = own_account("12:memory:/a\n0::/user.slice/x\n");
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup/user.slice/x/memory.pressure")));
        assert_eq!(own_account("12:memory:/a\n"), None);
    }

    #[test]
    fn whichever_account_is_worse_counts() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["3.00", "40.00"].map(|share| {
            let file = dir.path().join(share);
            fs::write(&file, format!("some avg10={share} avg60=0.00 avg300=0.00 total=0\n")).unwrap();
            file
        });
        let gone = dir.path().join("gone");
        let pressure = Pressure { files: files.into_iter().chain([gone]).collect(), most: 10.0 };
        assert!((pressure.now() - 40.0).abs() < 0.001);
    }
}
