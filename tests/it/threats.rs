//! What docs/threat-model.md says of a hostile tool and its containment, tried by one. Each way out that is open is shown to be
//! open too: a page that says less than the truth would be as wrong.
//!
//! Who gets out of what is here; who can look at what in `threats/spy.rs`. Both twice: as root, and as a user who is not, for
//! which root becomes `nobody`, with a cgroup of its own as a service manager would delegate it. What cannot be had is skipped,
//! loudly.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::support::peers::say_skipped;
use crate::support::{Gateway, JSON, Response, Start, kill, script_says, script_works, shown, until};

mod spy;

/// Becomes `nobody` in a cgroup `$PEN` of its own, if there can be one, and in a directory of its own. Our program may lie
/// where `nobody` must not look: it is open already, and whoever has a file open may execute it by `/proc`, if that was
/// forgotten at an exec since (`PR_SET_DUMPABLE(2const)`).
const NOBODY: &str = r#"
chown -R 65534:65534 . && chmod 711 . || exit
. "$SPAWNLING_PEN"
if mkdir -p "$pen"; then
  chown 65534:65534 "$pen" "$pen/cgroup.procs" "$pen/cgroup.subtree_control"
  echo $$ >"$pen/cgroup.procs"
fi 2>/dev/null
exec 9<"$0"
exec setpriv --reuid 65534 --regid 65534 --clear-groups -- sh -c 'exec /proc/self/fd/9 "$@"' sh "$@"
"#;

/// Finds the cgroup.
const PEN: &str = r"
top=$(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - cgroup2 .*/\1/p' /proc/self/mountinfo | head -n 1)
pen=$top$(sed -n s/^0:://p /proc/self/cgroup)/spawnling-test-$SPAWNLING_PEN_NAME
";

/// Who a gateway and its tools are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    /// Anybody else: whoever runs the test, or `nobody`.
    Plain,
}

/// A user for whom a containment can be had here, and all that it takes to become that user.
struct Host {
    containment: &'static str,
    user: User,
    pen: String,
    dir: tempfile::TempDir,
}

impl Host {
    /// `None`: it cannot be had, which was said.
    fn with(containment: &'static str, user: User) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("it is ours");
        std::fs::write(dir.path().join("pen"), PEN).expect("a script");
        let pen = format!("{:016x}", getrandom::u64().expect("random bits"));
        let host = Self { containment, user, pen, dir };
        let what = format!("the containment {containment} for {user:?}");
        if user == User::Root && !geteuid().is_root() {
            say_skipped(&what, "it is about root");
            return None;
        }
        if host.becomes_nobody() && !script_works("setpriv --version >/dev/null") {
            say_skipped(&what, "there is no setpriv (util-linux)");
            return None;
        }
        let script = if host.becomes_nobody() { NOBODY } else { r#"exec "$0" "$@""# };
        let words = ["check", "--containment", containment, "--", "/bin/false"];
        let inner = tempfile::tempdir().expect("a directory to give away");
        let said = script_says(script, inner.path(), &host.variables(), &words);
        let refusal = said.lines().find(|line| line.contains("this host does not allow the containment"));
        if let Some(refusal) = refusal {
            say_skipped(&what, refusal);
        }
        refusal.is_none().then_some(host)
    }

    fn becomes_nobody(&self) -> bool {
        self.user == User::Plain && geteuid().is_root()
    }

    fn variables(&self) -> [(String, String); 2] {
        let pen = shown(&self.dir.path().join("pen")).to_owned();
        [("SPAWNLING_PEN".to_owned(), pen), ("SPAWNLING_PEN_NAME".to_owned(), self.pen.clone())]
    }

    /// A program for `sh` of tests/fixtures, where the user can read it.
    fn program(&self, fixture: &str) -> PathBuf {
        let path = self.dir.path().join(fixture);
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        std::fs::copy(fixtures.join(fixture), &path).expect("a fixture");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
        path
    }

    /// It as the server `name`, with these arguments.
    fn scripted(&self, name: &str, fixture: &str, words: &[&str]) -> String {
        let program = self.program(fixture);
        let args = [&[shown(&program)], words].concat();
        format!("[servers.{name}]\ncommand = \"/bin/sh\"\nargs = {args:?}\nprotocol = \"legacy\"\n")
    }

    /// A gateway of that user, in that containment.
    fn gateway(&self, config: &str, variables: &[(&str, &str)]) -> Gateway {
        let own = self.variables();
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let env: Vec<_> = own.chain(variables.iter().copied()).collect();
        let script = self.becomes_nobody().then_some(NOBODY);
        let args = ["--containment", self.containment];
        Gateway::start_by(config, Start { args: &args, env: &env, script, ..Start::default() })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.becomes_nobody() {
            // The gateway's own are gone by now, or their warden is about to remove them.
            let removed = "i=0; . \"$SPAWNLING_PEN\"; while [ -d \"$pen\" ] && [ $i -lt 2000 ]; do rmdir \"$pen\" 2>/dev/null || \
                           sleep 0.01; i=$((i+1)); done; [ -d \"$pen\" ] && echo left";
            let said = script_says(removed, self.dir.path(), &self.variables(), &[]);
            assert!(std::thread::panicking() || said.is_empty(), "{said}");
        }
    }
}

/// Lets a server do its worst, which is no answer.
fn worst(gateway: &Gateway, server: &str) -> Response {
    let path = format!("/v1/servers/{server}/calls");
    let awaited = [JSON, ("Spawnling-Wait", "end")];
    let answer = gateway.request("POST", &path, &awaited, r#"{"steps":[{"method":"ping"}]}"#);
    assert_ne!(answer.status, 200, "{answer:?}");
    answer
}

/// Lets a hostile server do its worst, and says how many processes outlived it. They are killed.
fn outlived(gateway: &Gateway, way: &str) -> usize {
    worst(gateway, way);
    let left = gateway.servers();
    left.iter().copied().for_each(kill);
    until("who outlived it is killed", || gateway.servers().is_empty());
    left.len()
}

/// Tries ways out, and compares with what the page says: how many get out by each.
fn gets_out<const N: usize>(containment: &'static str, expected: [(&str, usize); N]) {
    for user in [User::Root, User::Plain] {
        let Some(host) = Host::with(containment, user) else { continue };
        let config = expected.map(|(way, _)| host.scripted(way, "hostile.sh", &[way])).concat();
        let gateway = host.gateway(&config, &[]);
        let came = expected.map(|(way, _)| (way, outlived(&gateway, way)));
        assert_eq!(came, expected, "{containment}, {user:?}\n{}", gateway.log());
        gateway.settle();
        // To lose a keeper is an error in the log, which an end in order would be blamed for.
        gateway.killed();
    }
}

#[test]
fn whoever_may_write_there_leaves_a_cgroup_only_if_it_kills_its_keeper_and_that_ones_guard_too() {
    let ways = [("plain", 0), ("move", 0), ("keeper", 0), ("both", 0), ("above", 0), ("all", 1)];
    gets_out("cgroup", ways);
}

#[test]
fn whoever_kills_a_subreaper_and_its_guard_gets_out() {
    gets_out("subreaper", [("plain", 0), ("keeper", 0), ("above", 1)]);
}

/// What a tool can try that can name nobody outside.
const FROM_INSIDE: [(&str, usize); 4] = [("plain", 0), ("move", 0), ("keeper", 0), ("both", 0)];

#[test]
fn nobody_gets_out_of_a_namespace() {
    gets_out("namespace", FROM_INSIDE);
}

#[test]
fn nobody_gets_out_of_a_namespace_in_a_cgroup() {
    gets_out("strict", FROM_INSIDE);
}
