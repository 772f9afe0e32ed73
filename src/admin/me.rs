//! Who asks, as they are known here.

use super::access::Caller;
use axum::{Json, extract::Extension};
use serde::Serialize;
use utoipa::ToSchema;

/// Who asks.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// Who the author of a change would be.
    author: String,
    /// `viewer`, `operator` or `approver`.
    role: &'static str,
    /// How that is known: `token`, `certificate`, `unix`, or `address` where nobody need say who they are.
    by: &'static str,
}

/// Who asks, and what they may.
#[utoipa::path(get, path = "/v1/me", tag = "look", responses((status = 200, body = Me)))]
pub(super) async fn me(Extension(caller): Extension<Caller>) -> Json<Me> {
    let Caller { author, role, by } = caller;
    Json(Me { author: author.to_string(), role: role.as_str(), by: by.as_str() })
}
