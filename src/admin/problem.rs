use super::receipt::Receipt;
use crate::{
    control::{ChangeError, StoreError},
    spec::Spec,
};
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

const WRONG_TOKEN: &str = "/problems/wrong-token";

/// Why a request was not answered as asked (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// What kind of problem, for programs.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What was wrong with this request, and what would help.
    detail: String,
    /// Every error, where there can be several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    /// The change that was made although the wait for what it left was too short.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Box<Receipt>>,
    /// Requests that were still open then.
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<u64>,
    /// What the header says besides.
    #[serde(skip)]
    field: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            receipt: None,
            open: None,
            field: None,
        }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { field: Some(Box::new((name, value))), ..self }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "/problems/malformed", "Malformed request", detail)
    }

    pub(super) fn cross_origin(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "/problems/cross-origin", "From another origin", detail)
    }

    pub(super) fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "/problems/unauthenticated", "Say who you are", detail)
    }

    pub(super) fn wrong_token(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, WRONG_TOKEN, "Wrong token", detail)
    }

    pub(super) fn limited(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "/problems/too-many-wrong-tokens",
            "Too many wrong tokens",
            format!("too many wrong tokens came from here; try again in {seconds} s"),
        );
        problem.with(header::RETRY_AFTER, seconds.into())
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "/problems/forbidden", "Not allowed", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", detail)
    }

    pub(super) fn no_service(name: &str, spec: &Spec) -> Self {
        let known: Vec<&str> = spec.services.keys().map(|name| &**name).collect();
        Self::not_found(format!("no service `{name}`; there is: {}", known.join(", ")))
    }

    pub(super) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "/problems/method-not-allowed",
            "Method not allowed",
            detail,
        )
    }

    pub(super) fn slow_body() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "/problems/slow-body",
            "The body took too long",
            "send the whole body within 10 s",
        )
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "/problems/conflict", "Not possible in this state", detail)
    }

    pub(super) fn stale(current: u64) -> Self {
        let detail = format!(
            "If-Match names another revision than the current one, {current}; look again, then repeat"
        );
        let problem = Self::new(
            StatusCode::PRECONDITION_FAILED,
            "/problems/stale",
            "Changed in the meantime",
            detail,
        );
        match HeaderValue::try_from(format!("\"{current}\"")) {
            Ok(tag) => problem.with(header::ETAG, tag),
            Err(_) => problem,
        }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("a body may have {} MiB here", limit >> 20);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "/problems/too-large", "Body too large", detail)
    }

    pub(super) fn not_json() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "/problems/not-json",
            "Not JSON",
            "send the body with `Content-Type: application/json`",
        )
    }

    pub(super) fn misdirected(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "/problems/misdirected", "Wrong Host", detail)
    }

    /// `errors` has at least one.
    pub(super) fn invalid(errors: Vec<String>) -> Self {
        Self {
            errors: errors.clone(),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "/problems/invalid",
                "Invalid",
                errors.join("; "),
            )
        }
    }

    pub(super) fn overloaded() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "/problems/overloaded",
            "Too many requests at once",
            "the admin API is busy; try again in a second",
        );
        problem.with(header::RETRY_AFTER, 1.into())
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let problem = Self::new(status, "/problems/unavailable", "Not ready", detail);
        problem.with(header::RETRY_AFTER, 1.into())
    }

    fn upgrading(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "/problems/upgrading", "Being upgraded", detail)
    }

    /// `errors` has at least one: why.
    pub(super) fn not_upgraded(errors: Vec<String>) -> Self {
        let detail = errors.first().cloned().unwrap_or_default();
        Self {
            errors,
            ..Self::new(
                StatusCode::CONFLICT,
                "/problems/not-upgraded",
                "Not upgraded; nothing has changed",
                detail,
            )
        }
    }

    pub(super) fn no_space(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "/problems/no-space",
            "No space left to keep it",
            detail,
        )
    }

    pub(super) fn timed_out() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "/problems/timed-out",
            "No answer in time",
            "the control plane did not answer; look at /v1/status before trying again",
        )
    }

    /// The change stands, but what it left is not idle yet.
    pub(super) fn still_open(receipt: Receipt, open: u64) -> Self {
        let detail = format!(
            "the change is made, but when the wait was over, {open} of what was in flight before was not done"
        );
        Self {
            receipt: Some(Box::new(receipt)),
            open: Some(open),
            ..Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "/problems/still-open",
                "Still open after the wait",
                detail,
            )
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        ChangeError::from(error).into()
    }
}

/// Why something was refused, beside the answer: for the audit log.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    /// The last part of the problem's `type`.
    pub(super) reason: Option<&'static str>,
    /// Only where it has no values of the request.
    pub(super) detail: Option<String>,
}

impl Problem {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn refusal(&self) -> Refusal {
        let reason = self.kind.strip_prefix("/problems/");
        let detail = match self.status {
            404 | 405 | 409 | 412 | 413 | 415 | 503 => Some(self.detail.clone()),
            422 => Some(format!("{} mistakes", self.errors.len())),
            _ => None,
        };
        Refusal { reason, detail }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound(what) => Self::not_found(what),
            ChangeError::Conflict(why) => Self::conflict(why),
            ChangeError::Forbidden(why) => Self::forbidden(why),
            ChangeError::Stale { current } => Self::stale(current),
            ChangeError::Invalid(errors) => Self::invalid(errors),
            ChangeError::KeyReused => Self::invalid(vec![error.to_string()]),
            ChangeError::NotKept(StoreError::Full(_)) => Self::no_space(error.to_string()),
            ChangeError::Upgrading => Self::upgrading(error.to_string()),
            ChangeError::NotKept(_) | ChangeError::Ended => Self::unavailable(error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        response.extensions_mut().insert(self.refusal());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3.
            let challenge = if self.kind == WRONG_TOKEN {
                "Bearer realm=\"crossfade\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"crossfade\""
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some((name, value)) = self.field.map(|field| *field) {
            headers.insert(name, value);
        }
        response
    }
}
