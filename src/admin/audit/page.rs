use super::Entry;
use crate::admin::{Admin, problem::Problem};
use axum::{
    Json,
    extract::{FromRequestParts, Query, State},
    http::request::Parts,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

const MOST: usize = 1000;
const DEFAULT: usize = 100;

/// No entry has a higher id: what any reader of JSON can hold.
const LAST: u64 = (1 << 53) - 1;

/// What is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct Asked {
    /// So many at most; 1 to 1,000, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Those before this id.
    #[param(maximum = 9_007_199_254_740_991_i64)]
    before: Option<u64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(asked): Query<Self> = Query::try_from_uri(&parts.uri)
            .map_err(|error| Problem::malformed(format!("the query cannot be read: {error}")))?;
        if asked.limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
            return Err(Problem::malformed(format!("limit: must be 1 to {MOST}")));
        }
        if asked.before.is_some_and(|before| before > LAST) {
            return Err(Problem::malformed(format!("before: must be at most {LAST}")));
        }
        Ok(asked)
    }
}

/// Who changed what, who tried to, and who was not let in.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct AuditView {
    /// The newest first.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = Vec<Entry>)]
    entries: Vec<Arc<Entry>>,
    /// Where older ones are.
    file: Option<String>,
    /// Entries that could not be written there.
    lost: u64,
}

fn entries<S: serde::Serializer>(entries: &[Arc<Entry>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(entries.iter().map(|entry| &**entry))
}

/// The audit log, page by page: the newest 1,000 changes and attempts, and 1,000 times that somebody was not let in.
#[utoipa::path(get, path = "/v1/audit", tag = "look", params(Asked), responses(
    (status = 200, body = AuditView),
    (status = 400, body = Problem, content_type = "application/problem+json",
        description = "The query cannot be read"),
))]
pub(in crate::admin) async fn audit(
    State(admin): State<Arc<Admin>>,
    asked: Asked,
) -> Json<AuditView> {
    Json(AuditView {
        entries: admin.audit.newest(asked.limit.unwrap_or(DEFAULT), asked.before),
        file: admin.audit.file().map(|path| path.display().to_string()),
        lost: admin.audit.lost(),
    })
}
