//! The OpenAPI document: made from the handlers, with the configuration's own schema for what speaks the
//! file's keys.

use super::{
    dashboard::LiveView,
    events::{AuditEvent, RevisionEvent, RolloutEvent},
    problem::Problem,
    rollout::RolloutAsked,
};
use crate::config;
use serde_json::{Map, Value};
use utoipa::{
    OpenApi as _,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response,
        ResponseBuilder, Type,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "crossfade admin API",
        description = "Looks into a running crossfade and steers it."
    ),
    components(schemas(LiveView, Problem, RolloutAsked, RolloutEvent, RevisionEvent, AuditEvent)),
    tags(
        (name = "health", description = "For probes"),
        (name = "look", description = "What is in force and what it does"),
        (name = "history", description = "What was changed, and what the file does not say"),
        (name = "steer", description = "Changes; each answers with a receipt"),
        (name = "rollouts", description = "Moves a service to another version, and judges it meanwhile"),
    )
)]
struct Document;

/// Of the scheme by which a token is shown.
const TOKEN: &str = "token";

/// What is asked by POST and is no change, and so is not made once.
const NO_CHANGES: [&str; 3] = ["plan", "upgrade", "plan_rollout"];

/// The document without paths.
pub(super) fn empty() -> OpenApi {
    let mut document = Document::openapi();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "Of `admin.tokens`; none where there are none, or something else shows who asks",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    let none: [&str; 0] = [];
    let either = [SecurityRequirement::new(TOKEN, none), SecurityRequirement::default()];
    document.security = Some(either.into());
    document
}

/// The whole document as JSON, from what the routes say of themselves.
pub(super) fn render(mut document: OpenApi) -> String {
    describe_common(&mut document);
    let mut document = serde_json::to_value(document).expect("its keys are strings");
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        add_configuration(schemas, config::schema());
    }
    document.to_string()
}

/// Adds what any request may be answered to every operation.
fn describe_common(document: &mut OpenApi) {
    let answers = [
        ("401", "Nothing shows who asks, or a wrong token"),
        ("403", "Whoever asks has another role than this takes; or a page of another origin asks"),
        ("429", "Too many wrong tokens came from where this comes from"),
        ("421", "`Host` is not a name of the admin API"),
        ("503", "Too many requests at once"),
    ];
    for item in document.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, .. } = item;
        for operation in [&mut *put, &mut *post, &mut *delete].into_iter().flatten() {
            let what = "Only if this is the current revision, in quotes, such as \"41\"";
            describe_field(operation, "If-Match", what);
        }
        let makes_changes =
            |it: &&mut Operation| !NO_CHANGES.map(Some).contains(&it.operation_id.as_deref());
        for operation in post.iter_mut().filter(makes_changes) {
            let what = "The same key within 24 hours is the same change: it is made once, and answered as then";
            describe_field(operation, "Idempotency-Key", what);
        }
        for operation in [get, put, post, delete].into_iter().flatten() {
            for (status, description) in answers {
                let responses = &mut operation.responses.responses;
                responses.entry(status.into()).or_insert_with(|| problem_response(description));
            }
            describe_answers(operation);
            if let Some(RefOr::T(stale)) = operation.responses.responses.get_mut("412") {
                let text = ObjectBuilder::new().schema_type(Type::String).build();
                let tag = HeaderBuilder::new()
                    .schema(Some(text))
                    .description(Some("The current revision, in quotes"));
                stale.headers.insert("etag".to_owned(), RefOr::T(tag.build()));
            }
        }
    }
}

fn describe_field(operation: &mut Operation, name: &str, what: &str) {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    let field = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(text))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(field));
}

/// A response must have a description (OpenAPI 3.1 section 4.8.17.1); where the route gives none, it is
/// what the operation is for.
fn describe_answers(operation: &mut Operation) {
    let summary = operation.summary.as_deref().unwrap_or("What was asked for");
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            summary.clone_into(&mut response.description);
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

/// Adds the configuration's schema as `Config`, its parts as `ConfigPool` and so on, and the bodies that
/// have keys of both the file and a change.
fn add_configuration(schemas: &mut Map<String, Value>, mut schema: Value) {
    relocate(&mut schema);
    let Some(whole) = schema.as_object_mut() else { return };
    whole.remove("$schema");
    let parts = whole.remove("$defs");
    for (name, part) in parts.as_ref().and_then(Value::as_object).into_iter().flatten() {
        schemas.insert(format!("Config{name}"), part.clone());
    }
    schemas.insert("Config".to_owned(), schema);
    for (body, part, without) in
        [("PoolBody", "ConfigPool", None), ("BackendBody", "ConfigBackendSection", Some("address"))]
    {
        if let Some(schema) = with_common(schemas, part, without) {
            schemas.insert(body.to_owned(), schema);
        }
    }
    if let Some(schema) = rollout_body(schemas) {
        schemas.insert("RolloutBody".to_owned(), schema);
    }
}

/// The keys of a plan with those of who starts a rollout by it.
fn rollout_body(schemas: &Map<String, Value>) -> Option<Value> {
    let mut body = with_common(schemas, "ConfigRollout", None)?;
    let asked = schemas.get("RolloutAsked")?;
    let keys = body.get_mut("properties")?.as_object_mut()?;
    keys.extend(asked["properties"].as_object()?.clone());
    body.as_object_mut()?.insert("required".to_owned(), asked["required"].clone());
    Some(body)
}

/// A part of the configuration with the keys of any change beside its own, and without the one that the
/// path says already.
fn with_common(schemas: &Map<String, Value>, part: &str, without: Option<&str>) -> Option<Value> {
    let mut body = schemas.get(part)?.clone();
    let common = schemas.get("Common")?["properties"].as_object()?;
    let keys = body.get_mut("properties")?.as_object_mut()?;
    keys.extend(common.clone());
    if let Some(without) = without {
        keys.shift_remove(without);
        let required = body.get_mut("required").and_then(Value::as_array_mut);
        required.into_iter().for_each(|required| required.retain(|key| key != without));
    }
    Some(body)
}

/// Makes references within the configuration's schema references within the document.
fn relocate(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if let Some(Value::String(reference)) = keys.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/$defs/")
            {
                *reference = format!("#/components/schemas/Config{name}");
            }
            keys.values_mut().for_each(relocate);
        }
        Value::Array(values) => values.iter_mut().for_each(relocate),
        _ => {}
    }
}
