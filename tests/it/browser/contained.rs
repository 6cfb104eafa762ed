//! A browser is ten processes and more, some of them in sessions of their own: with its call, with its caller and with the
//! gateway it goes, in every containment that promises so, and its profile with it.
//!
//! `@playwright/mcp` keeps a profile below the user's cache directory unless it is told to be `--isolated`; then the profile is
//! made in `TMPDIR`, which is scratch. Both ways are tried here, with a home directory of the test's own.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::{Site, configured, workflow};
use crate::support::peers::has_containment;
use crate::support::{Gateway, JSON, Start, processes, shown, until};

/// Chromium alone is more than that, once a page is open.
const SOME: usize = 6;

/// A home directory, a directory for temporary files, and the configuration of a browser's server that uses them.
struct Place {
    config: String,
    home: TempDir,
    tmp: TempDir,
    _settings: TempDir,
}

impl Place {
    fn new(args: &[&str]) -> Option<Self> {
        let (mut config, settings) = configured(args)?;
        let (home, tmp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (home_dir, cache) = (shown(home.path()), home.path().join("cache"));
        writeln!(config, "env = {{ HOME = {home_dir:?}, XDG_CACHE_HOME = {:?} }}", shown(&cache)).unwrap();
        Some(Self { config, home, tmp, _settings: settings })
    }

    fn gateway(&self, containment: &str) -> Gateway {
        let tmp = shown(self.tmp.path());
        let start =
            Start { env: &[("TMPDIR", tmp)], args: &["--containment", containment], ..Start::default() };
        Gateway::start_by(&self.config, start)
    }

    /// The living processes of the browser and its server: by the mark in their environment, and by the profile or the
    /// program among their words, for Chromium's own write over what `/proc` shows of theirs.
    fn living(&self, gateway: &Gateway) -> Vec<u32> {
        let mut living = processes::mentioning(shown(self.tmp.path()));
        living.extend(processes::mentioning(shown(self.home.path())));
        living.extend(gateway.servers());
        living.sort_unstable();
        living.dedup();
        living.retain(|pid| *pid != gateway.pid());
        living
    }

    /// Files that are no directories, below the scratch directories.
    fn scratch(&self) -> Vec<String> {
        files(self.tmp.path())
    }
}

fn files(below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        } else {
            found.push(shown(&path).to_owned());
        }
    }
    found
}

/// A page, and then a long wait in it.
fn lingering(site: &Site) -> String {
    let steps = json!([
        {"tool": "browser_navigate", "arguments": {"url": format!("http://{}/", site.address)}},
        {"tool": "browser_wait_for", "arguments": {"time": 600}},
    ]);
    json!({"steps": steps}).to_string()
}

const PATH: &str = "/v1/servers/browser/calls";

/// Called, left by its caller in the middle, and killed with the gateway in the middle.
fn leaves_nothing(containment: &str) {
    let Some(place) = Place::new(&["--isolated"]) else { return };
    if !has_containment(containment) {
        return;
    }
    let (gateway, site) = (place.gateway(containment), Site::open());
    let answer = gateway.request("POST", PATH, &[JSON, ("Spawnling-Wait", "end")], &workflow(&site));
    let last = answer.good()["steps"][3]["result"]["content"][0]["text"].clone();
    assert!(last.as_str().is_some_and(|text| text.contains("You have arrived")), "{answer:?}");
    assert_eq!(answer.receipt("containment"), containment, "{answer:?}");
    // With the receipt comes the proof: nobody is waited for here.
    assert_eq!((place.living(&gateway), place.scratch().len()), (vec![], 1), "{:?}", place.scratch());

    let call = gateway.begin("POST", PATH, &[JSON], &lingering(&site));
    until("the browser is up", || place.living(&gateway).len() >= SOME && place.scratch().len() > 1);
    call.hang_up();
    until("the browser is gone with its caller", || place.living(&gateway).is_empty());
    // The lock of the gateway's own.
    until("its profile is gone with its caller", || place.scratch().len() == 1);

    let call = gateway.begin("POST", PATH, &[JSON], &lingering(&site));
    until("the browser is up again", || place.living(&gateway).len() >= SOME && place.scratch().len() > 1);
    gateway.killed();
    drop(call);
    assert!(place.scratch().len() > 1, "nobody was there to remove the profile");
    let next = place.gateway(containment);
    assert_eq!(place.scratch().len(), 1, "{:?}", place.scratch());
    until("nobody survives the gateway", || place.living(&next).is_empty());
    next.stop();
    assert_eq!(fs::read_dir(place.tmp.path()).unwrap().count(), 0);
    // What it keeps of the user's is no profile: a cache of desktop settings, and whether crashes are to be reported.
    let kept = files(place.home.path());
    assert!(!kept.iter().any(|file| file.contains("mcp-chromium") || file.contains("Cookies")), "{kept:?}");
}

#[test]
fn nothing_is_left_of_a_browser_in_a_cgroup() {
    leaves_nothing("cgroup");
}

#[test]
fn nothing_is_left_of_a_browser_in_a_namespace() {
    leaves_nothing("namespace");
}

#[test]
fn nothing_is_left_of_a_browser_below_a_subreaper() {
    leaves_nothing("subreaper");
}

#[test]
fn nothing_is_left_of_a_browser_in_a_namespace_in_a_cgroup() {
    leaves_nothing("strict");
}

#[test]
fn a_browser_that_is_not_told_to_be_isolated_keeps_a_profile_in_the_users_cache() {
    let Some(place) = Place::new(&[]) else { return };
    let (gateway, site) = (place.gateway("auto"), Site::open());
    let answer = gateway.request("POST", PATH, &[JSON, ("Spawnling-Wait", "end")], &workflow(&site));
    answer.good();
    assert_eq!((place.living(&gateway), place.scratch().len()), (vec![], 1), "{:?}", place.scratch());
    gateway.stop();
    let profiles = place.home.path().join("cache/ms-playwright-mcp");
    assert!(files(&profiles).iter().any(|file| file.ends_with("/Cookies")), "{:?}", files(place.home.path()));
}
