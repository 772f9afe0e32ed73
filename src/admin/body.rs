use super::problem::Problem;
use axum::{
    body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::time::Duration;

/// Longest body but for a whole configuration.
pub(super) const LIMIT: usize = 1 << 20;

/// Longest configuration document.
const CONFIG_LIMIT: usize = 16 << 20;

/// Longest time a body may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

/// A JSON object, read into a lenient `T` that its handler checks; no body is an empty object.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let text = read(request, LIMIT).await?;
        let text = if text.is_empty() { "{}" } else { &text };
        let value: Value = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        if !value.is_object() {
            return Err(Problem::invalid(vec!["the body must be a JSON object".into()]));
        }
        serde_json::from_value(value)
            .map(Self)
            .map_err(|error| Problem::invalid(vec![error.to_string()]))
    }
}

/// A configuration document, unread: `config` reads it, with the place of each error.
pub(super) struct Document(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let text = read(request, CONFIG_LIMIT).await?;
        if text.is_empty() {
            return Err(Problem::invalid(vec!["send the configuration as the body".into()]));
        }
        serde_json::from_str::<IgnoredAny>(&text).map_err(|error| not_json(&error))?;
        Ok(Self(text))
    }
}

async fn read(request: Request, limit: usize) -> Result<String, Problem> {
    let (head, body) = request.into_parts();
    if !body.is_end_stream() && !is_json(&head.headers) {
        return Err(Problem::not_json());
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(Problem::too_large(limit));
    }
    let bytes = gather(body, limit).await?;
    String::from_utf8(bytes).map_err(|_| Problem::malformed("the body is not UTF-8"))
}

/// A whole body.
///
/// # Errors
/// When it is too large, too slow or incomplete.
pub(super) async fn gather(body: body::Body, limit: usize) -> Result<Vec<u8>, Problem> {
    tokio::time::timeout(DEADLINE, collect(body, limit)).await.map_err(|_| Problem::slow_body())?
}

async fn collect(body: body::Body, limit: usize) -> Result<Vec<u8>, Problem> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(limit)),
        Err(error) => Err(Problem::malformed(format!("the body is incomplete: {error}"))),
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::malformed(format!("the body is not JSON: {error}"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
