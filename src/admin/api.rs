//! Which path leads to which handler; the OpenAPI document comes from the same calls.

use super::{
    Admin, audit, conditions::LONGEST_WAIT, dashboard, door::door, drains, events, history, hold,
    ledger, look, me, once::once, openapi, plan, problem::Problem, rollout, steer, upgrade,
};
use axum::{
    BoxError, Router,
    error_handling::HandleErrorLayer,
    http::{Method, Uri, header},
    middleware::{from_fn, from_fn_with_state},
    response::IntoResponse,
    routing::get,
};
use serde_json::Value;
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Requests at once; most of them wait for a drain. Probes are apart.
const CONCURRENT: usize = 128;

/// No handler takes longer than the two waits that can be asked for, and a bit.
const DEADLINE: Duration = LONGEST_WAIT.saturating_mul(2).saturating_add(Duration::from_secs(60));

static OPENAPI: LazyLock<String> =
    LazyLock::new(|| openapi::render(probed().merge(limited()).into_openapi()));

pub(super) fn router(admin: &Arc<Admin>) -> Router {
    let limits = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(|error: BoxError| async move {
            if error.is::<tower::timeout::error::Elapsed>() {
                Problem::timed_out()
            } else {
                Problem::overloaded()
            }
        }))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(CONCURRENT))
        .layer(TimeoutLayer::new(DEADLINE));
    let (router, _) =
        probed().merge(limited().layer(from_fn(once)).layer(limits)).split_for_parts();
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(Arc::clone(admin), door))
        .with_state(Arc::clone(admin))
}

/// Answered however busy the others are.
fn probed() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(look::healthz))
        .routes(routes!(look::readyz))
        .routes(routes!(look::metrics))
}

fn limited() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::default()
        .routes(routes!(dashboard::page))
        .route(dashboard::ASSET, get(dashboard::asset))
        .routes(routes!(document))
        .routes(routes!(look::status))
        .routes(routes!(look::config, steer::put_config))
        .routes(routes!(look::services))
        .routes(routes!(look::service))
        .routes(routes!(look::drains))
        .routes(routes!(events::events))
        .routes(routes!(dashboard::trail))
        .routes(routes!(me::me))
        .routes(routes!(audit::audit))
        .routes(routes!(ledger::ledger))
        .routes(routes!(steer::put_weights))
        .routes(routes!(steer::cutover))
        .routes(routes!(steer::put_pool, steer::delete_pool))
        .routes(routes!(drains::drain_service))
        .routes(routes!(drains::undrain_service))
        .routes(routes!(drains::drain_pool))
        .routes(routes!(drains::undrain_pool))
        .routes(routes!(steer::put_backend, steer::delete_backend))
        .routes(routes!(drains::drain_backend))
        .routes(routes!(drains::undrain_backend))
        .routes(routes!(hold::hold))
        .routes(routes!(hold::release))
        .routes(routes!(hold::holds))
        .routes(routes!(plan::plan))
        .routes(routes!(steer::reload))
        .routes(routes!(upgrade::upgrade))
        .routes(routes!(rollout::rollout, rollout::start_rollout))
        .routes(routes!(rollout::pause_rollout))
        .routes(routes!(rollout::resume_rollout))
        .routes(routes!(rollout::promote_rollout))
        .routes(routes!(rollout::abort_rollout))
        .routes(routes!(rollout::retry_rollout))
        .routes(routes!(rollout::plan_rollout))
        .routes(routes!(rollout::rollouts))
        .routes(routes!(rollout::rollout_by_id))
        .routes(routes!(history::revisions))
        .routes(routes!(history::revision))
        .routes(routes!(history::diff))
        .routes(routes!(history::undo))
        .routes(routes!(history::drift))
        .routes(routes!(history::adopt))
}

/// The `operationId` of a request in the OpenAPI document.
pub(super) fn operation(method: &Method, template: &str) -> Option<String> {
    static OPERATIONS: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(&OPENAPI).unwrap_or_default());
    let method = method.as_str().to_ascii_lowercase();
    OPERATIONS["paths"][template][method]["operationId"].as_str().map(str::to_owned)
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "look",
    responses((status = 200, body = Object)))]
async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!("nothing at {}; see /v1/openapi.json", uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} does not take {method}", uri.path()))
}
