//! The gateway's own environment, and the small part of it that a server gets to see.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// What every server is given of our environment: who and where it is, the way to the network, and the caches
/// without which `uvx` and `npx` would download everything again. Nothing in here is a secret by its nature.
const ALLOWED: [&str; 18] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_*",
    "TZ",
    "*_PROXY",
    // curl, and much that followed it, reads `http_proxy` in lower case only.
    "*_proxy",
    "SSL_CERT_*",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "UV_*",
    "NPM_CONFIG_*",
    "XDG_CACHE_HOME",
    "PLAYWRIGHT_BROWSERS_PATH",
];

/// What a service manager tells us alone: a server with `pass_env = ["*"]` is no part of our conversation with it, and
/// does not have the descriptors that are counted there. Each can be passed on by its name.
const OURS: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// What the names of variables hold whose values are better not shown, whoever set them.
const TELLTALES: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH", "COOKIE"];

/// Parts of a user's home directory, wherever they are kept (XDG base directory specification).
const PARTS_OF_HOME: [&str; 4] = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"];
/// What may lead into the home directory, and need not be there: caches, and settings of who lives there.
const PATHS_INTO_HOME: [&str; 3] = ["UV_*", "NPM_CONFIG_*", "PLAYWRIGHT_BROWSERS_PATH"];

/// A set of variables, names unique. Its `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// A variable that is set, and not to nothing.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that is set, be it to nothing.
    pub(super) fn even_empty(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Whether a variable matches this pattern.
    pub(super) fn has(&self, pattern: &str) -> bool {
        self.0.keys().any(|name| matches(pattern, name))
    }

    /// A server's whole environment: the allow-list, then what matches `pass`, then `set`. A variable that is set to
    /// `None` is absent, whatever the others say. Sorted by name.
    pub(super) fn for_server(
        &self,
        pass: &[String],
        set: Vec<(String, Option<String>)>,
    ) -> Vec<(OsString, OsString)> {
        let patterns = || ALLOWED.into_iter().chain(pass.iter().map(String::as_str));
        let mut variables = self.0.clone();
        let is_ours = |name: &OsStr| OURS.iter().any(|ours| name == *ours);
        variables.retain(|name, _| {
            patterns().any(|pattern| matches(pattern, name) && (name == pattern || !is_ours(name)))
        });
        for (name, value) in set {
            match value {
                Some(value) => variables.insert(name.into(), value.into()),
                None => variables.remove(OsStr::new(&name)),
            };
        }
        variables.into_iter().collect()
    }

    /// The same for whoever has another home directory: without the real one, and without the ways into it, but for those that
    /// `pass` has by their names.
    pub(super) fn without_home(&self, pass: &[String]) -> Self {
        // Everything lies in `/`, so of a user who lives there nothing is to be learned by that.
        let home =
            self.get("HOME").map(Path::new).filter(|home| home.is_absolute() && home.parent().is_some());
        let of_any = |patterns: &[&str], name: &OsStr| patterns.iter().any(|pattern| matches(pattern, name));
        let leads_home = |name: &OsStr, value: &OsStr| {
            let inside = || home.is_some_and(|home| Path::new(value).starts_with(home));
            of_any(&PARTS_OF_HOME, name) || (of_any(&PATHS_INTO_HOME, name) && inside())
        };
        let stays = |name: &OsStr, value: &OsStr| {
            name != "HOME" && (pass.iter().any(|named| name == named.as_str()) || !leads_home(name, value))
        };
        self.0.clone().into_iter().filter(|(name, value)| stays(name, value)).collect()
    }

    /// Where things are kept from one start to the next: `SPAWNLING_CACHE_DIR`, else `spawnling` in the user's cache
    /// directory; `None` for a user who has none.
    pub(super) fn cache_dir(&self, working_dir: &Path) -> Option<PathBuf> {
        if let Some(dir) = self.get("SPAWNLING_CACHE_DIR") {
            return Some(working_dir.join(dir));
        }
        // The XDG base directory specification has relative paths ignored.
        let xdg = self.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let caches = xdg.or_else(|| self.get("HOME").map(|home| Path::new(home).join(".cache")));
        caches.map(|dir| dir.join("spawnling"))
    }
}

/// Whether the name of a variable says that its value is better not shown.
pub(super) fn is_telltale(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    TELLTALES.iter().any(|part| name.contains(part))
}

/// Whether a name is meant by a pattern: itself, or with a `*` at one end.
pub(super) fn matches(pattern: &str, name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    if let Some(prefix) = pattern.strip_suffix('*') {
        name.starts_with(prefix.as_bytes())
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        name.ends_with(suffix.as_bytes())
    } else {
        name == pattern.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Environment {
        names.iter().map(|name| (OsString::from(name), OsString::from("ours"))).collect()
    }

    fn shown(variables: Vec<(OsString, OsString)>) -> Vec<String> {
        let text = |part: OsString| part.into_string().expect("the tests are in ASCII");
        variables.into_iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    #[test]
    fn what_a_service_manager_tells_us_is_passed_on_by_its_name_only() {
        let ours = environment(&["NOTIFY_SOCKET", "LISTEN_FDS", "OTHER"]);
        let seen = |pass: &str| shown(ours.for_server(&[pass.to_owned()], Vec::new()));
        assert_eq!(seen("*"), ["OTHER=ours"]);
        assert_eq!(seen("NOTIFY_*"), [""; 0]);
        assert_eq!(seen("NOTIFY_SOCKET"), ["NOTIFY_SOCKET=ours"]);
    }

    #[test]
    fn a_server_sees_the_allow_list_and_nothing_else() {
        let allowed = [
            "HOME",
            "HTTPS_PROXY",
            "LANG",
            "LC_ALL",
            "LOGNAME",
            "NODE_EXTRA_CA_CERTS",
            "NPM_CONFIG_CACHE",
            "PATH",
            "PLAYWRIGHT_BROWSERS_PATH",
            "REQUESTS_CA_BUNDLE",
            "SHELL",
            "SSL_CERT_FILE",
            "TERM",
            "TZ",
            "USER",
            "UV_CACHE_DIR",
            "XDG_CACHE_HOME",
            "https_proxy",
            "no_proxy",
        ];
        let kept_back = [
            "AWS_SECRET_ACCESS_KEY",
            "HOMEX",
            "LD_PRELOAD",
            "MY_PATH",
            "OPENAI_API_KEY",
            "PWD",
            "SPAWNLING_CONFIG",
            "SSH_AUTH_SOCK",
            "TMPDIR",
            "XDG_RUNTIME_DIR",
            "lc_all",
        ];
        let ours = environment(&[allowed.as_slice(), &kept_back].concat());
        let expected: Vec<String> = allowed.iter().map(|name| format!("{name}=ours")).collect();
        assert_eq!(shown(ours.for_server(&[], Vec::new())), expected);
    }

    #[test]
    fn passed_variables_come_before_set_ones() {
        let ours = environment(&["A_KEY", "B", "OPENAI_API_KEY", "PATH", "TZ"]);
        let set = |name: &str, value: Option<&str>| (name.to_owned(), value.map(ToOwned::to_owned));
        let cases = [
            (vec!["A_*"], vec![], vec!["A_KEY=ours", "PATH=ours", "TZ=ours"]),
            (vec!["*_API_KEY"], vec![], vec!["OPENAI_API_KEY=ours", "PATH=ours", "TZ=ours"]),
            (vec!["B"], vec![set("B", Some("set"))], vec!["B=set", "PATH=ours", "TZ=ours"]),
            (vec!["MISSING"], vec![set("TZ", Some("UTC"))], vec!["PATH=ours", "TZ=UTC"]),
            (vec!["B"], vec![set("B", None), set("PATH", None)], vec!["TZ=ours"]),
            (vec![], vec![set("EMPTY", Some(""))], vec!["EMPTY=", "PATH=ours", "TZ=ours"]),
        ];
        for (pass, set, expected) in cases {
            let pass: Vec<String> = pass.into_iter().map(ToOwned::to_owned).collect();
            assert_eq!(shown(ours.for_server(&pass, set)), expected);
        }
    }

    #[test]
    fn whoever_has_another_home_is_not_led_into_the_real_one() {
        let ours: Environment = [
            ("HOME", "/home/u"),
            ("NPM_CONFIG_CACHE", "/home/u2/npm"),
            ("NPM_CONFIG_USERCONFIG", "/home/u/.npmrc"),
            ("PATH", "/home/u/bin:/bin"),
            ("SSL_CERT_FILE", "/home/u/ca.pem"),
            ("UV_CACHE_DIR", "/home/u/.cache/uv"),
            ("UV_OFFLINE", "1"),
            ("XDG_CACHE_HOME", "/var/cache/u"),
            ("XDG_CONFIG_HOME", "/home/u/.config"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        let seen = |pass: &[&str]| {
            let pass: Vec<String> = pass.iter().map(ToString::to_string).collect();
            let names = ours.without_home(&pass).for_server(&pass, Vec::new()).into_iter();
            names.map(|(name, _)| name.into_string().expect("ASCII")).collect::<Vec<_>>()
        };
        let always = ["NPM_CONFIG_CACHE", "PATH", "SSL_CERT_FILE", "UV_OFFLINE"];
        assert_eq!(seen(&[]), always);
        assert_eq!(seen(&["*"]), always);
        assert_eq!(seen(&["HOME"]), always);
        let named =
            ["NPM_CONFIG_CACHE", "PATH", "SSL_CERT_FILE", "UV_CACHE_DIR", "UV_OFFLINE", "XDG_CACHE_HOME"];
        assert_eq!(seen(&["UV_CACHE_DIR", "XDG_CACHE_HOME"]), named);
    }

    #[test]
    fn the_cache_is_where_the_user_keeps_caches() {
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(Variables, Option<&str>); 6] = [
            (&[], None),
            (&[("HOME", "/home/u")], Some("/home/u/.cache/spawnling")),
            (&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "/c")], Some("/c/spawnling")),
            (&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "c")], Some("/home/u/.cache/spawnling")),
            (&[("HOME", "/home/u"), ("SPAWNLING_CACHE_DIR", "/s")], Some("/s")),
            (&[("SPAWNLING_CACHE_DIR", "s")], Some("/here/s")),
        ];
        for (variables, expected) in cases {
            let ours: Environment =
                variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
            assert_eq!(ours.cache_dir(Path::new("/here")).as_deref(), expected.map(Path::new));
        }
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", environment(&["TOKEN"])), "{\"TOKEN\"}");
    }
}
