//! What a server is kept from: its table `sandbox`.

use std::path::PathBuf;

use super::server::Around;
use super::table::Table;
use super::tree::Value;
use super::value::{self, Parsed};
use crate::child::spec::sandbox::{Account, Network, Preset, Wish};

pub(super) const PRESETS: &[(&str, Preset)] = &[
    ("python", Preset::Python),
    ("node", Preset::Node),
    ("uvx", Preset::Uvx),
    ("npx", Preset::Npx),
    ("browser", Preset::Browser),
];

/// Reads the table.
pub(super) fn sandbox(mut table: Table<'_>, around: Around<'_>) -> Wish {
    let presets = match table.peek("preset") {
        Some(Value::List(_)) => table.each("preset", value::choice(PRESETS)).unwrap_or_default(),
        _ => table.get_placed("preset", value::choice(PRESETS)).into_iter().collect(),
    };
    let mut paths = |key| {
        let path = |value: &Value| path(value, around);
        table.each(key, path).map(|paths| paths.into_iter().map(|(_, path)| path).collect())
    };
    let (read, write) = (paths("read"), paths("write"));
    let plain = Wish::default();
    let network = match table.get("network", value::flag) {
        Some(false) => Network::None,
        Some(true) | None => Network::Shared,
    };
    let seccomp = table.get("seccomp", value::flag);
    let no_new_privs = table.get_placed("no_new_privs", value::flag);
    let wish = Wish {
        presets: presets.into_iter().map(|(_, preset)| preset).collect(),
        read,
        write,
        network,
        no_new_privs: no_new_privs.is_none_or(|(_, said)| said),
        seccomp,
        private_tmp: table.get("private_tmp", value::flag),
        user: table.get("user", account),
        said: plain.said,
        best_effort: table.get("best_effort", value::flag).unwrap_or(plain.best_effort),
    };
    if let Some((place, false)) = no_new_privs
        && (wish.confines_writing() || seccomp == Some(true))
    {
        table.complain_at(
            place,
            "no_new_privs",
            "cannot be off: `read`, `write`, `seccomp` and presets need it",
        );
    }
    table.finish();
    wish
}

/// A path; `~` is the home directory of the gateway.
fn path(value: &Value, around: Around<'_>) -> Parsed<PathBuf> {
    let text = value::literal(value)?;
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    around.path(&text)
}

fn account(value: &Value) -> Parsed<Account> {
    match value {
        Value::Text(name) if !name.is_empty() && !name.contains(['\0', ':']) => {
            Some(Account::Name(name.clone()))
        }
        Value::Number(number) => {
            number.parse().map(Account::Id).ok().filter(|id| *id != Account::Id(u32::MAX))
        }
        _ => None,
    }
    .ok_or_else(|| "must be the name of a user, or its number".to_owned())
}
