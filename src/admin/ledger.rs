//! Every request that was given to a backend, and what has become of it.

use super::{Admin, problem::Problem};
use crate::live::{LivePool, Tally, Tickets};
use axum::{Json, extract::State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The requests of a pool. `started` = `finished` + `cut` + `open` whenever none begins or ends meanwhile: each is
/// counted at a place of its own, and `open` by walking the tickets on every core.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LedgerView {
    service: String,
    pool: String,
    version: String,
    /// Given to a backend, each attempt by itself.
    started: u64,
    finished: u64,
    /// Tunnels that were asked to end, because what they lead to drains.
    told_to_close: u64,
    /// Cancelled at the deadline of a drain.
    cut: u64,
    open: u64,
}

/// The requests of every pool whose series are shown, by what has become of them.
#[utoipa::path(get, path = "/v1/ledger", tag = "look", responses(
    (status = 200, body = Vec<LedgerView>),
    (status = 503, body = Problem, content_type = "application/problem+json",
        description = "A core does not answer"),
))]
pub(super) async fn ledger(
    State(admin): State<Arc<Admin>>,
) -> Result<Json<Vec<LedgerView>>, Problem> {
    let Some(tickets) = admin.live.census.take().await else {
        return Err(Problem::unavailable("a core does not say what is in flight on it"));
    };
    let entry = |pool: &Arc<LivePool>| {
        let Tally { started, finished, told, cut } = pool.tally();
        LedgerView {
            service: pool.service.to_string(),
            pool: pool.name.to_string(),
            version: pool.version.to_string(),
            started,
            finished,
            told_to_close: told,
            cut,
            open: open(&tickets, pool),
        }
    };
    Ok(Json(admin.live.pools().iter().map(entry).collect()))
}

/// Of one pool.
pub(super) fn open(tickets: &Tickets, pool: &Arc<LivePool>) -> u64 {
    tickets.iter().find(|(known, _)| Arc::ptr_eq(known, pool)).map_or(0, |(_, open)| *open)
}
