//! Where our own cgroup of version 2 is mounted (`cgroups(7)`, `proc_pid_mountinfo(5)`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of our own cgroup; `None` where version 2 is not mounted, or only above or beside us.
///
/// # Errors
///
/// Nobody knows: it could not be read.
pub(super) fn own() -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let cgroups = match fs::read_to_string("/proc/self/cgroup") {
        // A kernel without cgroups.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let Some(found) = find(&mounts, &cgroups) else { return Ok(None) };
    Ok(found.join("cgroup.procs").try_exists()?.then_some(found))
}

fn find(mounts: &str, cgroups: &str) -> Option<PathBuf> {
    // On a hybrid host the hierarchies of version 1 have numbers and names; that of version 2 has neither.
    let own = Path::new(cgroups.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        // 36 35 98:0 /root /mount/point options [optional...] - type source superoptions
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(3);
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        // The mount may show only a part of the hierarchy; and with `/..` in it, ours lies outside of our namespace.
        let within = own.strip_prefix(&root).ok().filter(|path| !path.starts_with(".."));
        (back.split(' ').next() == Some("cgroup2"))
            .then(|| within.map(|path| Path::new(&point).join(path).components().collect()))?
    })
}

/// Blanks and backslashes are written as `\040` and so on.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, meant)| text.replace(escape, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cgroup_is_found_on_pure_and_hybrid_hosts_and_in_containers() {
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "31 23 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let bound = "33 23 0:26 /docker/1a /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let cases = [
            (pure, "0::/user.slice/app.service\n", Some("/sys/fs/cgroup/user.slice/app.service")),
            (hybrid, "8:pids:/\n0::/\n", Some("/sys/fs/cgroup/unified")),
            (bound, "0::/docker/1a/b\n", Some("/sys/fs/cgroup/b")),
            (bound, "0::/elsewhere\n", None),
            (pure, "0::/../outside\n", None),
            (pure, "8:pids:/\n", None),
            ("31 23 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "0::/\n", None),
        ];
        for (mounts, cgroups, expected) in cases {
            assert_eq!(find(mounts, cgroups), expected.map(PathBuf::from), "{mounts}{cgroups}");
        }
    }
}
