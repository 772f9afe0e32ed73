use super::RolloutView;
use crate::{
    admin::{
        Admin,
        body::Body,
        change::make,
        conditions::{Asked, Common, Conditions, Errors},
        problem::Problem,
        segments::Segments,
        steer::{Answer, Answers, BodyAnswers, plain},
    },
    control::Command,
    rollout::Verb,
};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use utoipa::{IntoResponses, ToSchema};

/// The longest pause that has an end.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a verb may answer besides.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "documents the answers; they are made by `change` and `Problem`")]
pub(super) enum VerbAnswers {
    /// Whoever asks has another role than this, or this rollout, takes.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
}

#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct Pause {
    /// Goes on by itself after this time (`1h`, at most `30d`); without it, until somebody resumes it.
    #[serde(rename = "for")]
    #[schema(value_type = Option<String>)]
    time: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

/// The rollout that runs, or the last one.
#[utoipa::path(get, path = "/v1/services/{service}/rollout", tag = "rollouts",
    params(("service" = String, Path)),
    responses(
        (status = 200, body = RolloutView),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No such service, or it has had no rollout"),
    ))]
pub(in crate::admin) async fn rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
) -> Result<Json<RolloutView>, Problem> {
    let view = admin.handle.view();
    if !view.spec.services.contains_key(&*service) {
        return Err(Problem::no_service(&service, &view.spec));
    }
    let rollout = view.rollouts.get(&*service).ok_or_else(|| {
        Problem::not_found(format!("service `{service}` has no rollout; start one"))
    })?;
    Ok(Json(RolloutView::current(rollout, &view)))
}

/// The rollout stays where it is. Requests are counted all the same.
#[utoipa::path(post, path = "/v1/services/{service}/rollout/pause", tag = "rollouts",
    params(("service" = String, Path), Asked), request_body = Pause,
    responses(Answers, BodyAnswers, VerbAnswers))]
pub(in crate::admin) async fn pause_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Pause>,
) -> Answer {
    let mut errors = Errors::default();
    errors.unknown(&body.common.others, "for, cause");
    let time = errors.duration_within("for", body.time, LONGEST_PAUSE);
    let conditions = asked.conditions(body.common, &mut errors);
    errors.check()?;
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    verb(&admin, service, Verb::Pause(seconds), conditions).await
}

/// A paused rollout goes on; what it has seen against the canary, if it was paused for that, is forgotten.
#[utoipa::path(post, path = "/v1/services/{service}/rollout/resume", tag = "rollouts",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers, VerbAnswers))]
pub(in crate::admin) async fn resume_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    verb(&admin, service, Verb::Resume, plain(asked, body)?).await
}

/// On to the next step, whatever is missing; after the last one the rollout is done.
#[utoipa::path(post, path = "/v1/services/{service}/rollout/promote", tag = "rollouts",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers, VerbAnswers))]
pub(in crate::admin) async fn promote_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    verb(&admin, service, Verb::Promote, plain(asked, body)?).await
}

/// All of the traffic goes back to stable, at once.
#[utoipa::path(post, path = "/v1/services/{service}/rollout/abort", tag = "rollouts",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers, VerbAnswers))]
pub(in crate::admin) async fn abort_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    verb(&admin, service, Verb::Abort, plain(asked, body)?).await
}

/// Starts the last rollout, which has ended and was not promoted, once more: the same pools, the same plan.
#[utoipa::path(post, path = "/v1/services/{service}/rollout/retry", tag = "rollouts",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers, VerbAnswers))]
pub(in crate::admin) async fn retry_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    make(&admin, Command::RetryRollout { service: service.into() }, conditions).await
}

async fn verb(admin: &Admin, service: String, verb: Verb, conditions: Conditions) -> Answer {
    make(admin, Command::SteerRollout { service: service.into(), verb }, conditions).await
}
