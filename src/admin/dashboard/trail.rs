use crate::admin::{
    Admin,
    problem::Problem,
    segments::Segments,
    traffic::{Point, SHORT},
    views,
};
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use std::{sync::Arc, time::Instant};
use utoipa::ToSchema;

/// What a service did in the last hour.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct TrailView {
    service: String,
    /// Seconds that each point stands for, and between two.
    every: u64,
    pools: Vec<PoolTrail>,
}

#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct PoolTrail {
    name: String,
    version: String,
    /// The oldest first. Each is its end in milliseconds since 1970, then replies a second, the share of them that were 5xx,
    /// and the 50th, 95th and 99th percentile in seconds; `null` where there were no replies.
    #[schema(value_type = Vec<Vec<Option<f64>>>)]
    points: Vec<(i64, f32, f32, f32, f32, f32)>,
}

/// What a service's pools did in the last hour, as long as they are there.
#[utoipa::path(get, path = "/v1/services/{service}/traffic", tag = "look",
    params(("service" = String, Path)),
    responses(
        (status = 200, body = TrailView),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No such service"),
    ))]
pub(in crate::admin) async fn trail(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
) -> Result<Json<TrailView>, Problem> {
    let pools = views::pools(&admin).into_iter().find(|(name, _)| **name == *service);
    let Some((name, pools)) = pools else {
        return Err(Problem::no_service(&service, &admin.handle.view().spec));
    };
    let (now, today) = (Instant::now(), Timestamp::now().as_millisecond());
    // The clock may be set meanwhile; what is shown together has one clock.
    let millis = |at: Instant| {
        let ago = now.saturating_duration_since(at).as_millis();
        today.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    };
    let pools = pools.iter().map(|pool| PoolTrail {
        name: pool.name.to_string(),
        version: pool.version.to_string(),
        points: admin.traffic.trail(pool).into_iter().map(|it| flat(millis(it.at), it)).collect(),
    });
    Ok(Json(TrailView {
        service: name.to_string(),
        every: SHORT.as_secs(),
        pools: pools.collect(),
    }))
}

fn flat(at: i64, point: Point) -> (i64, f32, f32, f32, f32, f32) {
    let [rate, error_rate, p50, p95, p99] = point.figures;
    (at, rate, error_rate, p50, p95, p99)
}
