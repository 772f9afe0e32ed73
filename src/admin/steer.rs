//! Who steers. Each handler reads what is asked into a command; what it means is for the control plane.

use super::{
    Admin,
    body::{Body, Document},
    change::{make, make_of_document},
    conditions::{Asked, Common, Conditions, Errors},
    problem::Problem,
    receipt::Receipt,
    reload,
    segments::Segments,
};
use crate::{
    config,
    control::Command,
    spec::{BackendAddress, Name, Spec, Weight},
};
use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use std::{path::Path, sync::Arc};
use utoipa::{IntoResponses, ToSchema};

pub(super) type Answer = Result<Response, Problem>;

/// What every change may answer.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "documents the answers; they are made by `change` and `Problem`")]
pub(super) enum Answers {
    /// Done: in force everywhere, no request is routed as before any more.
    #[response(status = 200)]
    Done(Receipt),
    /// The query or a header cannot be read.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// No such service, pool or backend.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// Not possible in this state; nothing has changed.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// `If-Match` names another revision; nothing has changed.
    #[response(status = 412, content_type = "application/problem+json")]
    Stale(Problem),
    /// Invalid, with every error; nothing has changed.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// Shutting down, too busy, or the change could not be kept; nothing has changed.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
    /// No space is left to keep the change; nothing has changed.
    #[response(status = 507, content_type = "application/problem+json")]
    NoSpace(Problem),
    /// With `receipt`: the change stands, but `wait` was too short for what was open.
    #[response(status = 504, content_type = "application/problem+json")]
    StillOpen(Problem),
}

/// What a change with a body may answer besides.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "as above")]
pub(super) enum BodyAnswers {
    /// The body took too long.
    #[response(status = 408, content_type = "application/problem+json")]
    Slow(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
}

/// What was put did not exist before.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "as above")]
enum Created {
    /// Done, and it is new.
    #[response(status = 201)]
    Created(Receipt),
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Weights {
    /// By pool, 0 to 1,000,000; pools that are not named keep theirs.
    #[schema(value_type = HashMap<String, u32>)]
    weights: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

/// Changes how a service's traffic is shared.
#[utoipa::path(put, path = "/v1/services/{service}/weights", tag = "steer",
    params(("service" = String, Path), Asked), request_body = Weights,
    responses(Answers, BodyAnswers))]
pub(super) async fn put_weights(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Weights>,
) -> Answer {
    let mut errors = Errors::default();
    errors.unknown(&body.common.others, "weights, cause, force, wait_healthy");
    let weights = read_weights(body.weights, &mut errors);
    let conditions = asked.conditions(body.common, &mut errors);
    errors.check()?;
    make(&admin, Command::SetWeights { service: service.into(), weights }, conditions).await
}

fn read_weights(value: Option<Value>, errors: &mut Errors) -> Vec<(Name, Weight)> {
    let Some(Value::Object(by_pool)) = value else {
        errors.add("weights", "must be an object such as {\"blue\": 95, \"green\": 5}");
        return Vec::new();
    };
    let mut weights = Vec::with_capacity(by_pool.len());
    for (pool, value) in by_pool {
        match value.as_u64().and_then(Weight::new) {
            Some(weight) => weights.push((pool.into(), weight)),
            None => errors.add(
                &format!("weights.{pool}"),
                format_args!("{value} is not a whole number from 0 to {}", Weight::MAX),
            ),
        }
    }
    weights
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Cutover {
    /// The pool that gets all weight.
    #[schema(value_type = String)]
    to: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

/// Moves all weight to one pool at once.
#[utoipa::path(post, path = "/v1/services/{service}/cutover", tag = "steer",
    params(("service" = String, Path), Asked), request_body = Cutover,
    responses(Answers, BodyAnswers))]
pub(super) async fn cutover(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Cutover>,
) -> Answer {
    let mut errors = Errors::default();
    errors.unknown(&body.common.others, "to, cause, force, wait_healthy");
    if body.to.is_none() {
        errors.add("to", "name the pool that gets all weight");
    }
    let to = errors.text("to", body.to).unwrap_or_default().into();
    let conditions = asked.conditions(body.common, &mut errors);
    errors.check()?;
    make(&admin, Command::Cutover { service: service.into(), to }, conditions).await
}

/// Replaces the whole desired state. The document has the keys of the configuration file.
#[utoipa::path(put, path = "/v1/config", tag = "steer",
    params(Asked), request_body(content = ref("#/components/schemas/Config")), responses(Answers, BodyAnswers))]
pub(super) async fn put_config(
    State(admin): State<Arc<Admin>>,
    asked: Asked,
    Document(text): Document,
) -> Answer {
    let mut errors = Errors::default();
    let conditions = asked.conditions(Common::default(), &mut errors);
    let (spec, warnings) = read_config(&text, errors)?;
    make_of_document(&admin, Command::Replace { spec }, conditions, warnings).await
}

/// A configuration, and the warnings about it. `errors` are those of the request so far.
pub(super) fn read_config(
    text: &str,
    mut errors: Errors,
) -> Result<(Box<Spec>, Vec<String>), Problem> {
    // Whoever may ask over the network must not read the environment of the process.
    let outcome =
        config::parse(text, Path::new("request body"), config::Surroundings::of_clients());
    errors.extend(outcome.errors.iter().map(ToString::to_string));
    errors.check()?;
    let spec = outcome.spec.ok_or_else(|| Problem::invalid(vec!["not a configuration".into()]))?;
    Ok((Box::new(spec), outcome.warnings.iter().map(ToString::to_string).collect()))
}

/// Creates or replaces a pool. The document has the keys of a pool in the configuration file.
#[utoipa::path(put, path = "/v1/services/{service}/pools/{pool}", tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), Asked), request_body(content = ref("#/components/schemas/PoolBody")),
    responses(Answers, Created, BodyAnswers))]
pub(super) async fn put_pool(
    State(admin): State<Arc<Admin>>,
    Segments((service, name)): Segments<(String, String)>,
    asked: Asked,
    Body(mut body): Body<Common>,
) -> Answer {
    let mut errors = Errors::default();
    let document = Value::Object(std::mem::take(&mut body.others));
    let conditions = asked.conditions(body, &mut errors);
    let pool =
        errors.keep(config::parse_pool(&document, &name, weight(&admin, &service, &name)))?;
    make(&admin, Command::PutPool { service: service.into(), name: name.into(), pool }, conditions)
        .await
}

/// What a pool weighs that does not say: as much as before, a new one nothing.
fn weight(admin: &Admin, service: &str, pool: &str) -> Weight {
    let view = admin.handle.view();
    let pool = view.spec.services.get(service).and_then(|service| service.pools.get(pool));
    pool.map_or(Weight::ZERO, |pool| pool.weight)
}

/// Removes a pool: no new requests, then what is in flight finishes.
#[utoipa::path(delete, path = "/v1/services/{service}/pools/{pool}", tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), Asked), responses(Answers))]
pub(super) async fn delete_pool(
    State(admin): State<Arc<Admin>>,
    Segments((service, name)): Segments<(String, String)>,
    asked: Asked,
) -> Answer {
    let mut errors = Errors::default();
    let conditions = asked.conditions(Common::default(), &mut errors);
    errors.check()?;
    make(&admin, Command::DeletePool { service: service.into(), name: name.into() }, conditions)
        .await
}

/// Adds a backend or changes one. The document has the keys of a backend in the configuration file.
#[utoipa::path(put, path = "/v1/services/{service}/pools/{pool}/backends/{address}", tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), ("address" = String, Path), Asked),
    request_body(content = ref("#/components/schemas/BackendBody")), responses(Answers, Created, BodyAnswers))]
pub(super) async fn put_backend(
    State(admin): State<Arc<Admin>>,
    Segments((service, pool, address)): Segments<(String, String, String)>,
    asked: Asked,
    Body(mut body): Body<Common>,
) -> Answer {
    let mut errors = Errors::default();
    let document = Value::Object(std::mem::take(&mut body.others));
    let conditions = asked.conditions(body, &mut errors);
    let (address, backend) = errors.keep(config::parse_backend(&document, &address))?;
    make(
        &admin,
        Command::PutBackend { service: service.into(), pool: pool.into(), address, backend },
        conditions,
    )
    .await
}

/// Removes a backend: no new requests, then what is in flight finishes.
#[utoipa::path(delete, path = "/v1/services/{service}/pools/{pool}/backends/{address}",
    tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), ("address" = String, Path), Asked),
    responses(Answers))]
pub(super) async fn delete_backend(
    State(admin): State<Arc<Admin>>,
    Segments((service, pool, address)): Segments<(String, String, String)>,
    asked: Asked,
) -> Answer {
    let mut errors = Errors::default();
    let conditions = asked.conditions(Common::default(), &mut errors);
    errors.check()?;
    let address = existing(&address)?;
    make(
        &admin,
        Command::DeleteBackend { service: service.into(), pool: pool.into(), address },
        conditions,
    )
    .await
}

/// Reads the configuration file again, as it is now.
#[utoipa::path(post, path = "/v1/reload", tag = "steer", params(Asked), request_body = Common,
    responses(Answers, BodyAnswers))]
pub(super) async fn reload(
    State(admin): State<Arc<Admin>>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    // What was read must be put in force or shown, also when the caller leaves meanwhile.
    let reloading = tokio::spawn(async move {
        let Some(reloader) = &admin.reloader else {
            return Err(Problem::conflict("crossfade was started without a configuration file"));
        };
        let outcome = reloader.reload().await.outcome;
        match outcome.spec {
            Some(spec) => {
                let command = Command::Load { file: Box::new(spec) };
                let warnings = outcome.warnings.iter().map(ToString::to_string).collect();
                make_of_document(&admin, command, conditions, warnings).await
            }
            None => {
                reload::refuse(&admin.handle, &outcome).await;
                Err(Problem::invalid(outcome.errors.iter().map(ToString::to_string).collect()))
            }
        }
    });
    reloading.await.unwrap_or_else(|error| Err(Problem::unavailable(error.to_string())))
}

/// The conditions of a change whose body says nothing else.
pub(super) fn plain(asked: Asked, body: Common) -> Result<Conditions, Problem> {
    let mut errors = Errors::default();
    errors.unknown(&body.others, "cause, force, wait_healthy");
    let conditions = asked.conditions(body, &mut errors);
    errors.check()?;
    Ok(conditions)
}

/// The address of a backend that should be there: what is no address is none's.
pub(super) fn existing(address: &str) -> Result<BackendAddress, Problem> {
    address.parse().map_err(|error| Problem::not_found(format!("no backend `{address}`: {error}")))
}
