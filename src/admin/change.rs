//! Sends a change to the control plane and answers with its receipt.

use super::{Admin, conditions::Conditions, problem::Problem, receipt::Receipt};
use crate::control::{self, Change, Command, Source};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::time::Duration;

/// Between two looks at what a change left behind.
const LOOK: Duration = Duration::from_millis(5);

pub(super) async fn make(
    admin: &Admin,
    command: Command,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let wait = conditions.waits();
    let receipt = apply(admin, command, conditions).await?;
    answer(&receipt, wait).await
}

pub(super) async fn apply(
    admin: &Admin,
    command: Command,
    conditions: Conditions,
) -> Result<control::Receipt, Problem> {
    let if_match = conditions.if_match.revision(admin.handle.view().revision)?;
    let source = if matches!(command, Command::Load { .. }) { Source::File } else { Source::Api };
    let change = Change {
        command,
        source,
        author: conditions.caller.author,
        cause: conditions.cause,
        force: conditions.force,
        if_match,
        dry_run: conditions.dry_run,
        wait_healthy: conditions.wait_healthy,
    };
    Ok(admin.handle.apply(change).await?)
}

/// The receipt, at once or when what was left is idle.
pub(super) async fn answer(
    receipt: &control::Receipt,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    if let Some(wait) = wait {
        let idle = async {
            while receipt.open() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(wait, idle).await.is_err() {
            return Err(Problem::still_open(receipt.into(), receipt.open()));
        }
    }
    let status = if receipt.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Receipt::from(receipt))).into_response())
}
