//! Who holds a service while its backends restart.

use super::{
    Admin,
    body::Body,
    change::make,
    conditions::{Asked, Common, Errors},
    segments::Segments,
    steer::{Answer, Answers, BodyAnswers, plain},
};
use crate::control::{Command, HoldStatus};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use utoipa::ToSchema;

/// How long a service is held that nobody says more of.
const DEFAULT: Duration = Duration::from_secs(30);

#[derive(Deserialize, ToSchema)]
pub(super) struct Hold {
    /// When nobody releases it before: new requests go on then, and those that have waited are answered 503
    /// (`30s`, at most `1h`).
    #[serde(rename = "for")]
    #[schema(value_type = Option<String>)]
    time: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

/// A service whose requests wait.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldView {
    service: String,
    /// RFC 3339.
    since: String,
    /// When it ends, unless it is released before (RFC 3339).
    until: String,
    author: String,
    cause: Option<String>,
    /// Requests that wait now.
    waiting: usize,
    /// Requests that were made to wait so far.
    held: u64,
}

impl HoldView {
    pub(super) fn of(status: &HoldStatus) -> Self {
        Self {
            service: status.service.to_string(),
            since: status.since.to_string(),
            until: status.until.to_string(),
            author: status.author.to_string(),
            cause: status.cause.clone(),
            waiting: status.hold.waiting(),
            held: status.hold.held(),
        }
    }
}

/// Lets the requests of a service wait, until it is released or the time is over. With `wait` the answer comes
/// when what was in flight has ended. Held again, it is held until the new end.
#[utoipa::path(post, path = "/v1/services/{service}/hold", tag = "steer",
    params(("service" = String, Path), Asked), request_body = Hold,
    responses(Answers, BodyAnswers))]
pub(super) async fn hold(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Hold>,
) -> Answer {
    let mut errors = Errors::default();
    errors.unknown(&body.common.others, "for, cause");
    let time = errors.duration("for", body.time).unwrap_or(DEFAULT);
    let conditions = asked.conditions(body.common, &mut errors);
    errors.check()?;
    make(&admin, Command::Hold { service: service.into(), time }, conditions).await
}

/// Lets the requests that wait go on.
#[utoipa::path(post, path = "/v1/services/{service}/release", tag = "steer",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers))]
pub(super) async fn release(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    make(&admin, Command::Release { service: service.into() }, conditions).await
}

/// Which services are held.
#[utoipa::path(get, path = "/v1/holds", tag = "look",
    responses((status = 200, body = Vec<HoldView>)))]
pub(super) async fn holds(State(admin): State<Arc<Admin>>) -> Json<Vec<HoldView>> {
    Json(admin.handle.view().holds.iter().map(HoldView::of).collect())
}
