//! Where the gateway itself sits while its trees have controllers.
//!
//! ```text
//!   <our own cgroup>/               hands the controllers on that some server's limits need
//!     spawnling-5f0c...             the root of our trees, which hands them on too
//!     spawnling-5f0c....gateway     the gateway with its wardens, moved here
//! ```
//!
//! A cgroup that hands controllers on may have no process of its own (`cgroups(7)`, "no internal processes" rule). Only
//! the top of the hierarchy may, so that nobody moves there. A process of somebody else is never moved: where one lives,
//! there are no controllers. Whatever was done is undone: when the gateway ends, and by a warden if it is killed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{PAUSE, SWEEPING};

/// How the name of the gateway's own leaf ends; what stands before it is the name of its root.
pub(super) const SUFFIX: &str = ".gateway";

/// What a reader of a refusal can do about it.
pub(in crate::child) const ADVICE: &str = "docs/containment.md says how a service gets a cgroup to itself";

/// What was moved and switched on, to be undone when it is dropped.
#[derive(Debug)]
pub(in crate::child) struct Quarters {
    root: PathBuf,
    /// Who was moved: 0 is whoever does it.
    who: i32,
    /// The controllers that our own cgroup did not hand on before.
    enabled: Vec<&'static str>,
    refused: Vec<(&'static str, String)>,
}

impl Quarters {
    /// Has the cgroups below `root`, in which nobody may be yet, get the controllers `wanted`, as far as that can be. The
    /// process `who`, or 0 for this one, must be in the cgroup above.
    pub(super) fn settle(root: &Path, wanted: &[&'static str], who: i32) -> Self {
        let mut quarters = Self { root: root.to_owned(), who, enabled: Vec::new(), refused: Vec::new() };
        let own = above(root);
        let offered = words(&own.join("cgroup.controllers"));
        let (there, missing): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|name| offered.iter().any(|offered| offered == *name));
        let missing = missing.into_iter().map(|name| (name, not_offered(own, name)));
        quarters.refused.extend(missing);
        if there.is_empty() {
            return quarters;
        }
        if let Err(why) = quarters.take(&there) {
            switch(root, '-', &there);
            undo(root, &quarters.enabled, who);
            quarters.enabled.clear();
            quarters.refused.extend(there.into_iter().map(|name| (name, format!("{why}; {ADVICE}"))));
        }
        quarters
    }

    fn take(&mut self, wanted: &[&'static str]) -> Result<(), String> {
        let own = above(&self.root).to_owned();
        // All cgroups but the top have that file (`cgroup-v2.rst`, "Core Interface Files").
        if own.join("cgroup.type").exists() {
            let leaf = leaf_of(&self.root);
            let moved = fs::create_dir(&leaf).and_then(|()| write(&leaf.join("cgroup.procs"), &self.who));
            moved.map_err(|error| format!("the gateway cannot move to {}: {error}", leaf.display()))?;
            // The kernel says so itself in most cases. In the others it would take the cgroups below out of use.
            let others = words(&own.join("cgroup.procs")).len();
            if others > 0 {
                return Err(format!("{others} other processes live in {}", own.display()));
            }
        }
        let before = words(&own.join("cgroup.subtree_control"));
        for name in wanted {
            if !before.iter().any(|before| before == name) {
                hand_on(&own, '+', name).map_err(|error| cannot(&own, name, &error))?;
                self.enabled.push(name);
            }
            hand_on(&self.root, '+', name).map_err(|error| cannot(&self.root, name, &error))?;
        }
        // `domain invalid`: nobody could join what is below.
        match words(&self.root.join("cgroup.type")).join(" ").as_str() {
            "domain" => Ok(()),
            other => Err(format!("the kernel makes {} a cgroup of the type `{other}`", self.root.display())),
        }
    }

    /// The controllers to be switched off again, for whoever undoes it when we cannot.
    pub(in crate::child) fn enabled(&self) -> &[&'static str] {
        &self.enabled
    }

    /// Why trees do not have this controller.
    pub(in crate::child) fn without(&self, controller: &str) -> String {
        if let Some((_, why)) = self.refused.iter().find(|(name, _)| *name == controller) {
            return why.clone();
        }
        let own = above(&self.root);
        if !words(&own.join("cgroup.controllers")).iter().any(|offered| offered == controller) {
            return not_offered(own, controller);
        }
        // By now keepers and wardens live where nobody may live then, and these know what they have to undo.
        format!(
            "no server needed the controller `{controller}` when the gateway started, and it is handed on only then: \
             restart the gateway"
        )
    }
}

impl Drop for Quarters {
    fn drop(&mut self) {
        undo(&self.root, &self.enabled, self.who);
    }
}

/// Undoes for a gateway that was killed, whose `root` is gone, what it had switched on in the cgroup above, and leaves its
/// leaf, from which others of it may be on their way out. Blocks for a moment.
pub(in crate::child) fn undo_for_the_dead(root: &Path, enabled: &[&str]) {
    let began = Instant::now();
    undo(root, enabled, 0);
    while leaf_of(root).exists() && began.elapsed() < SWEEPING {
        std::thread::sleep(PAUSE);
        undo(root, enabled, 0);
    }
}

/// As far as it can be done. Another gateway beside us, at the top, may need a controller still; then the kernel keeps it on.
fn undo(root: &Path, enabled: &[&str], who: i32) {
    let (own, leaf) = (above(root), leaf_of(root));
    switch(own, '-', enabled);
    if leaf.exists() {
        let _ = write(&own.join("cgroup.procs"), &who);
        let _ = fs::remove_dir(leaf);
    }
}

/// The gateway's own leaf, beside the root of its trees.
fn leaf_of(root: &Path) -> PathBuf {
    let mut path = root.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

fn above(root: &Path) -> &Path {
    root.parent().expect("every root was made in our own cgroup")
}

fn switch(cgroup: &Path, sign: char, names: &[&str]) {
    for name in names {
        let _ = hand_on(cgroup, sign, name);
    }
}

fn hand_on(cgroup: &Path, sign: char, name: &str) -> io::Result<()> {
    write(&cgroup.join("cgroup.subtree_control"), &format_args!("{sign}{name}"))
}

fn not_offered(own: &Path, name: &str) -> String {
    format!("{} has no controller `{name}`; {ADVICE}", own.display())
}

fn cannot(cgroup: &Path, name: &str, error: &io::Error) -> String {
    format!("{} cannot hand the controller `{name}` on: {error}", cgroup.display())
}

/// In one write: each is an order of its own.
fn write(file: &Path, order: &dyn std::fmt::Display) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(order.to_string().as_bytes())
}

/// The words of a file of the kernel; none where there is no such file.
fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories that stand for our own cgroup, at the top, and the root in it, of this type.
    fn cgroups(kind: &str) -> (tempfile::TempDir, PathBuf) {
        let own = tempfile::tempdir().unwrap();
        let root = own.path().join("spawnling-0");
        fs::create_dir(&root).unwrap();
        fs::write(own.path().join("cgroup.controllers"), "cpu io pids\n").unwrap();
        fs::write(own.path().join("cgroup.subtree_control"), "").unwrap();
        fs::write(root.join("cgroup.subtree_control"), "").unwrap();
        fs::write(root.join("cgroup.type"), kind).unwrap();
        (own, root)
    }

    #[test]
    fn a_controller_is_handed_on_twice_and_taken_back() {
        let (own, root) = cgroups("domain\n");
        let quarters = Quarters::settle(&root, &["memory", "pids"], 0);
        assert_eq!(quarters.enabled(), ["pids"]);
        let [(name, why)] = quarters.refused.as_slice() else { panic!("{quarters:?}") };
        assert!(*name == "memory" && why.contains("has no controller `memory`"), "{why}");
        let said = |path: &Path| fs::read_to_string(path.join("cgroup.subtree_control")).unwrap();
        assert_eq!((said(own.path()), said(&root)), ("+pids".into(), "+pids".into()));
        drop(quarters);
        assert_eq!(said(own.path()), "-pids");
    }

    #[test]
    fn where_nobody_could_join_all_is_taken_back_at_once() {
        let (own, root) = cgroups("domain invalid\n");
        let quarters = Quarters::settle(&root, &["pids"], 0);
        assert!(quarters.enabled().is_empty() && quarters.refused[0].1.contains("domain invalid"));
        let said = |path: &Path| fs::read_to_string(path.join("cgroup.subtree_control")).unwrap();
        assert_eq!((said(own.path()), said(&root)), ("-pids".into(), "-pids".into()));
    }

    #[test]
    fn whoever_needs_a_controller_later_is_told_to_restart_the_gateway_if_that_helps() {
        let (_own, root) = cgroups("domain\n");
        let quarters = Quarters::settle(&root, &["memory"], 0);
        assert!(quarters.without("pids").ends_with("restart the gateway"), "{}", quarters.without("pids"));
        for never in ["memory", "rdma"] {
            let why = quarters.without(never);
            assert!(why.contains(&format!("has no controller `{never}`")), "{why}");
        }
    }

    #[test]
    fn nothing_is_touched_for_nothing() {
        let (own, root) = cgroups("domain\n");
        let quarters = Quarters::settle(&root, &[], 0);
        assert!(quarters.enabled().is_empty() && quarters.refused.is_empty());
        drop(quarters);
        assert_eq!(fs::read_to_string(own.path().join("cgroup.subtree_control")).unwrap(), "");
    }
}
