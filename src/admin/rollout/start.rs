use super::{
    steer::VerbAnswers,
    view::{kind, rounded},
};
use crate::{
    admin::{
        Admin,
        body::Body,
        change::make,
        conditions::{Asked, Common, Errors},
        problem::Problem,
        segments::Segments,
        steer::{Answer, Answers, BodyAnswers},
    },
    config,
    control::{Command, Outlook},
    rollout::StepForecast,
    spec::{Name, RolloutPlan},
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// The keys beside those of a plan.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct RolloutAsked {
    /// The pool to go to.
    #[schema(value_type = String)]
    to: Option<Value>,
    /// The pool to go from; without it the only other one that has weight.
    #[schema(value_type = Option<String>)]
    from: Option<Value>,
    /// Takes over from a rollout that runs.
    #[schema(value_type = Option<bool>)]
    supersede: Option<Value>,
    /// The keys of a plan among others.
    #[serde(flatten)]
    #[schema(ignore)]
    common: Common,
}

/// What a rollout could see at the present traffic, and how long it would take.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct OutlookView {
    service: String,
    from: String,
    to: String,
    /// `null`: the service is too young to say; then nothing below is known that depends on it.
    rate: Option<f64>,
    /// Of stable, 0 to 1.
    error_rate: f64,
    steps: Vec<OutlookStep>,
    /// Of all steps; `null`: one of them is not left behind at this traffic, or by a person alone.
    seconds: Option<f64>,
    /// The plan, in the keys of the configuration file.
    #[schema(value_type = Object)]
    plan: Value,
}

#[derive(Debug, Serialize, ToSchema)]
struct OutlookStep {
    /// As in the `stages` of a rollout.
    kind: &'static str,
    /// From 1; 0: before the first.
    step: usize,
    /// The canary's part, 0 to 1.
    share: f64,
    /// Until it can be left behind if the canary is as good as stable; `null`: never at this traffic, or a person decides.
    seconds: Option<f64>,
    /// The smallest error rate of the canary, 0 to 1, that would be seen within that time; `null`: none.
    smallest: Option<f64>,
    /// Until a canary of which every twentieth request fails is cut; `null`: it is not, by the comparison of errors.
    seconds_to_abort: Option<f64>,
}

/// What is asked for, read.
struct Start {
    to: Name,
    from: Option<Name>,
    supersede: bool,
    plan: RolloutPlan,
}

/// Starts a rollout: the service moves to another pool by its plan. Any key of the plan can be given here instead.
#[utoipa::path(post, path = "/v1/services/{service}/rollout", tag = "rollouts",
    params(("service" = String, Path), Asked),
    request_body(content = ref("#/components/schemas/RolloutBody")),
    responses(Answers, BodyAnswers, VerbAnswers))]
pub(in crate::admin) async fn start_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(mut body): Body<RolloutAsked>,
) -> Answer {
    let mut errors = Errors::default();
    let common = std::mem::take(&mut body.common);
    let (overrides, common) = common.without_others();
    let conditions = asked.conditions(common, &mut errors);
    let Start { to, from, supersede, plan } = read(&admin, &service, body, overrides, errors)?;
    let command = Command::StartRollout {
        service: service.into(),
        to,
        from,
        plan: Box::new(plan),
        supersede,
    };
    make(&admin, command, conditions).await
}

/// What a rollout would see, and how long it would take: changes nothing.
#[utoipa::path(post, path = "/v1/services/{service}/rollout/plan", tag = "rollouts",
    params(("service" = String, Path), Asked),
    request_body(content = ref("#/components/schemas/RolloutBody")),
    responses(
        (status = 200, body = OutlookView),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query or the body cannot be read"),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No such service or pool"),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "Not possible in this state"),
        (status = 412, body = Problem, content_type = "application/problem+json",
            description = "`If-Match` names another revision"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "Invalid, with every error"),
        BodyAnswers,
    ))]
pub(in crate::admin) async fn plan_rollout(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(mut body): Body<RolloutAsked>,
) -> Result<Json<OutlookView>, Problem> {
    let mut errors = Errors::default();
    let (overrides, common) = std::mem::take(&mut body.common).without_others();
    let conditions = asked.conditions(common, &mut errors);
    let Start { to, from, plan, .. } = read(&admin, &service, body, overrides, errors)?;
    conditions.if_match.check(admin.handle.view().revision)?;
    let document = config::rollout_document(&plan);
    let outlook = admin.handle.forecast(Name::from(&*service), to, from, plan).await?;
    Ok(Json(OutlookView::of(service, &outlook, document)))
}

fn read(
    admin: &Admin,
    service: &str,
    asked: RolloutAsked,
    overrides: Value,
    mut errors: Errors,
) -> Result<Start, Problem> {
    if asked.to.is_none() {
        errors.add("to", "name the pool to go to");
    }
    let to = errors.text("to", asked.to).unwrap_or_default().into();
    let from = asked.from.filter(|from| !from.is_null());
    let from = errors.text("from", from).map(Name::from);
    let supersede = errors.flag("supersede", asked.supersede);
    let view = admin.handle.view();
    let Some(found) = view.spec.services.get(service) else {
        errors.check()?;
        return Err(Problem::no_service(service, &view.spec));
    };
    let plan = errors.keep(config::rollout_plan(found, &overrides))?;
    Ok(Start { to, from, supersede, plan })
}

impl OutlookView {
    fn of(service: String, outlook: &Outlook, plan: Value) -> Self {
        let all = outlook.stages.iter().map(|stage| stage.seconds);
        Self {
            service,
            from: outlook.stable.to_string(),
            to: outlook.canary.to_string(),
            rate: (!outlook.is_blind).then_some(outlook.traffic.rate),
            error_rate: outlook.traffic.error_rate,
            steps: outlook.stages.iter().map(OutlookStep::of).collect(),
            seconds: all.sum::<Option<f64>>().map(rounded),
            plan,
        }
    }
}

impl OutlookStep {
    fn of(forecast: &StepForecast) -> Self {
        Self {
            kind: kind(forecast.stage),
            step: forecast.step,
            share: forecast.share.as_f64(),
            seconds: forecast.seconds.map(rounded),
            smallest: forecast.smallest,
            seconds_to_abort: forecast.to_abort.map(rounded),
        }
    }
}
