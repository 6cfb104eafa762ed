//! Another configuration in the place of the one that counts, while calls go on.
//!
//! ```text
//!   SIGHUP, or a file has changed -> read it all again -- wrong --> said in the log; nothing changes
//!     -> furnish the servers that are new or have changed; the others stay as they are, with all that they keep
//!     -> new requests are answered by the new ones
//!     -> the old ones: no standbys any more; when the last request to them has its answer, drained to the last process
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use super::{Rooms, ServeError, edge, origins};
use crate::auth::Mask;
use crate::catalog::Catalog;
use crate::config::{self, Config, Exposure, Sources, Stamped};
use crate::http::listen::address::Address;
use crate::http::{Live, Service};

/// What is needed to read the configuration again, and the one that counts.
pub(super) struct Reloading {
    sources: Sources,
    config: Config,
    /// What has counted since the start, whatever a file says by now.
    at_start: Vec<Fixed>,
    /// Where we listen, likewise; and those of it that a browser can speak plain HTTP to.
    listening: Vec<Address>,
    addresses: Vec<SocketAddr>,
    draining: CancellationToken,
    /// What nothing that is written may show, from each configuration that ever counted.
    mask: Mask,
    watch: Watch,
}

impl Reloading {
    /// `config` counts, and was read from `sources`.
    pub(super) fn new(
        (sources, config): (Sources, Config),
        listening: Vec<Address>,
        addresses: Vec<SocketAddr>,
        draining: CancellationToken,
        mask: &Mask,
    ) -> Self {
        let (watch, mask, at_start) = (Watch::new(&config.files), mask.clone(), fixed(&config));
        Self { sources, config, at_start, listening, addresses, draining, mask, watch }
    }

    /// The configuration that counts.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns when a file that it was read from is another.
    pub(super) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Reads everything again and puts it in place, if it can be used.
    pub(super) fn reload(&mut self, rooms: &mut Rooms, live: &Live) {
        let before =
            self.config.files.iter().map(|file| Stamped::before_reading(file.path.clone())).collect();
        if let Err(Unusable { wrong, files }) =
            self.read().and_then(|config| self.put_in_place(config, rooms, live))
        {
            tracing::warn!(wrong, "the configuration cannot be used; the one before stays in place");
            // What it named beside those may mend it: a secret that is there a moment later, for example.
            self.watch = Watch::new(&together(files, before));
        }
    }

    fn read(&self) -> Result<Config, Unusable> {
        let mut config = config::load(&self.sources)
            .map_err(|complaints| Unusable { wrong: complaints.to_string(), files: complaints.files })?;
        let unusable = |wrong, config: &Config| Unusable { wrong, files: config.files.clone() };
        if config.files.is_empty() {
            // Of a file that nobody named it would be as if there had never been one.
            return Err(unusable("its file is gone".to_owned(), &config));
        }
        // The file was judged by where it would have us listen; and what was handed over it does not know of.
        if config.exposure == Exposure::Refused
            && let Some(address) = edge::exposed(&self.listening, &config).next()
        {
            let what = format!(
                "{address}, which is listened on until the next start, can be reached from other machines, and nobody would be \
                 asked for a token any more"
            );
            return Err(unusable(what, &config));
        }
        // Before anything can be written of them.
        self.mask.learn(&config.secrets);
        config.announce_origins(&origins(&self.addresses));
        Ok(config)
    }

    fn put_in_place(&mut self, config: Config, rooms: &mut Rooms, live: &Live) -> Result<(), Unusable> {
        let Refurnished { old, added } = rooms.refurnish(&config).map_err(|error| {
            let wrong = crate::exchange::fault::chain(&error);
            Unusable { wrong, files: config.files.clone() }
        })?;
        for notice in config.notices.iter().filter(|notice| !self.config.notices.contains(notice)) {
            tracing::warn!("{notice}");
        }
        let (last, now) = (fixed(&self.config), fixed(&config));
        for (key, _) in now.iter().filter(|one| !last.contains(one) && !self.at_start.contains(one)) {
            tracing::warn!(key, "has changed, and takes a restart to count");
        }
        let service = Service::new(
            edge::http(&config, &self.mask, &rooms.shared.metrics),
            rooms.catalogs(),
            Arc::clone(&rooms.shared.calls.receipts),
            self.draining.clone(),
        );
        let unused = live.replace(service);
        for catalog in &added {
            catalog.calls().open();
        }
        let names = |all: &[Arc<Catalog>]| all.iter().map(|one| one.name().to_string()).collect::<Vec<_>>();
        let (started, ended) = (names(&added), names(&old));
        tracing::info!(?started, ?ended, "the configuration was read again and is in place");
        rooms.retire(old, &unused);
        self.watch = Watch::new(&config.files);
        self.config = config;
        Ok(())
    }
}

/// Why a configuration is not put in place, and the files that it was read from.
struct Unusable {
    wrong: String,
    files: Vec<Stamped>,
}

/// Those of both, each once.
fn together(mut files: Vec<Stamped>, others: Vec<Stamped>) -> Vec<Stamped> {
    for other in others {
        if !files.iter().any(|file| file.path == other.path) {
            files.push(other);
        }
    }
    files
}

/// A key, and what it is set to.
type Fixed = (&'static str, String);

/// What is fixed at the start: another value cannot count before the next one.
fn fixed(config: &Config) -> Vec<Fixed> {
    let edge = &config.edge;
    vec![
        ("listen", format!("{:?}", config.listen)),
        ("max_connections", format!("{:?}", edge.max_connections)),
        ("header_timeout", format!("{:?}", edge.header_timeout)),
        ("write_timeout", format!("{:?}", edge.write_timeout)),
        ("in_flight", format!("{:?}", edge.in_flight)),
        ("socket_mode", format!("{:?}", edge.socket_mode)),
        ("tls", format!("{:?}", edge.tls)),
        ("concurrent", format!("{:?}", config.concurrent)),
        ("starts", format!("{:?}", config.starts)),
        ("memory_pressure", format!("{:?}", config.memory_pressure)),
        ("containment", format!("{:?}", config.containment)),
        ("receipts", format!("{:?}", config.receipts)),
        ("otlp", format!("{:?}", config.otlp)),
    ]
}

/// What became of the servers.
struct Refurnished {
    /// Those that count no more.
    old: Vec<Arc<Catalog>>,
    /// Those that did not count before.
    added: Vec<Arc<Catalog>>,
}

impl Rooms {
    /// Has the servers of `config`: those whose settings are what they were, as they are, and new ones for the others.
    /// An error changes nothing.
    fn refurnish(&mut self, config: &Config) -> Result<Refurnished, ServeError> {
        let mut next = Vec::with_capacity(config.servers.len());
        let (mut added, mut refused): (Vec<Arc<Catalog>>, Vec<_>) = Default::default();
        for server in &config.servers {
            if let Some((_, same)) = self.servers.iter().find(|(known, _)| known == server) {
                next.push((server.clone(), Arc::clone(same)));
                continue;
            }
            match self.furnish(server) {
                Ok(catalog) => {
                    added.push(Arc::clone(&catalog));
                    next.push((server.clone(), catalog));
                }
                Err(unbounded) => refused.push(unbounded),
            }
        }
        if !refused.is_empty() {
            for catalog in &added {
                self.shared.metrics.leaves(catalog.name());
            }
            return Err(ServeError::Bounds(refused));
        }
        let before = std::mem::replace(&mut self.servers, next);
        let gone =
            |catalog: &Arc<Catalog>| !self.servers.iter().any(|(_, known)| Arc::ptr_eq(known, catalog));
        let old = before.into_iter().map(|(_, catalog)| catalog).filter(gone).collect();
        Ok(Refurnished { old, added })
    }

    /// Ends servers that count no more. Calls come to them until `unused` is cancelled.
    fn retire(&mut self, old: Vec<Arc<Catalog>>, unused: &CancellationToken) {
        while self.retiring.try_join_next().is_some() {}
        if self.retiring.is_empty() {
            self.retired.clear();
        }
        for catalog in old {
            // What stands by is for nobody from now on.
            catalog.calls().by_call_only();
            self.retired.push(Arc::clone(&catalog));
            let (unused, metrics) = (unused.clone(), self.shared.metrics.clone());
            self.retiring.spawn(async move {
                unused.cancelled().await;
                catalog.calls().close();
                catalog.calls().drain().await;
                metrics.leaves(catalog.name());
                tracing::info!(server = &**catalog.name(), "nothing is left of the server as it was before");
            });
        }
    }
}
