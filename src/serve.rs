//! Composition root: builds each room once, runs them, drains them in order.
//!
//! ```text
//!   build:  scratch root, reaper -> nursery -> server -> strategy -> calls -> catalog -> http
//!   stop:   not ready -> nothing more accepted -> calls end (a grace time) -> calls are ended -> connections end
//!           -> nobody holds a tree any more -> scratch root removed
//! ```

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

mod hint;
pub(crate) mod once;
mod receipt;

use crate::auth::{Gate, Mask};
use crate::call::admission::{Admission, House, Limits};
use crate::call::{self, Calls, Receipts};
use crate::catalog::{self, Catalog, LimitsInForce};
use crate::child::{BoundsError, Containment, ContainmentError, Nursery, ScratchRoot, reaper};
use crate::config::{self, Config};
use crate::exchange::Bounds;
use crate::http::{self, BrowserApi, Service, listen};
use crate::instance::{Making, Server};
use crate::mcp::Verdicts;
use crate::mcp::era::Protocol;
use crate::strategy::{Fresh, Prewarmed, Standby, Strategy};

/// How long connections may take to hand over answers that are known.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long the end of what was told to end is waited for. Ladders are configured, so it is long.
const LAST_RESORT: Duration = Duration::from_mins(1);
/// How many threads may remove files at once. Each keeps some memory for what comes next.
const BLOCKING: usize = 4;

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    /// There is no place for scratch directories.
    #[error("cannot make a directory for scratch files below {}", base.display())]
    Scratch { base: std::path::PathBuf, source: io::Error },
    /// Trees cannot be held together as was asked for.
    #[error(transparent)]
    Containment(#[from] ContainmentError),
    /// A server asks to be kept in bounds that cannot be had here.
    #[error("{server}: its sandbox cannot be had here (`sandbox.best_effort = true` starts it all the same)")]
    Bounds { server: String, source: BoundsError },
    /// The runtime or the signal handlers could not be set up.
    #[error("cannot set up the runtime")]
    Runtime(#[source] io::Error),
    /// A server is of another user by now, or hangs in the kernel.
    #[error("stopped, but processes of a server could not be killed and live on")]
    StillAlive,
    /// Nobody can be told the address.
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
}

/// All servers of a configuration, ready to be called.
pub(crate) struct Rooms {
    catalogs: Vec<Arc<Catalog>>,
    receipts: Arc<Receipts>,
    nursery: Nursery,
    /// What is to be waited for on the way out: trees without an owner, wardens.
    rescue: JoinSet<()>,
}

impl Rooms {
    /// Builds everything below HTTP. So many `receipts` are kept.
    pub(crate) async fn build(config: &Config, receipts: usize, mask: &Mask) -> Result<Self, ServeError> {
        let base = std::env::temp_dir();
        let scratch = ScratchRoot::create(&base).map_err(|source| ServeError::Scratch { base, source })?;
        let (reaper, taken_over) = reaper();
        let mut controllers: Vec<_> =
            config.servers.iter().flat_map(|server| server.spec.limits.controllers()).collect();
        controllers.sort_unstable();
        controllers.dedup();
        let (nursery, watch) = Nursery::open(scratch, reaper, config.containment, &controllers).await?;
        let mut rescue = JoinSet::new();
        rescue.spawn(taken_over.run());
        rescue.spawn(watch.run());
        tell(&nursery);
        let verdicts = Arc::new(Verdicts::new(config.cache_dir.clone()));
        // More starts at once than processors only slow each other down, and the calls beside them.
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shared = Shared {
            house: House::new(config.concurrent),
            calls: call::Common {
                receipts: Arc::new(Receipts::new(receipts)),
                shares: Arc::default(),
                mask: mask.clone(),
            },
            starts: Arc::new(Semaphore::new(processors)),
        };
        let catalog = |server: &config::Server| {
            let mut server = server.clone();
            let bounds = bound(&mut server, &nursery)?;
            Ok::<_, ServeError>(Arc::new(furnish(&server, bounds, &nursery, &verdicts, &shared)))
        };
        let catalogs = config.servers.iter().map(catalog).collect::<Result<_, _>>();
        let receipts = shared.calls.receipts;
        match catalogs {
            Ok(catalogs) => Ok(Self { catalogs, receipts, nursery, rescue }),
            Err(error) => {
                Self { catalogs: Vec::new(), receipts, nursery, rescue }.leave().await;
                Err(error)
            }
        }
    }

    /// The server of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Catalog>> {
        self.catalogs.iter().find(|catalog| &**catalog.name() == name)
    }

    /// Lets no call in any more; gives those that are in `grace`, unless `hurry` comes first; then ends them. `Err`: not
    /// everything could be killed.
    async fn drain(&self, grace: Duration, hurry: impl Future<Output = ()>) -> Result<(), Elapsed> {
        self.catalogs.iter().for_each(|catalog| catalog.calls().close());
        let all = async {
            for catalog in &self.catalogs {
                catalog.calls().drain().await;
            }
        };
        let mut all = std::pin::pin!(all);
        tokio::select! {
            () = all.as_mut() => return Ok(()),
            () = hurry => tracing::warn!("told to hurry: ending every call that is left"),
            () = tokio::time::sleep(grace) => tracing::warn!(?grace, "ending every call that is left"),
        }
        self.catalogs.iter().for_each(|catalog| catalog.calls().stop());
        // Every rung of every ladder has a bound; only what cannot be killed has none.
        tokio::time::timeout(LAST_RESORT, all).await
    }

    /// Gives up everything. Returns when the trees that lost their owner, of which there should be none, are dead too.
    pub(crate) async fn leave(self) {
        let Self { catalogs, nursery, mut rescue, .. } = self;
        let rescued = nursery.rescued();
        if rescued > 0 {
            tracing::error!(rescued, "process trees lost their owner; this is a defect");
        }
        drop(catalogs);
        nursery.dismiss().await;
        drop(nursery);
        let all = async { while rescue.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_RESORT, all).await.is_err() {
            tracing::error!("leaving although not everything that lost its owner could be killed");
        }
    }
}

/// What the calls of all servers have in common.
struct Shared {
    house: House,
    calls: call::Common,
    /// Servers that are started ahead, at once.
    starts: Arc<Semaphore>,
}

/// Says how what is started here will be ended.
fn tell(nursery: &Nursery) {
    let (containment, refused) = (nursery.containment(), nursery.refused());
    let name = containment.name();
    if containment == Containment::Group && !refused.is_empty() {
        tracing::warn!(
            containment = name,
            ?refused,
            "only process groups can be killed here: what leaves its group lives on"
        );
    } else {
        tracing::info!(containment = name, ?refused, "every process that is started here can be ended");
    }
}

/// Finds out in which bounds a server is kept, and says loudly what of them nobody sees to.
fn bound(server: &mut config::Server, nursery: &Nursery) -> Result<Bounds, ServeError> {
    let bounds = nursery
        .bound(&mut server.spec)
        .map_err(|source| ServeError::Bounds { server: server.name.clone(), source })?;
    for missing in bounds.missing() {
        tracing::warn!(server = server.name, key = missing.what, why = missing.how, "NOT ENFORCED");
    }
    Ok(bounds)
}

fn furnish(
    server: &config::Server,
    bounds: Bounds,
    nursery: &Nursery,
    verdicts: &Arc<Verdicts>,
    shared: &Shared,
) -> Catalog {
    let config::Limits { concurrent, queue, queue_timeout, output, stderr } = server.limits;
    let name: Arc<str> = server.name.as_str().into();
    let making = Making {
        spec: server.spec.clone(),
        protocol: server.protocol,
        open_deadline: server.open_deadline,
        output,
    };
    let instances = Arc::new(Server::new(making, nursery.clone(), Arc::clone(verdicts)));
    let admission = Admission::new(Limits { concurrent, queue, queue_timeout }, shared.house.clone());
    let strategy: Box<dyn Strategy> = match server.strategy {
        config::StrategyKind::Fresh => Box::new(Fresh::new(instances)),
        config::StrategyKind::Prewarmed(config::Standby { min, max, max_age }) => {
            let terms = Standby { min, max, max_age };
            let starts = Arc::clone(&shared.starts);
            Box::new(Prewarmed::new(instances, terms, admission.spare_seats(), starts))
        }
    };
    let on_disconnect = match server.on_disconnect {
        config::OnDisconnect::Cancel => call::OnDisconnect::Cancel,
        config::OnDisconnect::Finish => call::OnDisconnect::Finish,
    };
    let calls = Calls::new(Arc::clone(&name), admission, strategy, on_disconnect, shared.calls.clone());
    let (deadline, open_deadline) = (server.deadline, server.open_deadline);
    let settings = catalog::Settings {
        validate: match server.validate {
            config::Validate::Enforce => catalog::Validate::Enforce,
            config::Validate::Warn => catalog::Validate::Warn,
            config::Validate::Off => catalog::Validate::Off,
        },
        list_ttl: server.list_ttl,
        protocol: match server.protocol {
            Protocol::Auto => "auto",
            Protocol::Legacy => "legacy",
            Protocol::Modern => "modern",
        },
        bounds: bounds.into(),
        limits: LimitsInForce { concurrent, queue, queue_timeout, deadline, open_deadline, output, stderr },
    };
    Catalog::new(name, calls, settings)
}

/// Serves over HTTP until told to stop, and returns when nothing is left.
pub(crate) fn serve(config: Config, mask: &Mask) -> Result<(), ServeError> {
    runtime()?.block_on(run(config, mask))
}

/// The runtime that everything runs in.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(BLOCKING).build().map_err(ServeError::Runtime)
}

async fn run(mut config: Config, mask: &Mask) -> Result<(), ServeError> {
    let mut signals = Signals::new().map_err(ServeError::Runtime)?;
    let listeners = bind(&config)?;
    let addresses: Vec<SocketAddr> = listeners.iter().map(listen::Listener::local_addr).collect();
    config.announce_origins(&origins(&addresses));
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let rooms = Rooms::build(&config, config.receipts, mask).await?;
    let draining = CancellationToken::new();
    let (catalogs, receipts) = (rooms.catalogs.clone(), Arc::clone(&rooms.receipts));
    let service = Arc::new(Service::new(http_config(&config, mask), catalogs, receipts, draining.clone()));
    let stop = listen::Stop::default();
    let mut serving = JoinSet::new();
    serving.spawn(listen::run(listeners, service, stop.clone()));
    announce(&addresses).map_err(ServeError::Stdout)?;
    rooms.catalogs.iter().for_each(|catalog| catalog.calls().open());

    signals.next().await;
    tracing::info!("stopping: running calls may end");
    draining.cancel();
    stop.gently.cancel();
    let drained = rooms.drain(config.drain, signals.next()).await;
    if tokio::time::timeout(FAREWELL, serving.join_next()).await.is_err() {
        stop.hard.cancel();
    }
    while serving.join_next().await.is_some() {}
    rooms.leave().await;
    drained.map_err(|_| ServeError::StillAlive)?;
    tracing::info!("stopped: no process is left");
    Ok(())
}

fn bind(config: &Config) -> Result<Vec<listen::Listener>, ServeError> {
    let bind = |address: &SocketAddr| {
        let address = *address;
        listen::Listener::bind(address).map_err(|source| ServeError::Listen { address, source })
    };
    config.listen.iter().map(bind).collect()
}

fn http_config(config: &Config, mask: &Mask) -> http::Config {
    let browser = config.browser.as_ref().map(|browser| {
        let available = browser.available.clone();
        BrowserApi {
            server: browser.server.as_str().into(),
            tool: browser.tool.clone(),
            available: Arc::new(move || available.check()),
        }
    });
    http::Config {
        body_limit: config.body_limit,
        hosts: config.hosts.clone(),
        browser,
        gate: Gate::new(config.tokens.iter().cloned()),
        mask: mask.clone(),
        default_server: config.default_server.as_deref().map(Into::into),
        ..http::Config::default()
    }
}

/// The gateway's own origins. One that listens on every address is visited on the loopback.
fn origins(addresses: &[SocketAddr]) -> Vec<String> {
    let near = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        // Listeners of IPv6 take both.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        IpAddr::V4(_) | IpAddr::V6(_) => Vec::new(),
    };
    let all = |address: &SocketAddr| {
        let near = near(address).into_iter().map(|ip: IpAddr| SocketAddr::new(ip, address.port()));
        [*address].into_iter().chain(near).map(|address| format!("http://{address}")).collect::<Vec<_>>()
    };
    addresses.iter().flat_map(all).collect()
}

/// One line per listener, as soon as it answers: whoever started us waits for it.
fn announce(addresses: &[SocketAddr]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for address in addresses {
        writeln!(stdout, "spawnling listening on http://{address}")?;
    }
    stdout.flush()
}

/// What tells us to stop: SIGTERM from supervisors, SIGINT and SIGQUIT from keyboards, SIGHUP from a terminal that is
/// closed. By default each of them would end us on the spot, and our servers would be nobody's.
struct Signals([Signal; 4]);

impl Signals {
    fn new() -> io::Result<Self> {
        let kinds =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()];
        let [term, int, quit, hup] = kinds.map(signal);
        Ok(Self([term?, int?, quit?, hup?]))
    }

    async fn next(&mut self) {
        let [term, int, quit, hup] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_on_every_address_is_itself_on_the_loopback_too() {
        let of = |address: &str| origins(&[address.parse().unwrap()]).join(" ");
        assert_eq!(of("127.0.0.1:1"), "http://127.0.0.1:1");
        assert_eq!(of("0.0.0.0:1"), "http://0.0.0.0:1 http://127.0.0.1:1");
        assert_eq!(of("[::]:1"), "http://[::]:1 http://[::1]:1 http://127.0.0.1:1");
        assert_eq!(of("192.0.2.1:1"), "http://192.0.2.1:1");
    }
}
