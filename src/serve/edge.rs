//! The edge, set up as configured: sockets, certificates, what HTTP is told, and the service manager that waits for us.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::ServeError;
use crate::auth::{Gate, Mask};
use crate::config::{self, Config, Exposure};
use crate::http::listen::address::Address;
use crate::http::listen::{Certificates, Inherited, Listener, Manner, TlsError, TlsFiles};
use crate::http::{self, BrowserApi, Budget, OwnRoute};
use crate::telemetry::metrics::Metrics;

/// What HTTP has to know of the configuration.
pub(super) fn http(config: &Config, mask: &Mask, metrics: &Metrics) -> http::Config {
    let browser = config.browser.as_ref().map(|browser| {
        let available = browser.available.clone();
        BrowserApi {
            server: browser.server.as_str().into(),
            tool: browser.tool.clone(),
            available: Arc::new(move || available.check()),
        }
    });
    let route = |route: &config::Route| OwnRoute {
        path: route.path.clone(),
        server: route.server.as_str().into(),
        tool: route.tool.clone(),
        arguments: route.arguments.clone(),
        response: match route.response {
            config::RouteResponse::Result => http::RouteResponse::Result,
            config::RouteResponse::Envelope => http::RouteResponse::Envelope,
        },
    };
    let config::Edge { max_connections, header_timeout, body_timeout, write_timeout, in_flight, .. } =
        config.edge;
    http::Config {
        routes: config.routes.iter().map(route).collect(),
        body_limit: config.body_limit,
        body_timeout,
        header_timeout,
        write_timeout,
        max_connections,
        budget: Budget::new(in_flight),
        hosts: config.hosts.clone(),
        browser,
        gate: Gate::new(config.tokens.iter().cloned()),
        mask: mask.clone(),
        metrics: metrics.clone(),
        metrics_for: match config.metrics {
            config::MetricsFor::Loopback => http::MetricsFor::Loopback,
            config::MetricsFor::Token => http::MetricsFor::Token,
            config::MetricsFor::Everybody => http::MetricsFor::Everybody,
        },
        default_server: config.default_server.as_deref().map(Into::into),
    }
}

/// Everything that is listened on: what was handed over, else what is configured.
pub(super) fn listeners(config: &Config, inherited: Inherited) -> Result<Vec<Listener>, ServeError> {
    let config::Edge { socket_mode, write_timeout, .. } = config.edge;
    let manner = Manner { mode: socket_mode, unacknowledged: write_timeout };
    // Before any socket is bound: without them none is of use.
    let certificates = certificates(config).map_err(ServeError::Tls)?;
    for doubt in certificates.iter().flat_map(|certificates| certificates.doubts()) {
        tracing::warn!("{doubt}");
    }
    let mut listeners = inherited.listeners().map_err(ServeError::Inherited)?;
    if listeners.is_empty() {
        for address in &config.listen {
            let bound = Listener::bind(address, manner);
            let bound = bound.map_err(|source| ServeError::Listen { address: address.clone(), source });
            listeners.push(bound?);
        }
    } else {
        judge(&listeners, config)?;
        tracing::info!("listening on what was handed over (LISTEN_FDS), in place of `listen`");
    }
    if let Some(certificates) = certificates {
        listeners = listeners.into_iter().map(|listener| listener.with_tls(&certificates)).collect();
    }
    Ok(listeners)
}

/// What was handed over is held to the same as what is configured.
fn judge(listeners: &[Listener], config: &Config) -> Result<(), ServeError> {
    for address in exposed(listeners.iter().map(Listener::address), config) {
        if config.exposure == Exposure::Refused {
            return Err(ServeError::Exposed { address: address.clone() });
        }
        tracing::warn!(%address, "can be reached from other machines, and nobody is asked for a token");
    }
    Ok(())
}

/// Those that other machines can reach, and at which nobody is asked for a token.
pub(super) fn exposed<'a>(
    addresses: impl IntoIterator<Item = &'a Address>,
    config: &Config,
) -> impl Iterator<Item = &'a Address> {
    let open = config.tokens.is_empty();
    addresses.into_iter().filter(move |address| open && !address.is_local())
}

/// What is shown to callers, if they are shown anything.
pub(super) fn certificates(config: &Config) -> Result<Option<Arc<Certificates>>, TlsError> {
    let Some(tls) = config.edge.tls.clone() else { return Ok(None) };
    let files = TlsFiles { cert: tls.cert, key: tls.key, client_ca: tls.client_ca };
    Certificates::load(files).map(Arc::new).map(Some)
}

/// What a service manager is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    /// Requests are answered.
    Ready,
    /// They are, while the configuration is read again. `Ready` ends it.
    Reloading,
    /// No more are.
    Stopping,
}

/// Tells the service manager, where there is one that asked to be told (`sd_notify(3)`).
pub(super) fn tell_manager(state: State) {
    let told = match state {
        State::Ready => Ok(vec![NotifyState::Ready]),
        // A manager that waits for the end of it compares the times of both.
        State::Reloading => NotifyState::monotonic_usec_now().map(|now| vec![NotifyState::Reloading, now]),
        State::Stopping => Ok(vec![NotifyState::Stopping]),
    };
    if let Err(error) = told.and_then(|told| sd_notify::notify(&told)) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}
