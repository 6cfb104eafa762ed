//! What belongs to one server, put together as it is configured.

use std::convert::Infallible;
use std::sync::Arc;

use super::{Shared, Unbounded};
use crate::auth::Principal;
use crate::call::admission::{Admission, Entered, House, Limits};
use crate::call::{self, Calls};
use crate::catalog::{self, Catalog, LimitsInForce};
use crate::child::Nursery;
use crate::config;
use crate::exchange::{Bounds, Starts};
use crate::instance::{Making, Server};
use crate::mcp::Verdicts;
use crate::mcp::era::Protocol;
use crate::strategy::{self, Fresh, Pooled, Prewarmed, Reuse, Standby, Strategy, TreeDoor};
use crate::telemetry::metrics::OfServer;

/// Finds out in which bounds a server is kept, and says loudly what of them nobody sees to.
pub(super) fn bound(server: &mut config::Server, nursery: &Nursery) -> Result<Bounds, Unbounded> {
    let bounds = nursery
        .bound(&mut server.spec)
        .map_err(|source| Unbounded { server: server.name.clone(), source })?;
    for missing in bounds.missing() {
        tracing::warn!(server = server.name, key = missing.what, why = missing.how, "NOT ENFORCED");
    }
    Ok(bounds)
}

/// Everything that one server needs.
pub(super) fn furnish(
    server: &config::Server,
    bounds: Bounds,
    nursery: &Nursery,
    verdicts: &Arc<Verdicts>,
    shared: &Shared,
) -> Catalog {
    let config::Limits { concurrent, queue, queue_timeout, output, stderr } = server.limits;
    let name: Arc<str> = server.name.as_str().into();
    let making = Making {
        name: Arc::clone(&name),
        spec: server.spec.clone(),
        protocol: server.protocol,
        open_deadline: server.open_deadline,
        output,
    };
    let instances = Arc::new(Server::new(making, nursery.clone(), Arc::clone(verdicts)));
    let bounds_of_calls = Limits { concurrent, queue, queue_timeout };
    let house = match server.strategy {
        // Its calls need no seat of the house each, and no start: docs/decisions/seats-of-shared-instances.md.
        config::StrategyKind::Shared => House::new(concurrent, Starts::new(concurrent)),
        _ => shared.house.clone(),
    };
    let admission = Admission::new(bounds_of_calls, house, shared.metrics.server(&name));
    let (tasks, starts) = (shared.calls.tasks.apart(), shared.starts.clone());
    let strategy: Box<dyn Strategy> = match server.strategy {
        config::StrategyKind::Fresh => Box::new(Fresh::new(instances, tasks)),
        config::StrategyKind::Prewarmed(config::Standby { min, max, max_age }) => {
            let terms = Standby { min, max, max_age };
            Box::new(Prewarmed::new(instances, terms, admission.spare_seats(), starts, tasks))
        }
        config::StrategyKind::Pooled(config::Pool { uses, max_age, idle }) => {
            Box::new(Pooled::new(instances, Reuse { uses: uses as u64, max_age, idle }, tasks))
        }
        config::StrategyKind::Shared => {
            let door = tree_door(bounds_of_calls, &shared.house);
            Box::new(strategy::Shared::new(instances, door, tasks))
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
        header_env: server.header_env.as_slice().into(),
        protocol: match server.protocol {
            Protocol::Auto => "auto",
            Protocol::Legacy => "legacy",
            Protocol::Modern => "modern",
        },
        bounds: bounds.into(),
        required: server.required,
        limits: LimitsInForce { concurrent, queue, queue_timeout, deadline, open_deadline, output, stderr },
    };
    Catalog::new(name, calls, settings)
}

/// The way to the seats of a shared server's trees: of the one that calls go to, and of those before it, each of which still
/// has a call.
fn tree_door(Limits { concurrent, queue_timeout, .. }: Limits, house: &House) -> TreeDoor {
    let trees = concurrent.saturating_add(1);
    let door = Admission::new(
        Limits { concurrent: trees, queue: trees, queue_timeout },
        house.clone(),
        OfServer::default(),
    );
    Arc::new(move |end| {
        let door = door.clone();
        Box::pin(async move {
            // It is for whoever calls, so it stands in the line for nobody in particular.
            match door.enter(&Principal::anonymous(), std::future::pending::<Infallible>(), &end).await? {
                Entered::Seat(seat, start) => Ok((seat, start)),
                Entered::Seated(never) => match never {},
            }
        })
    })
}
