use super::{RolloutSummary, RolloutView};
use crate::{
    admin::{Admin, conditions::Errors, millis, problem::Problem, segments::Segments},
    control::{RolloutPage, View},
    rollout::Rollout,
    spec::Name,
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Rollouts of one answer at most, and unless asked otherwise.
const MOST: u32 = 200;
const USUAL: u32 = 50;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct RolloutsAsked {
    /// So many at most, 1 to 200; 50 unless asked otherwise.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// Only those that were started before this time (RFC 3339): the `started` of the last one of a page gives the next.
    before: Option<String>,
    /// Only those of this service.
    service: Option<String>,
}

/// Rollouts, the newest first: those that run, and the last 200 of each service that are over.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts", params(RolloutsAsked),
    responses(
        (status = 200, body = Vec<RolloutSummary>),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query cannot be read"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "`limit` is no number, or `before` no time"),
    ))]
pub(in crate::admin) async fn rollouts(
    State(admin): State<Arc<Admin>>,
    asked: Result<Query<RolloutsAsked>, QueryRejection>,
) -> Result<Json<Vec<RolloutSummary>>, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::malformed(error.body_text()))?;
    let mut errors = Errors::default();
    let limit = errors.number("limit", asked.limit, 1..=u64::from(MOST));
    let before = asked.before.and_then(|before| time(&before, &mut errors));
    errors.check()?;
    let page = RolloutPage {
        before,
        limit: limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(USUAL),
        service: asked.service.map(Name::from),
    };
    let kept = admin.handle.history().rollouts(page).await?;
    let view = admin.handle.view();
    let summary = |rollout: &Rollout| RolloutSummary::of(fresh(&view, rollout));
    Ok(Json(kept.iter().map(summary).collect()))
}

/// A rollout, also one that is over.
#[utoipa::path(get, path = "/v1/rollouts/{id}", tag = "rollouts",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = RolloutView),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "It is not kept"),
    ))]
pub(in crate::admin) async fn rollout_by_id(
    State(admin): State<Arc<Admin>>,
    Segments(id): Segments<String>,
) -> Result<Json<RolloutView>, Problem> {
    let view = admin.handle.view();
    if let Some(current) = view.rollouts.values().find(|rollout| **rollout.id() == *id) {
        return Ok(Json(RolloutView::current(current, &view)));
    }
    let kept = admin.handle.history().rollout(Name::from(&*id)).await?;
    let kept = kept.ok_or_else(|| {
        Problem::not_found(format!("no rollout `{id}` is kept; /v1/rollouts lists those that are"))
    })?;
    Ok(Json(RolloutView::of(&kept, None, &[])))
}

/// As it is now: what a rollout that runs has seen is kept every few seconds only.
fn fresh<'a>(view: &'a View, kept: &'a Rollout) -> &'a Rollout {
    let current = view.rollouts.get(kept.service());
    current.map_or(kept, |current| if current.id() == kept.id() { current } else { kept })
}

/// In milliseconds since 1970.
fn time(text: &str, errors: &mut Errors) -> Option<u64> {
    match text.parse::<Timestamp>() {
        Ok(time) => Some(millis(time)),
        Err(_) => {
            errors.add("before", "must be a time such as 2026-01-02T03:04:05.678Z");
            None
        }
    }
}
