//! Where a server's instances come from, and the keys that belong to that.

use super::table::Table;
use super::value;
use super::{Pool, Standby, StrategyKind};

/// The strategies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Fresh,
    Prewarmed,
    Pooled,
    Shared,
}

pub(super) const STRATEGIES: &[(&str, Name)] = &[
    ("fresh", Name::Fresh),
    ("prewarmed", Name::Prewarmed),
    ("pooled", Name::Pooled),
    ("shared", Name::Shared),
];

/// The strategy of the server that `table` is about.
pub(super) fn strategy(table: &mut Table<'_>) -> StrategyKind {
    let name = table.get("strategy", value::choice(STRATEGIES)).unwrap_or(Name::Fresh);
    let standby = table.table("standby").map(|inner| (inner.place(), standby(inner)));
    let pool = table.table("pool").map(|inner| (inner.place(), pool(inner)));
    if let Some((place, _)) = standby
        && name != Name::Prewarmed
    {
        table.complain_at(place, "standby", "belongs to strategy = \"prewarmed\"");
    }
    if let Some((place, _)) = pool
        && name != Name::Pooled
    {
        table.complain_at(place, "pool", "belongs to strategy = \"pooled\"");
    }
    match name {
        Name::Fresh => StrategyKind::Fresh,
        Name::Prewarmed => {
            StrategyKind::Prewarmed(standby.map_or_else(Standby::default, |(_, standby)| standby))
        }
        Name::Pooled => StrategyKind::Pooled(pool.map_or_else(Pool::default, |(_, pool)| pool)),
        Name::Shared => StrategyKind::Shared,
    }
}

fn standby(mut table: Table<'_>) -> Standby {
    let default = Standby::default();
    let min = table.get("min", value::count).unwrap_or(default.min);
    let max = table.get_placed("max", value::positive_count);
    let max_age = table.get("max_age", value::positive_duration).unwrap_or(default.max_age);
    if let Some((place, max)) = max
        && max < min
    {
        table.complain_at(place, "max", format!("must be at least `min`, which is {min}"));
    }
    table.finish();
    Standby { min, max: max.map_or(default.max, |(_, max)| max).max(min), max_age }
}

fn pool(mut table: Table<'_>) -> Pool {
    let default = Pool::default();
    let uses = table.get("uses", value::positive_count).unwrap_or(default.uses);
    let max_age = table.get("max_age", value::positive_duration).unwrap_or(default.max_age);
    let idle = table.get("idle", value::positive_duration).unwrap_or(default.idle);
    table.finish();
    Pool { uses, max_age, idle }
}
