//! Which path leads to which handler. The OpenAPI document comes from the same place.

use super::{Admin, conditions::LONGEST_WAIT, guard::guard, look, problem::Problem, steer};
use axum::{
    BoxError, Router,
    error_handling::HandleErrorLayer,
    http::{Method, Uri, header},
    middleware::from_fn_with_state,
    response::IntoResponse,
};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
};
use utoipa::{
    OpenApi as _,
    openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, path::PathItem},
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Requests at once; most of them wait for a drain. Probes are apart.
const CONCURRENT: usize = 128;

/// No handler takes longer than the two waits that can be asked for, and a bit.
const DEADLINE: Duration = LONGEST_WAIT.saturating_mul(2).saturating_add(Duration::from_secs(60));

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "crossfade admin API",
        description = "Looks into a running crossfade and steers it."
    ),
    components(schemas(Problem)),
    tags(
        (name = "health", description = "For probes"),
        (name = "look", description = "What is in force and what it does"),
        (name = "steer", description = "Changes; each answers with a receipt"),
    )
)]
struct Document;

static OPENAPI: LazyLock<String> = LazyLock::new(|| {
    let mut document = probed().merge(limited()).into_openapi();
    describe_common(&mut document);
    serde_json::to_string(&document).expect("the document has string keys only")
});

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
    let (router, _) = probed().merge(limited().layer(limits)).split_for_parts();
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(Arc::clone(admin), guard))
        .with_state(Arc::clone(admin))
}

/// Answered however busy the others are.
fn probed() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(look::healthz))
        .routes(routes!(look::readyz))
        .routes(routes!(look::metrics))
}

fn limited() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::default()
        .routes(routes!(index))
        .routes(routes!(openapi))
        .routes(routes!(look::status))
        .routes(routes!(look::config, steer::put_config))
        .routes(routes!(look::services))
        .routes(routes!(look::service))
        .routes(routes!(look::drains))
        .routes(routes!(steer::put_weights))
        .routes(routes!(steer::cutover))
        .routes(routes!(steer::put_pool, steer::delete_pool))
        .routes(routes!(steer::drain_pool))
        .routes(routes!(steer::undrain_pool))
        .routes(routes!(steer::put_backend, steer::delete_backend))
        .routes(routes!(steer::drain_backend))
        .routes(routes!(steer::undrain_backend))
        .routes(routes!(steer::reload))
}

/// Where to look.
#[utoipa::path(get, path = "/", tag = "look",
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
async fn index() -> &'static str {
    concat!(
        "crossfade ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/v1/status        what is in force and what it does\n",
        "/v1/openapi.json  everything that can be asked\n",
        "/metrics          for Prometheus\n",
    )
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "look",
    responses((status = 200, body = Object)))]
async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!("nothing at {}; see /v1/openapi.json", uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} does not take {method}", uri.path()))
}

/// Adds what any request may be answered to every operation.
fn describe_common(document: &mut OpenApi) {
    let answers = [
        ("403", "A page of another origin asks"),
        ("421", "`Host` is not a name of the admin API"),
        ("503", "Too many requests at once"),
    ];
    for item in document.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, .. } = item;
        for operation in [get, put, post, delete].into_iter().flatten() {
            for (status, description) in answers {
                let responses = &mut operation.responses.responses;
                responses.entry(status.into()).or_insert_with(|| problem_response(description));
            }
        }
    }
}

fn problem_response(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build();
    RefOr::T(response)
}
