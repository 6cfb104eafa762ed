//! Composition root: builds each room once, runs them, drains them in order.
//!
//! ```text
//!   build:  scratch root, reaper -> nursery -> server -> strategy -> calls -> catalog -> http
//!   again:  a changed configuration takes the place of the one that counts (reload.rs)
//!   stop:   not ready -> nothing more accepted -> calls end (a grace time) -> calls are ended -> connections end
//!           -> nobody holds a tree any more -> scratch root removed
//! ```

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

pub(crate) mod check;
mod diagnosis;
mod edge;
mod furnish;
mod hint;
mod means;
pub(crate) mod once;
pub(crate) mod progress;
mod receipt;
mod reload;
pub(crate) mod reuse;
mod signals;
mod tools;
mod watch;

use crate::auth::Mask;
use crate::call::admission::{House, Idleness, NoAccount, Pressure};
use crate::call::{self, Receipts};
use crate::catalog::Catalog;
use crate::child::{BoundsError, Containment, ContainmentError, Nursery, ScratchRoot, reaper};
use crate::config::{self, Config, Sources};
use crate::exchange::fault::chain;
use crate::exchange::{Shortage, Starts};
use crate::http::listen::address::Address;
use crate::http::{Live, Service, listen};
use crate::mcp::Verdicts;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{Traces, TracesError};
use furnish::{bound, furnish};
pub(crate) use means::runtime;
use reload::Reloading;
use signals::{Signals, Told};

/// How many servers start at once for each processor where nobody says: docs/decisions/starts-at-once.md.
const STARTS: usize = 4;
/// How long connections may take to hand over answers that are known.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long the end of what was told to end is waited for. Ladders are configured, so it is long.
const LAST_RESORT: Duration = Duration::from_mins(1);

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen { address: Address, source: io::Error },
    /// What we were handed to listen on is nothing of the kind.
    #[error("cannot listen on what was handed over (LISTEN_FDS)")]
    Inherited(#[source] io::Error),
    /// What we were handed to listen on can be reached from elsewhere, and nobody is asked for a token.
    #[error(
        "{address}, which was handed over (LISTEN_FDS), can be reached from other machines, and nobody is asked for a \
         token: add `[[tokens]]`, or give --insecure if that is what you want"
    )]
    Exposed { address: Address },
    /// There are no certificates to show.
    #[error("cannot set up TLS")]
    Tls(#[source] listen::TlsError),
    /// There is no place for scratch directories.
    #[error("cannot make a directory for scratch files below {}", base.display())]
    Scratch { base: std::path::PathBuf, source: io::Error },
    /// Trees cannot be held together as was asked for.
    #[error(transparent)]
    Containment(#[from] ContainmentError),
    /// Servers ask to be kept in bounds that cannot be had here; a line each.
    #[error("{}", lines(.0))]
    Bounds(Vec<Unbounded>),
    /// What is to be watched cannot be.
    #[error("`memory_pressure` cannot be had here")]
    Pressure(#[from] NoAccount),
    /// Nobody could be sent spans.
    #[error(transparent)]
    Traces(#[from] TracesError),
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

impl ServeError {
    /// What a person could do about it, where the words above do not say it.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "is it another gateway? Stop that, or take another address: `--listen 127.0.0.1:5002`, for example",
            ),
            Self::Runtime(error) => Shortage::behind(error).map(Shortage::remedy),
            Self::Scratch { source, .. } => Some(Shortage::behind(source).map_or(
                "is there room, and the right to write? The variable `TMPDIR` names another place",
                Shortage::remedy,
            )),
            _ => None,
        }
    }
}

/// A server asks to be kept in bounds that cannot be had here.
#[derive(Debug, thiserror::Error)]
#[error("its sandbox cannot be had here (`sandbox.best_effort = true` starts it all the same)")]
pub(crate) struct Unbounded {
    server: String,
    source: BoundsError,
}

/// What each of them asks for in vain.
fn lines(refused: &[Unbounded]) -> String {
    let line = |refused: &Unbounded| format!("{}: {}", refused.server, chain(refused));
    refused.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All servers of a configuration, ready to be called.
pub(crate) struct Rooms {
    /// Each with the settings that it was made of.
    servers: Vec<(config::Server, Arc<Catalog>)>,
    /// Those of the configuration that are not among them: nobody starts them without the bounds that they ask for.
    refused: Vec<Unbounded>,
    /// Servers that count no more, and what ends them.
    retired: Vec<Arc<Catalog>>,
    retiring: JoinSet<()>,
    shared: Shared,
    verdicts: Arc<Verdicts>,
    nursery: Nursery,
    /// What is to be waited for on the way out: trees without an owner, wardens.
    rescue: JoinSet<()>,
    /// What goes on until everything is given up.
    watches: JoinSet<()>,
}

impl Rooms {
    /// Builds everything below HTTP, but for servers that are refused. So many `receipts` are kept; spans go to the
    /// `collector`, if there is one.
    pub(crate) async fn build(
        config: &Config,
        receipts: usize,
        collector: Option<&str>,
        mask: &Mask,
    ) -> Result<Self, ServeError> {
        // Before anything is there that would have to be given up again.
        let pressure = config.memory_pressure.map(Pressure::of_this_machine).transpose()?;
        let mut watches = JoinSet::new();
        let base = std::env::temp_dir();
        let scratch = ScratchRoot::create(&base).map_err(|source| ServeError::Scratch { base, source })?;
        let metrics = Metrics::default();
        metrics.seats_overall(config.concurrent);
        let traces = collector.map(|address| Traces::to(address, metrics.spans()));
        let traces = traces.transpose()?.unwrap_or_default();
        let (reaper, taken_over) = reaper(metrics.rescued());
        let mut controllers: Vec<_> =
            config.servers.iter().flat_map(|server| server.spec.limits.controllers()).collect();
        controllers.sort_unstable();
        controllers.dedup();
        let (nursery, watch) = Nursery::open(scratch, reaper, config.containment, &controllers).await?;
        let nursery = nursery.counted(metrics.children());
        let mut rescue = JoinSet::new();
        rescue.spawn(taken_over.run());
        rescue.spawn(watch.run(metrics.wardens()));
        tell(&nursery);
        let verdicts = Arc::new(Verdicts::new(config.cache_dir.clone()));
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let starts = Starts::new(config.starts.unwrap_or(STARTS * processors)).ahead_up_to(processors);
        // Who was told a number keeps to it.
        let idleness =
            config.starts.is_none().then(|| Idleness::of_this_machine(processors, STARTS)).flatten();
        let house = House::new(config.concurrent, starts.clone()).or_idle(idleness);
        if let Some(pressure) = pressure {
            watches.spawn(house.clone().hold_back(pressure));
        }
        let shared = Shared {
            house: house.clone(),
            calls: call::Common {
                receipts: Arc::new(Receipts::new(receipts)),
                shares: Arc::default(),
                mask: mask.clone(),
                traces,
                tasks: crate::tasks::Tasks::here(),
            },
            starts,
            metrics,
        };
        let (servers, refused, retired, retiring) = (Vec::new(), Vec::new(), Vec::new(), JoinSet::new());
        let mut rooms =
            Self { servers, refused, retired, retiring, shared, verdicts, nursery, rescue, watches };
        for server in &config.servers {
            match rooms.furnish(server) {
                Ok(catalog) => rooms.servers.push((server.clone(), catalog)),
                Err(refused) => rooms.refused.push(refused),
            }
        }
        Ok(rooms)
    }

    /// The same, of a gateway, whose servers are all there or none: who serves half of what he was told to is found out
    /// by the callers of the other half.
    async fn whole(mut self) -> Result<Self, ServeError> {
        let refused = std::mem::take(&mut self.refused);
        if refused.is_empty() {
            return Ok(self);
        }
        self.leave().await;
        Err(ServeError::Bounds(refused))
    }

    /// Builds everything for one server.
    fn furnish(&self, server: &config::Server) -> Result<Arc<Catalog>, Unbounded> {
        let mut server = server.clone();
        let bounds = bound(&mut server, &self.nursery)?;
        Ok(Arc::new(furnish(&server, bounds, &self.nursery, &self.verdicts, &self.shared)))
    }

    /// All servers that count.
    fn catalogs(&self) -> Vec<Arc<Catalog>> {
        self.servers.iter().map(|(_, catalog)| Arc::clone(catalog)).collect()
    }

    /// The server of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Catalog>> {
        self.servers.iter().map(|(_, catalog)| catalog).find(|catalog| &**catalog.name() == name)
    }

    /// Lets no call in any more; gives those that are in `grace`; then ends them, and asks their servers to leave. Once `hurry`
    /// comes, nobody is asked: what is left is killed. `Err`: not everything could be killed.
    async fn drain(&self, grace: Duration, hurry: impl Future<Output = ()>) -> Result<(), Elapsed> {
        let mut catalogs = self.catalogs();
        catalogs.extend(self.retired.iter().map(Arc::clone));
        for catalog in &catalogs {
            catalog.calls().close();
        }
        let all = async {
            for catalog in &catalogs {
                catalog.calls().drain().await;
            }
        };
        let (mut all, mut hurry) = (std::pin::pin!(all), std::pin::pin!(hurry));
        let hurried = tokio::select! {
            () = all.as_mut() => return Ok(()),
            () = hurry.as_mut() => true,
            () = tokio::time::sleep(grace) => false,
        };
        for catalog in &catalogs {
            catalog.calls().stop();
        }
        if !hurried {
            tracing::warn!(?grace, "ending every call that is left");
            // Every rung of every ladder has a bound; only what cannot be killed has none.
            tokio::select! {
                ended = tokio::time::timeout(LAST_RESORT, all.as_mut()) => return ended,
                () = hurry => {}
            }
        }
        tracing::warn!("told to hurry: killing every server that is left");
        self.nursery.hurry();
        tokio::time::timeout(LAST_RESORT, all).await
    }

    /// Gives up everything. Returns when the trees that lost their owner, of which there should be none, are dead too.
    pub(crate) async fn leave(self) {
        let Self { servers, retired, mut retiring, nursery, mut rescue, watches, shared, .. } = self;
        let traces = shared.calls.traces;
        // Those of the last calls go out while the rest is given up. Where nobody wants them, this is nothing.
        let flushed =
            traces.are_wanted().then(|| tokio::task::spawn_blocking(move || traces.close(FAREWELL)));
        drop(watches);
        // Drained all the same, they have nothing to do any more but to wait for requests that were cut off.
        retiring.shutdown().await;
        let rescued = nursery.rescued();
        if rescued > 0 {
            tracing::error!(rescued, "process trees lost their owner; this is a defect");
        }
        drop((servers, retired));
        nursery.dismiss().await;
        drop(nursery);
        let all = async { while rescue.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_RESORT, all).await.is_err() {
            tracing::error!("leaving although not everything that lost its owner could be killed");
        }
        if let Some(flushed) = flushed {
            let _ = flushed.await;
        }
    }
}

/// What the calls of all servers have in common.
struct Shared {
    house: House,
    calls: call::Common,
    /// Servers that start at once.
    starts: Starts,
    metrics: Metrics,
}

/// Says how what is started here will be ended.
fn tell(nursery: &Nursery) {
    let (containment, refused) = (nursery.containment(), nursery.refused());
    let name = containment.name();
    let chosen = refused.is_empty();
    let refused = (!chosen).then(|| tracing::field::debug(refused));
    match containment {
        Containment::Group if chosen => tracing::info!(
            containment = name,
            "process groups are ended here, as was chosen: what leaves its group lives on"
        ),
        Containment::Group => tracing::warn!(
            containment = name,
            refused,
            "only process groups can be killed here: what leaves its group lives on"
        ),
        _ => tracing::info!(containment = name, refused, "every process that is started here can be ended"),
    }
}

/// Serves over HTTP until told to stop, and returns when nothing is left. `config` was read from `sources`, and is read
/// again when that is asked for.
pub(crate) fn serve(config: Config, sources: Sources, mask: &Mask) -> Result<(), ServeError> {
    // Before there are threads: it takes the variables that speak of them away.
    let inherited = listen::Inherited::take().map_err(ServeError::Inherited)?;
    runtime()?.block_on(run(config, sources, inherited, mask))
}

async fn run(
    mut config: Config,
    sources: Sources,
    inherited: listen::Inherited,
    mask: &Mask,
) -> Result<(), ServeError> {
    let mut signals = Signals::new(!config.files.is_empty()).map_err(ServeError::Runtime)?;
    let listeners = edge::listeners(&config, inherited)?;
    let announced: Vec<String> = listeners.iter().map(ToString::to_string).collect();
    let listening: Vec<Address> = listeners.iter().map(|listener| listener.address().clone()).collect();
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(listen::Listener::plain).collect();
    let certificates = listeners.iter().find_map(listen::Listener::certificates).map(Arc::clone);
    config.announce_origins(&origins(&addresses));
    for notice in config.notices.iter().cloned().chain(means::doubt(config.concurrent)) {
        tracing::warn!("{notice}");
    }
    let rooms = Rooms::build(&config, config.receipts, config.otlp.as_deref(), mask).await?;
    let mut rooms = rooms.whole().await?;
    let draining = CancellationToken::new();
    let (catalogs, receipts) = (rooms.catalogs(), Arc::clone(&rooms.shared.calls.receipts));
    let service =
        Service::new(edge::http(&config, mask, &rooms.shared.metrics), catalogs, receipts, draining.clone());
    let live = Arc::new(Live::new(service));
    let stop = listen::Stop::default();
    let mut serving = JoinSet::new();
    serving.spawn(listen::run(listeners, Arc::clone(&live), stop.clone()));
    // Before anybody knows that we are there: whoever changes a file from then on is noticed.
    let mut reloading = Reloading::new((sources, config), listening, addresses, draining.clone(), mask);
    announce(&announced).map_err(ServeError::Stdout)?;
    edge::tell_manager(edge::State::Ready);
    rooms.catalogs().iter().for_each(|catalog| catalog.calls().open());

    loop {
        let told = tokio::select! {
            told = signals.told() => told,
            () = reloading.changed() => Told::Reload,
        };
        match told {
            Told::Reload => {
                edge::tell_manager(edge::State::Reloading);
                if let Some(certificates) = &certificates {
                    certificates.read_again();
                }
                reloading.reload(&mut rooms, &live);
                edge::tell_manager(edge::State::Ready);
            }
            Told::Stop => break,
        }
    }
    tracing::info!("stopping: running calls may end");
    edge::tell_manager(edge::State::Stopping);
    draining.cancel();
    stop.gently.cancel();
    let drained = rooms.drain(reloading.config().drain, signals.stop()).await;
    if tokio::time::timeout(FAREWELL, serving.join_next()).await.is_err() {
        stop.hard.cancel();
    }
    while serving.join_next().await.is_some() {}
    // What is left of its servers goes with it.
    drop(live);
    let containment = rooms.nursery.containment();
    rooms.leave().await;
    drained.map_err(|_| ServeError::StillAlive)?;
    let what = if containment == Containment::Group { "process group of a server" } else { "process" };
    tracing::info!("stopped: no {what} is left");
    Ok(())
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
fn announce(listeners: &[String]) -> io::Result<()> {
    let line = |listener: &String| format!("spawnling listening on {listener}\n");
    let lines: String = listeners.iter().map(line).collect();
    let mut stdout = io::stdout().lock();
    // At once: whoever needs the first line only may close the pipe behind it.
    stdout.write_all(lines.as_bytes())?;
    stdout.flush()
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
