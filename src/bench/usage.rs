//! What a target used: processor time and memory of a process and of everything below it, from `/proc`.
//!
//! A process that ended is counted by whoever reaped it (`cutime`, `cstime`), so the sum over a living tree misses
//! only what was orphaned. `proc_pid_stat(5)`: fields 4 (parent), 14 to 17 (times in clock ticks). Memory is the
//! proportional share (`Pss` of `smaps_rollup`, `proc_pid_smaps(5)`): a page that so many processes share counts once in all, or a
//! gateway with keepers, which are copies of it, would look many times its size.

use std::collections::HashMap;
use std::fs;

use super::stats::count;

/// The processor time of a process and its descendants.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Processor milliseconds of the process itself.
    pub(super) own_ms: f64,
    /// The same with all that it waited for and all that lives below it.
    pub(super) tree_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    zombie: bool,
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

/// Of a process and all its descendants; zero if it is gone.
pub(super) fn of_tree(root: u32) -> Usage {
    let stats = all();
    let Some(own) = stats.get(&root) else { return Usage::default() };
    let tree = descendants(root, &stats).into_iter().chain([root]).filter_map(|pid| stats.get(&pid));
    let ticks = tree.map(|stat| stat.own_ticks + stat.reaped_ticks).sum();
    Usage { own_ms: in_ms(own.own_ticks), tree_ms: in_ms(ticks) }
}

/// Bytes of memory of a process, and of it with all its descendants.
pub(super) fn memory_of_tree(root: u32) -> (u64, u64) {
    let own = memory_of(root);
    (own, own + descendants(root, &all()).into_iter().map(memory_of).sum::<u64>())
}

/// Nothing for a process that is gone, or that we may not look into.
fn memory_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let share =
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
    share.map_or(0, |kibibytes: u64| kibibytes * 1024)
}

/// Of this process with all that it has waited for, but without what still lives below it.
pub(super) fn of_ourselves() -> Usage {
    let Some(stat) = stat_of(std::process::id()) else { return Usage::default() };
    let (own_ms, reaped_ms) = (in_ms(stat.own_ticks), in_ms(stat.reaped_ticks));
    Usage { own_ms, tree_ms: own_ms + reaped_ms }
}

/// What lives below a process, at any depth; no zombies.
pub(super) fn below(root: u32) -> Vec<u32> {
    let stats = all();
    let mut found = descendants(root, &stats);
    found.retain(|pid| stats.get(pid).is_some_and(|stat| !stat.zombie));
    found
}

fn in_ms(ticks: u64) -> f64 {
    count(ticks) * 1000.0 / count(rustix::param::clock_ticks_per_second())
}

fn descendants(root: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

fn all() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat_of(pid)?))).collect()
}

fn stat_of(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses, and may hold anything.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        zombie: *fields.first()? == "Z",
        parent: u32::try_from(number(4)?).ok()?,
        own_ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_hold_spaces_and_parentheses() {
        let text = "7 (a) b) S 3 7 7 0 -1 0 0 0 0 0 11 2 30 4 20 0 1 0 5 4096 99 18446744073709551615";
        let stat = Stat { zombie: false, parent: 3, own_ticks: 13, reaped_ticks: 34 };
        assert_eq!(parse(text), Some(stat));
        assert_eq!(parse("7 (a) S 3"), None);
    }

    #[test]
    fn we_ourselves_have_used_memory() {
        let (own, tree) = memory_of_tree(std::process::id());
        assert!(own > 0 && tree >= own);
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let stat = |parent| Stat { zombie: false, parent, own_ticks: 0, reaped_ticks: 0 };
        let stats = HashMap::from([(2, stat(1)), (3, stat(2)), (4, stat(3)), (9, stat(8))]);
        let mut found = descendants(2, &stats);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
