//! How much of the machine one process tree may use. Pure.
//!
//! Each limit is enforced by one means and no other: a substitute that means something else is not put in its place.
//!
//! | limit                          | means                                                 | of       |
//! | ------------------------------ | ----------------------------------------------------- | -------- |
//! | memory, processes, cpu         | a controller of its cgroup                            | the tree |
//! | `cpu_time`, `open_files`, `file_size` | `setrlimit(2)`                                 | each process |
//! | scratch                        | a file system in memory, in a mount namespace         | the tree |

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of one tree; `None`: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// Bytes of memory, file cache included.
    pub(crate) memory: Option<u64>,
    /// Processes and threads.
    pub(crate) processes: Option<u64>,
    /// How much of the processors it gets.
    pub(crate) cpu: Option<Share>,
    /// Processor time of each of its processes.
    pub(crate) cpu_time: Option<Duration>,
    /// Descriptors that each of its processes has open.
    pub(crate) open_files: Option<u64>,
    /// Bytes of the largest file that it may write.
    pub(crate) file_size: Option<u64>,
    /// Bytes in its scratch directory.
    pub(crate) scratch: Option<u64>,
}

impl Limits {
    /// Every limit that there is: its key, its name in listings with the unit, and its value.
    pub(crate) fn asked(&self) -> Vec<(&'static str, &'static str, u64)> {
        let cpu_time = self.cpu_time.map(|time| time.as_secs().saturating_mul(1000));
        let all = [
            ("memory", "memory_bytes", self.memory),
            ("processes", "processes", self.processes),
            ("cpu", "cpu_percent", self.cpu.map(|share| u64::from(share.0))),
            ("cpu_time", "cpu_time_ms", cpu_time),
            ("open_files", "open_files", self.open_files),
            ("file_size", "file_size_bytes", self.file_size),
            ("scratch", "scratch_bytes", self.scratch),
        ];
        all.into_iter().filter_map(|(key, member, value)| Some((key, member, value?))).collect()
    }

    /// The controllers that they need, by the kernel's names.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let needed = [
            (self.memory.is_some(), "memory"),
            (self.processes.is_some(), "pids"),
            (self.cpu.is_some(), "cpu"),
        ];
        needed.into_iter().filter_map(|(needed, name)| needed.then_some(name)).collect()
    }

    /// Takes away a limit that nothing here can enforce, so that nobody counts on it.
    pub(crate) fn forget(&mut self, what: &str) {
        match what {
            "memory" => self.memory = None,
            "processes" => self.processes = None,
            "cpu" => self.cpu = None,
            // The others are tried again by each process.
            _ => {}
        }
    }

    /// Those that each process carries.
    pub(crate) fn of_process(&self) -> Rlimits {
        let (open_files, file_size) = (self.open_files, self.file_size);
        Rlimits { cpu_time: self.cpu_time.map(|time| time.as_secs()), open_files, file_size }
    }
}

/// Limits of one process, handed on to those that it starts (`setrlimit(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Rlimits {
    /// Seconds of processor time.
    pub(crate) cpu_time: Option<u64>,
    /// Descriptors.
    pub(crate) open_files: Option<u64>,
    /// Bytes of a file.
    pub(crate) file_size: Option<u64>,
}

/// A share of the processors, in hundredths of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

/// How long the kernel counts before it counts anew (`cpu.max`, `cpu.cfs_period_us`), in microseconds: its default.
pub(crate) const PERIOD: u32 = 100_000;

impl Share {
    /// So many hundredths of a processor; at least one, since the kernel takes no quota below 1 ms.
    pub(crate) const fn of_percent(percent: u32) -> Option<Self> {
        if percent == 0 { None } else { Some(Self(percent)) }
    }

    /// What it may use in each [`PERIOD`], in microseconds.
    pub(crate) const fn quota(self) -> u64 {
        self.0 as u64 * (PERIOD as u64 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_of_a_tree_names_its_controller() {
        let (memory, processes, cpu) = (Some(1), Some(1), Share::of_percent(1));
        let of = |limits: Limits| limits.controllers();
        assert!(of(Limits { open_files: Some(1), ..Limits::default() }).is_empty());
        assert_eq!(of(Limits { memory, ..Limits::default() }), ["memory"]);
        assert_eq!(of(Limits { processes, cpu, ..Limits::default() }), ["pids", "cpu"]);
    }

    #[test]
    fn a_share_becomes_a_quota_of_each_period() {
        let quota = |percent| Share::of_percent(percent).map(Share::quota);
        assert_eq!(quota(50), Some(50_000));
        assert_eq!(quota(200), Some(200_000));
        assert_eq!(quota(1), Some(1_000));
        assert_eq!(quota(0), None);
    }
}
