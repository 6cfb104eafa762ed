//! The whole configuration: read in layers, checked once, handed out in pieces.
//!
//! ```text
//!   flags  >  SPAWNLING_* variables  >  file  >  defaults
//!
//!   -- COMMAND ARGS       one server called `default`, and no file
//!   else a file           --config, SPAWNLING_CONFIG, ./spawnling.toml: the first that is given or there
//!   else neither          the embedded default: `demo`, and `browser` behind the original API
//! ```
//!
//! [`load`] reads everything before it gives up, so that whoever wrote a file learns of all mistakes at once, each
//! with its place. Nothing is accepted that has no effect: a key of which we do not know the meaning, or cannot yet
//! keep the promise, is a mistake. Whoever holds a [`Config`] need not check anything again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::{Secret, Token};
use crate::child::spec::sandbox::Sandbox;
use crate::child::spec::{self, Choice, Home, Spec, Teardown};
use crate::exchange::HeaderVariable;
use crate::http::listen::address::Address;
use crate::mcp::era::Protocol;

mod browser;
mod complaint;
mod edge;
mod env;
mod expand;
mod file;
mod headers;
mod layers;
mod print;
mod routes;
mod sandbox;
mod schema;
mod server;
mod stamp;
mod strategy;
mod table;
mod tokens;
mod tree;
mod value;

pub(crate) use browser::Browser;
pub(crate) use edge::Edge;
pub(crate) use env::Environment;
pub(crate) use layers::load;
pub(crate) use routes::{Response as RouteResponse, Route};
pub(crate) use schema::{Format as SchemaFormat, schema};
pub(crate) use stamp::{Stamp, Stamped};
pub(crate) use value::duration_text;

use complaint::Origin;

/// Where the gateway listens if nobody says anything else.
const LISTEN: Address = Address::Tcp(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5001));
/// How large a body may be if nobody says anything else.
const BODY_LIMIT: usize = 4 << 20;
/// By this variable the stand-in learns which origins are the gateway's own.
const ORIGIN_VARIABLE: &str = "SPAWNLING_ORIGIN";

/// What the gateway is asked to be.
#[derive(Debug)]
pub(crate) struct Config {
    /// Addresses to listen on, at least one.
    pub(crate) listen: Vec<Address>,
    /// What becomes of those that other machines can reach: whoever hands us further ones is held to the same.
    pub(crate) exposure: Exposure,
    /// How much the HTTP edge bears, and for how long.
    pub(crate) edge: Edge,
    /// How many server processes may live at once, over all servers.
    pub(crate) concurrent: usize,
    /// How many servers may be starting at once, over all of them; `None`: as the machine is.
    pub(crate) starts: Option<usize>,
    /// Above which share of time lost for want of memory, in percent, nobody is let in; `None`: nobody looks.
    pub(crate) memory_pressure: Option<u32>,
    /// How long calls may go on once the gateway is told to stop.
    pub(crate) drain: Duration,
    /// What makes trees killable as a whole.
    pub(crate) containment: Choice,
    /// The longest request body, in bytes.
    pub(crate) body_limit: usize,
    /// How many calls that are over are remembered, each with its receipt; 0: none, nor those that go on.
    pub(crate) receipts: usize,
    /// Where spans of calls are sent to, if anywhere: the address for traces itself.
    pub(crate) otlp: Option<String>,
    /// To whom the metrics are shown.
    pub(crate) metrics: MetricsFor,
    /// Names beside those of the loopback that `Host` and `Origin` may hold; lower case, no ports.
    pub(crate) hosts: Vec<String>,
    /// The servers, at least one, in the order of the file.
    pub(crate) servers: Vec<Server>,
    /// The server that is meant where none is named: the only one, or the one called `default`.
    pub(crate) default_server: Option<String>,
    /// What the original API runs; `None`: it is off.
    pub(crate) browser: Option<Browser>,
    /// Who may ask, and for what; none: whoever reaches the gateway, everything.
    pub(crate) tokens: Vec<Token>,
    /// What nothing that is written may show.
    pub(crate) secrets: Vec<Secret>,
    /// Routes of one's own.
    pub(crate) routes: Vec<Route>,
    /// Where things may be kept from one start to the next.
    pub(crate) cache_dir: Option<PathBuf>,
    /// What was passed over, each with its place and the reason.
    pub(crate) notices: Vec<String>,
    /// The files that it was read from; none: there was no file.
    pub(crate) files: Vec<Stamped>,
    /// The names of the servers that are part of this program.
    embedded: Vec<String>,
    /// Where each setting came from, by its path in the file.
    origins: BTreeMap<String, Origin>,
}

/// One configured MCP server. Two that are equal behave alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Server {
    /// 1 to 64 of `A-Z a-z 0-9 _ . -`.
    pub(crate) name: String,
    /// The key that it stands under in a file; it may go by another name there.
    pub(crate) key: String,
    /// What to start.
    pub(crate) spec: Spec,
    /// What is known of its era.
    pub(crate) protocol: Protocol,
    /// Where its instances come from.
    pub(crate) strategy: StrategyKind,
    /// The longest that a whole call may take.
    pub(crate) deadline: Duration,
    /// The longest that its start may take, up to the end of the handshake.
    pub(crate) open_deadline: Duration,
    /// How much of everything its calls may use.
    pub(crate) limits: Limits,
    /// What becomes of a call whose caller leaves.
    pub(crate) on_disconnect: OnDisconnect,
    /// What becomes of arguments that do not fit the tool's schema.
    pub(crate) validate: Validate,
    /// How long a list is fresh, of a server that does not say.
    pub(crate) list_ttl: Duration,
    /// Whether the gateway is not ready while it cannot be started.
    pub(crate) required: bool,
    /// Headers of a request whose values are variables of the call's process; only under [`StrategyKind::Fresh`].
    pub(crate) header_env: Vec<HeaderVariable>,
    /// Values in its environment that are shown to nobody.
    pub(crate) secrets: Vec<Secret>,
}

/// How much of everything one server's calls may use. All of it is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Process trees alive at once.
    pub(crate) concurrent: usize,
    /// Calls that wait for one of them to end.
    pub(crate) queue: usize,
    /// How long each of those waits.
    pub(crate) queue_timeout: Duration,
    /// The longest single message, in bytes.
    pub(crate) output: usize,
    /// How much of the end of stderr is kept, in bytes.
    pub(crate) stderr: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: 8,
            queue: 64,
            queue_timeout: Duration::from_secs(10),
            output: 64 << 20,
            stderr: 64 << 10,
        }
    }
}

/// Where a call's instance comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StrategyKind {
    /// Spawned for this call, ended with it.
    #[default]
    Fresh,
    /// Spawned and opened ahead, used once, ended with its call.
    Prewarmed(Standby),
    /// Given back after a call, and used again.
    Pooled(Pool),
    /// One for many calls at once.
    Shared,
}

/// How many servers stand by, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standby {
    /// So many even if nobody calls.
    pub(crate) min: usize,
    /// Never more; at least `min`.
    pub(crate) max: usize,
    /// None older than this is used.
    pub(crate) max_age: Duration,
}

impl Default for Standby {
    fn default() -> Self {
        Self { min: 1, max: 4, max_age: Duration::from_mins(10) }
    }
}

/// How much use is made of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    /// So many calls at most.
    pub(crate) uses: usize,
    /// None is given to a call when it is older.
    pub(crate) max_age: Duration,
    /// So long does one wait for a call.
    pub(crate) idle: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self { uses: 1000, max_age: Duration::from_hours(1), idle: Duration::from_mins(5) }
    }
}

/// What becomes of a call whose caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OnDisconnect {
    /// It is cancelled.
    #[default]
    Cancel,
    /// It goes on to its end, for the sake of what it does on the way.
    Finish,
}

/// To whom the metrics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MetricsFor {
    /// Whoever asks from this machine, and tokens with `diagnostics`.
    #[default]
    Loopback,
    /// Tokens with `diagnostics`; where there are no tokens, whoever asks from this machine.
    Token,
    /// Whoever can reach the gateway.
    Everybody,
}

impl MetricsFor {
    /// All of them, as they are written.
    pub(crate) const ALL: &[(&str, Self)] =
        &[("loopback", Self::Loopback), ("token", Self::Token), ("open", Self::Everybody)];
}

/// What becomes of arguments that do not fit the tool's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Validate {
    /// The call is refused.
    #[default]
    Enforce,
    /// The call is made, and the log says so.
    Warn,
    /// Nobody looks.
    Off,
}

impl Server {
    /// A server with every setting at its default.
    pub(crate) fn new(name: &str, spec: Spec) -> Self {
        Self {
            name: name.to_owned(),
            key: table::path_to("servers", name),
            spec,
            protocol: Protocol::default(),
            strategy: StrategyKind::default(),
            deadline: Duration::from_mins(1),
            open_deadline: Duration::from_secs(30),
            limits: Limits::default(),
            on_disconnect: OnDisconnect::default(),
            validate: Validate::default(),
            list_ttl: Duration::from_mins(5),
            required: false,
            header_env: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

fn plain_spec(program: PathBuf) -> Spec {
    Spec {
        program,
        args: Vec::new(),
        env: Vec::new(),
        home: Home::Real,
        cwd: None,
        stderr_limit: Limits::default().stderr,
        limits: spec::limits::Limits::default(),
        wish: None,
        sandbox: Sandbox::default(),
        teardown: Teardown::default(),
    }
}

impl Config {
    /// Has every call of every server get a process of its own, whatever their strategies are.
    pub(crate) fn make_fresh(&mut self) {
        self.servers.iter_mut().for_each(|server| server.strategy = StrategyKind::Fresh);
    }

    /// Lets the embedded servers fetch this gateway's own pages, now that its ports are known. No other server's
    /// environment is touched.
    pub(crate) fn announce_origins(&mut self, origins: &[String]) {
        let embedded = &self.embedded;
        let mut origins = origins.to_vec();
        for localhost in origins.clone().iter().filter_map(|origin| localhost(origin)) {
            if !origins.contains(&localhost) {
                origins.push(localhost);
            }
        }
        for server in self.servers.iter_mut().filter(|server| embedded.contains(&server.name)) {
            server.spec.env.retain(|(name, _)| name != ORIGIN_VARIABLE);
            server.spec.env.push((ORIGIN_VARIABLE.into(), origins.join(",").into()));
        }
    }
}

/// The same origin by the name that people type, where that name leads to it.
fn localhost(origin: &str) -> Option<String> {
    let address: SocketAddr = origin.strip_prefix("http://")?.parse().ok()?;
    let ip = address.ip();
    // Of the loopback's many addresses the name stands for these two only.
    let named = ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    named.then(|| format!("http://localhost:{}", address.port()))
}

/// Everything that has a say in the configuration, apart from the file itself.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// `--config`
    pub(crate) config: Option<PathBuf>,
    /// `--listen`, each time that it was given
    pub(crate) listen: Vec<String>,
    /// What becomes of addresses that others can reach, though nobody asks them for a token.
    pub(crate) exposure: Exposure,
    /// `--drain`
    pub(crate) drain: Option<String>,
    /// `--otlp-endpoint`
    pub(crate) otlp: Option<String>,
    /// `--containment`
    pub(crate) containment: Option<String>,
    /// What stands behind `--`: a server's command; empty: nothing does.
    pub(crate) command: Vec<OsString>,
    /// Where the gateway was started.
    pub(crate) surroundings: Surroundings,
}

impl Sources {
    /// Nothing said by any flag.
    pub(crate) const fn plain(surroundings: Surroundings) -> Self {
        Self {
            config: None,
            listen: Vec::new(),
            exposure: Exposure::Moot,
            drain: None,
            otlp: None,
            containment: None,
            command: Vec::new(),
            surroundings,
        }
    }
}

/// What becomes of addresses to listen on that other machines can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Nobody is going to listen: they are read, not judged.
    Moot,
    /// They are refused.
    Refused,
    /// `--insecure`: they are accepted, with a notice.
    Accepted,
}

/// Where the gateway was started.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Its environment.
    pub(crate) environment: Environment,
    /// Its working directory, absolute.
    pub(crate) dir: PathBuf,
    /// Its own executable, which is also the embedded servers'.
    pub(crate) program: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn ours() -> io::Result<Self> {
        Ok(Self {
            environment: std::env::vars_os().collect(),
            dir: std::env::current_dir()?,
            program: std::env::current_exe()?,
        })
    }

    fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.join(path)
    }
}

#[cfg(test)]
mod tests;
