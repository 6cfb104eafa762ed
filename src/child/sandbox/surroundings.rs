//! What any program needs to see of a machine, and what each kind of server needs beyond that. Tables, and nothing else.

use crate::child::spec::sandbox::Preset;

/// The system: programs, libraries, and the few files of `/etc` without which no name is resolved and no certificate
/// checked. Not `/etc` as a whole: a gateway that runs as root would let its servers read `/etc/shadow`.
pub(super) const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/run/systemd/resolve",
    "/run/current-system",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Variables of the server that name files which its libraries open.
pub(super) const SYSTEM_VARIABLES: &[&str] =
    &["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];

/// What one kind of server needs.
pub(super) struct Needs {
    /// Read, anywhere.
    pub(super) read: &'static [&'static str],
    /// Read, below the home directory.
    pub(super) read_home: &'static [&'static str],
    /// Written, anywhere.
    pub(super) write: &'static [&'static str],
    /// Variables that name what is read.
    pub(super) read_named: &'static [&'static str],
    /// Variables that name an interpreter.
    pub(super) run_named: &'static [&'static str],
    /// A cache that is written.
    pub(super) cache: Option<Cache>,
    /// The same, only read.
    pub(super) library: Option<Cache>,
    /// Variables that are pointed into the scratch directory, so that what is kept there is neither shared nor kept.
    pub(super) in_scratch: &'static [(&'static str, &'static str)],
}

/// Where a cache is: named by a variable, below the user's cache directory, or below the home directory.
pub(super) struct Cache {
    /// The first of them is set to what was found.
    pub(super) variables: &'static [&'static str],
    pub(super) below_cache_home: Option<&'static str>,
    pub(super) below_home: &'static str,
}

const NOTHING: Needs = Needs {
    read: &[],
    read_home: &[],
    write: &[],
    read_named: &[],
    run_named: &[],
    cache: None,
    library: None,
    in_scratch: &[],
};

const PYTHON: Needs = Needs {
    read: &["/etc/python3"],
    // Interpreters that uv and pyenv installed.
    read_home: &[".local/share/uv/python", ".pyenv"],
    ..NOTHING
};

const NODE: Needs = Needs { read: &["/etc/nodejs"], ..NOTHING };

const UVX: Needs = Needs {
    read: &["/etc/python3", "/etc/uv"],
    read_home: &[".local/share/uv/python", ".pyenv", ".config/uv"],
    read_named: &[
        "UV_BUILD_CONSTRAINT",
        "UV_CONFIG_FILE",
        "UV_CONSTRAINT",
        "UV_EXCLUDE",
        "UV_OVERRIDE",
        "UV_PYTHON_INSTALL_DIR",
    ],
    run_named: &["UV_PYTHON"],
    cache: Some(Cache {
        variables: &["UV_CACHE_DIR"],
        below_cache_home: Some("uv"),
        below_home: ".cache/uv",
    }),
    // Where `uv tool install` puts the user's own programs, and `uvx` its locks.
    in_scratch: &[("UV_TOOL_DIR", ".uv-tools")],
    ..NOTHING
};

const NPX: Needs = Needs {
    read: &["/etc/nodejs", "/etc/npmrc"],
    cache: Some(Cache {
        variables: &["NPM_CONFIG_CACHE", "npm_config_cache"],
        below_cache_home: None,
        below_home: ".npm",
    }),
    ..NOTHING
};

const BROWSER: Needs = Needs {
    read: &[
        "/etc/chromium",
        "/etc/chromium.d",
        "/etc/debian_version",
        "/etc/fonts",
        "/etc/lsb-release",
        "/etc/opt/chrome",
        "/etc/vulkan",
        "/opt/google",
        "/opt/microsoft",
        "/sys",
        "/var/cache/fontconfig",
    ],
    read_home: &[".fonts", ".local/share/fonts"],
    // Its shared memory; `private_tmp` has it be its own.
    write: &["/dev/shm"],
    // Browsers that Playwright has installed. It writes beside them: under these presets, into the scratch directory.
    library: Some(Cache {
        variables: &["PLAYWRIGHT_BROWSERS_PATH"],
        below_cache_home: Some("ms-playwright"),
        below_home: ".cache/ms-playwright",
    }),
    in_scratch: &[("XDG_CACHE_HOME", ".cache"), ("XDG_CONFIG_HOME", ".config")],
    ..NOTHING
};

/// What a preset stands for.
pub(super) const fn needs(preset: Preset) -> &'static Needs {
    match preset {
        Preset::Python => &PYTHON,
        Preset::Node => &NODE,
        Preset::Uvx => &UVX,
        Preset::Npx => &NPX,
        Preset::Browser => &BROWSER,
    }
}
