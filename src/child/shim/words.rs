//! What the gateway and a keeper say to each other. Pure.
//!
//! ```text
//!   gateway --- Orders (with descriptors 0, 1, 2 of the tree, and doors of cgroups) --> keeper
//!           --- TERM | KILL, a byte each ------------------------------------------->
//!           <-- Report: Born, Started | Failed, Exited, Counted, [Forsaken,] Gone -----
//! ```
//!
//! Orders are a byte, a length, a line of JSON, and the texts: each ends with a NUL, as the kernel will see it (`execve(2)`).
//! A report is a line of JSON. The end of the stream from the gateway means that the gateway is dead.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use serde::{Deserialize, Serialize};

use crate::child::os::why_no_namespace;
use crate::exchange::Exit;

/// What orders begin with. A byte for a tree that was gone when it came is passed over.
pub(in crate::child) const ORDERS: u8 = b'o';
/// Asks the leader's process group to leave.
pub(in crate::child) const TERM: u8 = b't';
/// Ends the tree.
pub(in crate::child) const KILL: u8 = b'k';
/// The most descriptors that come with orders: three for the tree, and the doors of its cgroups.
pub(in crate::child) const MOST_DESCRIPTORS: usize = 8;
/// The most bytes of one set of orders: arguments and environment cannot be longer (`execve(2)`: 6 MiB).
pub(in crate::child) const MOST: usize = 8 << 20;

/// What to start, and how it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::child) struct Orders {
    /// How it is kept.
    pub(in crate::child) keeping: Keeping,
    /// How many doors of its cgroup come behind the first three descriptors (`cgroup.rs`).
    pub(in crate::child) cgroups: usize,
    /// An absolute path.
    pub(in crate::child) program: OsString,
    pub(in crate::child) args: Vec<OsString>,
    pub(in crate::child) env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub(in crate::child) cwd: OsString,
}

/// How a tree is kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::child) enum Keeping {
    /// By a parent that adopts its orphans (`PR_SET_CHILD_SUBREAPER(2const)`).
    Subreaper,
    /// In a PID namespace with an init of its own (`pid_namespaces(7)`).
    Namespace(Power),
}

/// By what right a namespace is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::child) enum Power {
    /// We may (`CAP_SYS_ADMIN`).
    Own,
    /// In a user namespace anybody may, where the host lets anybody have one (`user_namespaces(7)`).
    UserNamespace,
}

#[derive(Serialize, Deserialize)]
struct Head {
    keeping: Keeping,
    cgroups: usize,
    args: usize,
}

/// What a keeper tells of its tree, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::child) enum Report {
    /// The namespace's init has this process id; only in a namespace.
    Born(i32),
    /// The program runs. The process id means something to the gateway only without a namespace.
    Started(i32),
    /// It does not, and nothing is left of the attempt but `Gone`.
    Failed { step: Step, errno: i32 },
    /// Some process beside the leader has died of SIGXCPU, as the keeper has seen; or the leader was killed for not heeding that.
    OutOfTime,
    /// The leader has exited, or was killed.
    Exited(Ended),
    /// Nothing but the keeper itself is left, and so it went.
    Counted(Count),
    /// The keeper was killed, and what it kept is being ended by its guard. Only `Gone` comes after this.
    Forsaken,
    /// Nothing is left at all; and the keeper is free, if there is one.
    Gone,
}

/// What went wrong before there was a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// `fork(2)` of the keeper itself.
    Birth,
    /// Orders without the descriptors that they speak of.
    Orders,
    /// `clone(2)`
    Namespace,
    /// Its identity maps, or its own view of `/proc`.
    Setup,
    /// Writing to `cgroup.procs`.
    Join,
    /// `execve(2)`
    Exec,
}

impl Step {
    /// For a sentence that says where it failed.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Birth => "coming to life",
            Self::Orders => "reading its orders",
            Self::Namespace => "making a namespace",
            Self::Setup => "setting a namespace up",
            Self::Join => "joining a cgroup",
            Self::Exec => "executing the program",
        }
    }

    /// What to look at when it failed like that, to be put behind it; empty: nobody knows.
    pub(in crate::child) fn advice(self, error: &std::io::Error) -> &'static str {
        match self {
            Self::Namespace | Self::Setup => why_no_namespace(error),
            Self::Birth | Self::Orders | Self::Join | Self::Exec => "",
        }
    }
}

/// How the leader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::child) enum Ended {
    Code(i32),
    Signal(i32),
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Code(code) => Self::Code(code),
            Ended::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// What the reaping of a tree has shown (`getrusage(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::child) struct Count {
    /// Processes beside the leader that have died of SIGKILL once the tree was to end.
    pub(in crate::child) killed: u32,
    /// User and system time of all that were reaped, in microseconds.
    pub(in crate::child) cpu_us: u64,
    /// The peak resident size of the largest process, in KiB; 0: not known of this tree alone.
    pub(in crate::child) largest_kib: u64,
}

/// Why orders make no sense. Both sides are one program, so this is a defect, or not meant for us.
#[derive(Debug, thiserror::Error)]
#[error("these are no orders")]
pub(in crate::child) struct Garbled;

impl Orders {
    /// The bytes, with the first one and their length in front.
    pub(in crate::child) fn to_bytes(&self) -> Vec<u8> {
        let head = Head { keeping: self.keeping, cgroups: self.cgroups, args: self.args.len() };
        let mut bytes = vec![ORDERS, 0, 0, 0, 0];
        serde_json::to_writer(&mut bytes, &head).expect("numbers and names are JSON");
        bytes.push(b'\n');
        let mut text = |parts: &[&OsString]| {
            for part in parts {
                bytes.extend_from_slice(part.as_bytes());
            }
            bytes.push(0);
        };
        text(&[&self.program]);
        text(&[&self.cwd]);
        self.args.iter().for_each(|arg| text(&[arg]));
        let equals = OsString::from("=");
        self.env.iter().for_each(|(name, value)| text(&[name, &equals, value]));
        let length = u32::try_from(bytes.len() - 5).unwrap_or(u32::MAX);
        bytes[1..5].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// Reads what follows the length.
    pub(in crate::child) fn from_bytes(bytes: &[u8]) -> Result<Self, Garbled> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Garbled)?;
        let head: Head = serde_json::from_slice(&bytes[..end]).map_err(|_| Garbled)?;
        let mut texts = bytes[end + 1..].split(|byte| *byte == 0);
        let mut text = || texts.next().map(|text| OsString::from_vec(text.to_vec())).ok_or(Garbled);
        let (program, cwd) = (text()?, text()?);
        let args = (0..head.args).map(|_| text()).collect::<Result<_, _>>()?;
        let pair = |text: &[u8]| {
            // A name may begin with `=`, as on other systems; it is not empty.
            let equals = text.iter().skip(1).position(|byte| *byte == b'=')? + 1;
            Some((
                OsString::from_vec(text[..equals].to_vec()),
                OsString::from_vec(text[equals + 1..].to_vec()),
            ))
        };
        let env = texts.filter_map(pair).collect();
        Ok(Self { keeping: head.keeping, cgroups: head.cgroups, program, args, env, cwd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_given() {
        let odd = OsString::from_vec(vec![b'\n', 0xff, b' ', b'=']);
        let orders = Orders {
            keeping: Keeping::Namespace(Power::UserNamespace),
            cgroups: 2,
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "".into(), odd.clone()],
            env: vec![("A".into(), "".into()), ("B".into(), "x=y".into()), ("C".into(), odd)],
            cwd: "/tmp".into(),
        };
        let bytes = orders.to_bytes();
        assert_eq!(bytes[0], ORDERS);
        let (length, rest) = bytes[1..].split_first_chunk().unwrap();
        assert_eq!(usize::try_from(u32::from_le_bytes(*length)).unwrap(), rest.len());
        assert_eq!(Orders::from_bytes(rest).unwrap(), orders);
        assert!(Orders::from_bytes(&rest[..20]).is_err());
    }

    #[test]
    fn a_report_is_one_line() {
        for report in [
            Report::Failed { step: Step::Exec, errno: 2 },
            Report::Exited(Ended::Signal(9)),
            Report::Counted(Count { killed: 1, cpu_us: 2, largest_kib: 3 }),
            Report::Gone,
        ] {
            let line = serde_json::to_string(&report).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
        }
    }
}
