//! Who takes requests away from a service, a pool or some of its backends, and gives them back.

use super::{
    Admin,
    body::Body,
    change::make,
    conditions::{Asked, Common, Conditions, Errors},
    problem::Problem,
    segments::Segments,
    steer::{Answer, Answers, BodyAnswers, existing, plain},
};
use crate::{
    control::Command,
    spec::{BackendAddress, Name},
};
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// Most backends that one change drains.
const MOST: usize = 1000;

#[derive(Deserialize, ToSchema)]
pub(super) struct OfPool {
    /// Addresses of backends; without them the whole pool.
    #[schema(value_type = Option<Vec<String>>)]
    backends: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

fn addresses(value: Option<Value>, errors: &mut Errors) -> Vec<BackendAddress> {
    let list = match value {
        None => return Vec::new(),
        Some(Value::Array(list)) if (1..=MOST).contains(&list.len()) => list,
        Some(_) => {
            errors.add("backends", format_args!("must be a list of 1 to {MOST} addresses"));
            return Vec::new();
        }
    };
    let mut addresses = Vec::with_capacity(list.len());
    for value in list {
        match value.as_str().map(str::parse) {
            Some(Ok(address)) => addresses.push(address),
            Some(Err(error)) => errors.add("backends", error),
            None => errors.add("backends", format_args!("{value} is not an address")),
        }
    }
    addresses
}

/// No new requests for a service, until it is undrained: 503 `draining`.
#[utoipa::path(post, path = "/v1/services/{service}/drain", tag = "steer",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers))]
pub(super) async fn drain_service(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    make(&admin, drain(service, None, Vec::new()), conditions).await
}

/// All pools of a service get requests again.
#[utoipa::path(post, path = "/v1/services/{service}/undrain", tag = "steer",
    params(("service" = String, Path), Asked), request_body = Common,
    responses(Answers, BodyAnswers))]
pub(super) async fn undrain_service(
    State(admin): State<Arc<Admin>>,
    Segments(service): Segments<String>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    make(&admin, undrain(service, None, Vec::new()), conditions).await
}

/// No new requests for a pool, or for some of its backends at once, until it is undrained.
#[utoipa::path(post, path = "/v1/services/{service}/pools/{pool}/drain", tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), Asked), request_body = OfPool,
    responses(Answers, BodyAnswers))]
pub(super) async fn drain_pool(
    State(admin): State<Arc<Admin>>,
    Segments((service, pool)): Segments<(String, String)>,
    asked: Asked,
    Body(body): Body<OfPool>,
) -> Answer {
    let (backends, conditions) = body.read(asked)?;
    make(&admin, drain(service, Some(pool), backends), conditions).await
}

/// A pool, or some of its backends, get requests again.
#[utoipa::path(post, path = "/v1/services/{service}/pools/{pool}/undrain", tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), Asked), request_body = OfPool,
    responses(Answers, BodyAnswers))]
pub(super) async fn undrain_pool(
    State(admin): State<Arc<Admin>>,
    Segments((service, pool)): Segments<(String, String)>,
    asked: Asked,
    Body(body): Body<OfPool>,
) -> Answer {
    let (backends, conditions) = body.read(asked)?;
    make(&admin, undrain(service, Some(pool), backends), conditions).await
}

/// No new requests for a backend, until it is undrained.
#[utoipa::path(post, path = "/v1/services/{service}/pools/{pool}/backends/{address}/drain",
    tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), ("address" = String, Path), Asked),
    request_body = Common, responses(Answers, BodyAnswers))]
pub(super) async fn drain_backend(
    State(admin): State<Arc<Admin>>,
    Segments((service, pool, address)): Segments<(String, String, String)>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    make(&admin, drain(service, Some(pool), vec![existing(&address)?]), conditions).await
}

/// A backend gets requests again.
#[utoipa::path(post, path = "/v1/services/{service}/pools/{pool}/backends/{address}/undrain",
    tag = "steer",
    params(("service" = String, Path), ("pool" = String, Path), ("address" = String, Path), Asked),
    request_body = Common, responses(Answers, BodyAnswers))]
pub(super) async fn undrain_backend(
    State(admin): State<Arc<Admin>>,
    Segments((service, pool, address)): Segments<(String, String, String)>,
    asked: Asked,
    Body(body): Body<Common>,
) -> Answer {
    let conditions = plain(asked, body)?;
    make(&admin, undrain(service, Some(pool), vec![existing(&address)?]), conditions).await
}

impl OfPool {
    fn read(self, asked: Asked) -> Result<(Vec<BackendAddress>, Conditions), Problem> {
        let mut errors = Errors::default();
        errors.unknown(&self.common.others, "backends, cause, force, wait_healthy");
        let backends = addresses(self.backends, &mut errors);
        let conditions = asked.conditions(self.common, &mut errors);
        errors.check()?;
        Ok((backends, conditions))
    }
}

fn drain(service: String, pool: Option<String>, backends: Vec<BackendAddress>) -> Command {
    Command::Drain { service: service.into(), pool: pool.map(Name::from), backends }
}

fn undrain(service: String, pool: Option<String>, backends: Vec<BackendAddress>) -> Command {
    Command::Undrain { service: service.into(), pool: pool.map(Name::from), backends }
}
