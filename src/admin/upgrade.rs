//! Another process takes over.

use super::{Admin, audit::Attempt, body::Body, conditions::IfMatch, problem::Problem};
use crate::{
    config::parse_duration,
    upgrade::{PATIENCE, UpgradeError},
};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};
use utoipa::ToSchema;

/// Longest that can be asked for: the API answers everything within some minutes.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpgradeBody {
    /// The absolute path of the binary, on the machine that crossfade runs on. Without it: the one that is now where
    /// crossfade was started from.
    binary: Option<String>,
    /// How long the new process may take to become ready, such as `60s`, which is the default.
    within: Option<String>,
}

/// The process that has taken over.
#[derive(Serialize, ToSchema)]
pub(super) struct UpgradeReceipt {
    pid: u32,
    version: String,
}

/// Starts a new process that takes over the listeners and what is in force; this one drains. Answers when the new one
/// accepts, or when it was ended because it could not take over: then nothing has changed.
#[utoipa::path(post, path = "/v1/upgrade", tag = "steer", request_body = UpgradeBody, responses(
    (status = 200, body = UpgradeReceipt),
    (status = 400, body = Problem, content_type = "application/problem+json",
        description = "Not JSON, or `If-Match` cannot be read"),
    (status = 408, body = Problem, content_type = "application/problem+json",
        description = "The body took too long"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "An upgrade is under way, or the new process did not take over: `errors` has why, and the \
            last lines that it said. Nothing has changed"),
    (status = 412, body = Problem, content_type = "application/problem+json",
        description = "`If-Match` names another revision; nothing has changed"),
    (status = 413, body = Problem, content_type = "application/problem+json",
        description = "The body is too large"),
    (status = 415, body = Problem, content_type = "application/problem+json",
        description = "The body is not `application/json`"),
    (status = 422, body = Problem, content_type = "application/problem+json",
        description = "The binary cannot be started, or the body is invalid"),
))]
pub(super) async fn upgrade(
    State(admin): State<Arc<Admin>>,
    Extension(attempt): Extension<Attempt>,
    uri: Uri,
    headers: HeaderMap,
    Body(UpgradeBody { binary, within }): Body<UpgradeBody>,
) -> Result<Json<UpgradeReceipt>, Problem> {
    // Above all no `dry_run`, which must not be taken for granted.
    if uri.query().is_some_and(|query| !query.is_empty()) {
        let error = "an upgrade takes no query parameters: it is made, or it is not";
        return Err(Problem::invalid(vec![error.to_owned()]));
    }
    IfMatch::of(&headers)?.check(admin.handle.view().revision)?;
    let within = match within.as_deref().map(|text| (text, parse_duration(text))) {
        None => PATIENCE,
        Some((_, Some(within))) if !within.is_zero() && within <= LONGEST => within,
        Some((text, _)) => {
            let error = format!("within: `{text}` is not a duration above 0 and up to 1h");
            return Err(Problem::invalid(vec![error]));
        }
    };
    let Some(upgrader) = &admin.upgrader else {
        return Err(Problem::conflict(
            "this crossfade cannot be upgraded: it was started without a configuration file",
        ));
    };
    match upgrader.ask(binary.map(PathBuf::from), within).await {
        Ok(upgraded) => {
            attempt.upgraded();
            Ok(Json(UpgradeReceipt { pid: upgraded.pid, version: upgraded.version }))
        }
        Err(UpgradeError::Refused(why)) => Err(Problem::conflict(why)),
        Err(UpgradeError::Unusable(why)) => Err(Problem::invalid(vec![format!("binary: {why}")])),
        Err(UpgradeError::Failed { why, said }) => {
            Err(Problem::not_upgraded([vec![why], said].concat()))
        }
    }
}
