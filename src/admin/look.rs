//! Who looks in.

use super::{
    Admin,
    metrics::{Format, OPENMETRICS, wants_openmetrics},
    problem::Problem,
    segments::Segments,
    views::{self, DrainView, ServiceView, StatusView},
};
use crate::{config, live::Phase};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// All is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Well {
    status: &'static str,
}

/// Whether the process lives; also while it drains.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Well)))]
pub(super) async fn healthz() -> Json<Well> {
    Json(Well { status: "alive" })
}

/// Whether it should get new clients; says why if not.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Well),
    (status = 503, body = Problem, content_type = "application/problem+json",
        description = "Starting, leaving or draining"),
))]
pub(super) async fn readyz(State(admin): State<Arc<Admin>>) -> Result<Json<Well>, Problem> {
    match admin.live.lifecycle.phase() {
        Phase::Ready => Ok(Json(Well { status: "ready" })),
        Phase::Starting => Err(Problem::unavailable(starting(&views::waiting_for(&admin)))),
        Phase::Leaving => Err(Problem::unavailable("leaving: asked to end, still serving")),
        Phase::Draining | Phase::Ended => {
            Err(Problem::unavailable("draining: only what is in flight finishes"))
        }
    }
}

fn starting(waiting_for: &[String]) -> String {
    if waiting_for.is_empty() {
        return "starting".into();
    }
    format!("starting: no healthy backend yet in {}", waiting_for.join(", "))
}

/// Metrics in Prometheus' text format; to who asks for it (`Accept`) as OpenMetrics, with exemplars.
#[utoipa::path(get, path = "/metrics", tag = "look", responses(
    (status = 200, content(
        (String = "text/plain; version=0.0.4; charset=utf-8"),
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    )),
))]
pub(super) async fn metrics(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (format, content_type) = match accept {
        Some(accept) if wants_openmetrics(accept) => (Format::OpenMetrics, OPENMETRICS),
        _ => (Format::Text, "text/plain; version=0.0.4; charset=utf-8"),
    };
    let tickets = admin.live.census.take().await;
    ([(header::CONTENT_TYPE, content_type)], super::metrics::page(&admin, tickets.as_ref(), format))
}

/// What is in force and what it does.
#[utoipa::path(get, path = "/v1/status", tag = "look", responses((status = 200, body = StatusView)))]
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<StatusView> {
    Json(views::status(&admin))
}

/// The desired state in the keys of the configuration file.
#[utoipa::path(get, path = "/v1/config", tag = "look", responses(
    (status = 200, body = ref("#/components/schemas/Config"), headers(("etag" = String, description = "The revision in quotes"))),
))]
pub(super) async fn config(State(admin): State<Arc<Admin>>) -> Response {
    let view = admin.handle.view();
    let document: Value = config::document(&view.spec);
    let mut response = Json(document).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", view.revision)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Every service with its pools and backends.
#[utoipa::path(get, path = "/v1/services", tag = "look",
    responses((status = 200, body = Vec<ServiceView>)))]
pub(super) async fn services(State(admin): State<Arc<Admin>>) -> Json<Vec<ServiceView>> {
    Json(views::services(&admin))
}

/// A service with its pools and backends.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "look",
    params(("service" = String, Path)),
    responses(
        (status = 200, body = ServiceView),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No such service"),
    ))]
pub(super) async fn service(
    State(admin): State<Arc<Admin>>,
    Segments(name): Segments<String>,
) -> Result<Json<ServiceView>, Problem> {
    let service = views::service(&admin, &name).map(Json);
    service.ok_or_else(|| Problem::no_service(&name, &admin.handle.view().spec))
}

/// What is on its way out.
#[utoipa::path(get, path = "/v1/drains", tag = "look",
    responses((status = 200, body = Vec<DrainView>)))]
pub(super) async fn drains(State(admin): State<Arc<Admin>>) -> Json<Vec<DrainView>> {
    Json(views::drains(&admin.handle.view()))
}
