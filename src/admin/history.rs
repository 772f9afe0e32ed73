//! What was changed, by whom, and the way back.

use super::{
    Admin,
    body::Body,
    change::make,
    conditions::{Asked, Common, Errors},
    problem::Problem,
    receipt::Changed,
    segments::Segments,
    steer::{Answers, BodyAnswers},
};
use crate::{
    config,
    control::{Command, Page, Revision, View},
    spec::{Name, Spec},
};
use axum::{
    Json,
    extract::{Query, State},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Revisions of one answer at most, and unless asked otherwise.
const MOST: u32 = 1000;
const USUAL: u32 = 100;

/// No revision has a higher number: what any reader of JSON can hold.
const LAST: u64 = (1 << 53) - 1;

/// A change that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionView {
    revision: u64,
    /// RFC 3339.
    at: String,
    author: String,
    /// `file`, `api` or `rollout`.
    source: &'static str,
    cause: Option<String>,
    /// The rollout that it is a step of, if any.
    rollout: Option<String>,
    /// What differs from the revision before; empty for the first.
    #[schema(value_type = Vec<Changed>)]
    changed: Value,
}

impl From<Revision> for RevisionView {
    fn from(revision: Revision) -> Self {
        Self {
            revision: revision.number,
            at: revision.at.to_string(),
            author: revision.author.to_string(),
            source: revision.source.as_str(),
            cause: revision.cause,
            rollout: revision.rollout.map(|rollout| rollout.to_string()),
            changed: serde_json::from_str(&revision.changed).unwrap_or_default(),
        }
    }
}

/// A change that was made, and what was in force after it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WholeRevision {
    #[serde(flatten)]
    revision: RevisionView,
    /// In the keys of the configuration file.
    #[schema(value_type = Object)]
    config: Value,
}

/// What differs between two revisions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Difference {
    from: u64,
    to: u64,
    changed: Vec<Changed>,
}

/// What differs between the file as last loaded and what is in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftView {
    /// `null`: there is none, and so no drift.
    file: Option<String>,
    /// From the file's value to the one in force, which stays until the file changes that value.
    drift: Vec<Changed>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageAsked {
    /// So many at most, 1 to 1000; 100 unless asked otherwise.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// Only those with a lower number.
    #[param(value_type = Option<u64>, maximum = 9_007_199_254_740_991_i64)]
    before: Option<String>,
    /// Only those that changed this service.
    service: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffAsked {
    /// The other one; what is in force unless asked otherwise.
    #[param(value_type = Option<u64>, maximum = 9_007_199_254_740_991_i64)]
    to: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AdoptAsked {
    /// Only what differs in this service; the rest is as in the file.
    service: Option<String>,
}

/// The changes that were made, the newest first.
#[utoipa::path(get, path = "/v1/revisions", tag = "history", params(PageAsked),
    responses(
        (status = 200, body = Vec<RevisionView>),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query cannot be read"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "A number is none"),
    ))]
pub(super) async fn revisions(
    State(admin): State<Arc<Admin>>,
    asked: Result<Query<PageAsked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<RevisionView>>, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::malformed(error.body_text()))?;
    let mut errors = Errors::default();
    let limit = errors.number("limit", asked.limit, 1..=u64::from(MOST));
    let before = errors.number("before", asked.before, 0..=LAST);
    errors.check()?;
    let page = Page {
        before,
        limit: limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(USUAL),
        service: asked.service.map(Name::from),
    };
    let revisions = admin.handle.history().revisions(page).await?;
    Ok(Json(revisions.into_iter().map(RevisionView::from).collect()))
}

/// A change, and what was in force after it.
#[utoipa::path(get, path = "/v1/revisions/{revision}", tag = "history",
    params(("revision" = u64, Path)),
    responses(
        (status = 200, body = WholeRevision),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "It is not kept"),
    ))]
pub(super) async fn revision(
    State(admin): State<Arc<Admin>>,
    Segments(number): Segments<String>,
) -> Result<Json<WholeRevision>, Problem> {
    let (revision, content) = admin.handle.history().revision(number_of(&number)?).await?;
    let config = config::document(&content.spec);
    Ok(Json(WholeRevision { revision: revision.into(), config }))
}

/// What differs between two revisions.
#[utoipa::path(get, path = "/v1/revisions/{revision}/diff", tag = "history",
    params(("revision" = u64, Path), DiffAsked),
    responses(
        (status = 200, body = Difference),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query cannot be read"),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "One of them is not kept"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "`to` is no number"),
    ))]
pub(super) async fn diff(
    State(admin): State<Arc<Admin>>,
    Segments(number): Segments<String>,
    asked: Result<Query<DiffAsked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Difference>, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::malformed(error.body_text()))?;
    let mut errors = Errors::default();
    let to = errors.number("to", asked.to, 0..=LAST);
    errors.check()?;
    let (from, before) = admin.handle.history().revision(number_of(&number)?).await?;
    let view = admin.handle.view();
    let to = to.unwrap_or(view.revision);
    let after = admin.handle.history().revision(to).await?.1.spec;
    Ok(Json(Difference { from: from.number, to, changed: changed(&before.spec, &after) }))
}

/// What only the API has changed: the file does not say it, and it stays in force until the file does.
#[utoipa::path(get, path = "/v1/drift", tag = "history", responses((status = 200, body = DriftView)))]
pub(super) async fn drift(State(admin): State<Arc<Admin>>) -> Json<DriftView> {
    let view = admin.handle.view();
    let file = view.file.path.as_ref().map(|path| path.display().to_string());
    Json(DriftView { file, drift: drift_of(&view) })
}

/// The configuration file that would end the drift: what is in force, in the file's keys.
#[utoipa::path(get, path = "/v1/adopt", tag = "history", params(AdoptAsked),
    responses(
        (status = 200, body = ref("#/components/schemas/Config")),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query cannot be read"),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No such service"),
    ))]
pub(super) async fn adopt(
    State(admin): State<Arc<Admin>>,
    asked: Result<Query<AdoptAsked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::malformed(error.body_text()))?;
    let view = admin.handle.view();
    let spec = adopted(&view, asked.service.map(Name::from))?;
    Ok(Json(config::document(&spec)))
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Undo {
    /// The revision whose content is wanted; without it what was before the newest change.
    #[schema(value_type = Option<u64>, maximum = 9_007_199_254_740_991_i64)]
    to_revision: Option<Value>,
    /// Only this service; without it everything.
    #[schema(value_type = Option<String>)]
    service: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

/// Puts in force anew what was in force before: a second undo undoes the first.
#[utoipa::path(post, path = "/v1/undo", tag = "steer", params(Asked), request_body = Undo,
    responses(Answers, BodyAnswers))]
pub(super) async fn undo(
    State(admin): State<Arc<Admin>>,
    asked: Asked,
    Body(body): Body<Undo>,
) -> Result<Response, Problem> {
    let mut errors = Errors::default();
    errors.unknown(&body.common.others, "to_revision, service, cause, force, wait_healthy");
    let to_revision = body.to_revision.filter(|value| !value.is_null()).and_then(|value| {
        let number = value.as_u64().filter(|number| *number <= LAST);
        if number.is_none() {
            errors.add("to_revision", format_args!("{value} is not the number of a revision"));
        }
        number
    });
    let service = errors.text("service", body.service.filter(|value| !value.is_null()));
    let conditions = asked.conditions(body.common, &mut errors);
    errors.check()?;
    let command = Command::Undo { service: service.map(Name::from), to_revision };
    make(&admin, command, conditions).await
}

/// What differs between the file as last loaded and what is in force. What waits for a restart is no drift.
pub(super) fn drift_of(view: &View) -> Vec<Changed> {
    let loaded = view.loaded.as_deref().map(|loaded| {
        let mut loaded = loaded.clone();
        loaded.keep_for_restart(&view.spec);
        loaded
    });
    loaded.map_or_else(Vec::new, |loaded| changed(&loaded, &view.spec))
}

fn adopted(view: &View, service: Option<Name>) -> Result<Spec, Problem> {
    let mut spec = Spec::clone(&view.spec);
    let Some(loaded) = &view.loaded else { return Ok(spec) };
    let Some(service) = service else {
        spec.keep_for_restart(loaded);
        return Ok(spec);
    };
    let mut file = Spec::clone(loaded);
    match spec.services.shift_remove(&service) {
        Some(ours) => drop(file.services.insert(service, ours)),
        None if file.services.shift_remove(&service).is_none() => {
            return Err(Problem::not_found(format!(
                "no service `{service}`, neither in force nor in the file"
            )));
        }
        None => {}
    }
    Ok(file)
}

fn changed(old: &Spec, new: &Spec) -> Vec<Changed> {
    config::changes(old, new).into_iter().map(Changed::from).collect()
}

fn number_of(text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found(format!("`{text}` is not the number of a revision")))
}
