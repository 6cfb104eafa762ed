//! `home = "scratch"`: a home directory that is there for one process, and gone with it.

use std::path::Path;

use serde_json::Value;

use super::{containments, environment, files_in, names};
use crate::support::{Gateway, Start, demo, server};

/// What of a server's surroundings leads home.
const WAYS: [&str; 4] = ["XDG_CACHE_HOME", "UV_CACHE_DIR", "XDG_CONFIG_HOME", "NPM_CONFIG_CACHE"];

fn is_of_its_own(seen: &Value) {
    let values = &seen["values"];
    assert!(values["HOME"].as_str().is_some_and(|home| home.starts_with('/')), "{seen}");
    assert_eq!(values["HOME"], values["TMPDIR"], "{seen}");
}

#[test]
fn a_home_of_its_own_is_the_scratch_directory_in_every_containment_and_goes_with_the_process() {
    let real = tempfile::tempdir().unwrap();
    let below = |name: &str| real.path().join(name).into_os_string().into_string().unwrap();
    let caches = [below(".cache"), below("uv"), below(".config")];
    let env = [
        ("HOME", real.path().to_str().unwrap()),
        ("XDG_CACHE_HOME", &caches[0]),
        ("UV_CACHE_DIR", &caches[1]),
        ("XDG_CONFIG_HOME", &caches[2]),
        ("NPM_CONFIG_CACHE", "/nowhere"),
    ];
    for containment in containments() {
        let args = ["--containment", containment];
        let start = Start { env: &env, args: &args, ..Start::default() };
        let gateway = Gateway::start_by(&(demo(&[]) + "home = \"scratch\"\npass_env = [\"*\"]\n"), start);
        let (first, second) = (environment(&gateway), environment(&gateway));
        is_of_its_own(&first);
        let seen = names(&first);
        let ways: Vec<_> = WAYS.into_iter().filter(|way| seen.contains(*way)).collect();
        assert_eq!(ways, ["NPM_CONFIG_CACHE"], "{containment}");
        gateway.until_at_rest();
        let home = first["values"]["HOME"].as_str().unwrap();
        assert!(second["values"]["HOME"] != home || files_in(Path::new(home)).is_empty(), "{containment}");
        gateway.stop();
    }
    assert!(files_in(real.path()).is_empty());
}

#[test]
fn a_home_of_its_own_is_there_in_a_sandbox_too_and_no_preset_leads_into_the_real_one() {
    let real = tempfile::tempdir().unwrap();
    let env = [("HOME", real.path().to_str().unwrap())];
    let sandbox = "protocol = \"legacy\"\nsandbox = { preset = [\"uvx\", \"npx\"], best_effort = true }\n";
    let config = [
        server("away", &[]),
        sandbox.into(),
        server("demo", &[]),
        "home = \"scratch\"\n".into(),
        sandbox.into(),
    ];
    let gateway = Gateway::start_by(&config.concat(), Start { env: &env, ..Start::default() });
    let seen = environment(&gateway);
    is_of_its_own(&seen);
    let leads_home = |seen: &Value| names(seen).iter().any(|name| WAYS.contains(&name.as_str()));
    assert!(!leads_home(&seen), "{seen}");
    let away = gateway.post("/v1/servers/away/tools/environment", "{}").good()["structuredContent"].clone();
    assert!(leads_home(&away), "presets name no caches any more: {away}");
    gateway.stop();
}
