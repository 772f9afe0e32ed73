//! Sends a change to the control plane and answers with its receipt.

use super::{Admin, conditions::Conditions, problem::Problem, receipt::Receipt};
use crate::control::{self, Change, Command, Known, Reply, Source};
use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::time::Duration;

/// Said with the answer to a change that was made before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Between two looks at what a change left behind.
const LOOK: Duration = Duration::from_millis(5);

pub(super) async fn make(
    admin: &Admin,
    command: Command,
    conditions: Conditions,
) -> Result<Response, Problem> {
    make_of_document(admin, command, conditions, Vec::new()).await
}

/// As [`make`], with what there was to warn of in the document that asks for it.
pub(super) async fn make_of_document(
    admin: &Admin,
    command: Command,
    mut conditions: Conditions,
    warnings: Vec<String>,
) -> Result<Response, Problem> {
    let wait = conditions.waits();
    let warn = |receipt: &mut control::Receipt| receipt.warnings.extend(warnings);
    let Some(once) = conditions.once.take().filter(|_| !conditions.dry_run) else {
        let mut receipt = apply(admin, command, conditions).await?;
        warn(&mut receipt);
        return answer(admin, &receipt, wait).await;
    };
    let attempt = conditions.attempt.clone();
    let change = change(admin, command, conditions)?;
    let (author, is_patient) = (change.author.clone(), change.wait_healthy.is_some());
    let (handle, asked) = (admin.handle.clone(), once.clone());
    let made = async move { handle.apply_once(change, asked).await };
    match attempt.follow(made, Reply::made, is_patient).await? {
        Reply::Made(mut receipt) => {
            warn(&mut receipt);
            if let Ok(text) = serde_json::to_string(&Receipt::from(&*receipt)) {
                admin.handle.history().remember(author, once.key, text);
            }
            answer(admin, &receipt, wait).await
        }
        Reply::Known(known) => again(admin, known).await,
    }
}

/// The answer to a change that was made before.
async fn again(admin: &Admin, known: Known) -> Result<Response, Problem> {
    let text = match known.answer {
        Some(text) => text,
        None => {
            let (revision, _) = admin.handle.history().revision(known.revision).await?;
            serde_json::to_string(&Receipt::again(revision))
                .map_err(|error| Problem::unavailable(error.to_string()))?
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json"), (REPLAYED, "true")], text).into_response())
}

async fn apply(
    admin: &Admin,
    command: Command,
    conditions: Conditions,
) -> Result<control::Receipt, Problem> {
    let attempt = conditions.attempt.clone();
    let change = change(admin, command, conditions)?;
    let (handle, is_patient) = (admin.handle.clone(), change.wait_healthy.is_some());
    let made = async move { handle.apply(change).await };
    Ok(attempt.follow(made, |receipt| Some(receipt), is_patient).await?)
}

fn change(admin: &Admin, command: Command, conditions: Conditions) -> Result<Change, Problem> {
    let if_match = conditions.if_match.revision(admin.handle.view().revision)?;
    let source = if matches!(command, Command::Load { .. }) { Source::File } else { Source::Api };
    Ok(Change {
        command,
        source,
        author: conditions.caller.author,
        role: conditions.caller.role,
        cause: conditions.cause,
        force: conditions.force,
        if_match,
        dry_run: conditions.dry_run,
        wait_healthy: conditions.wait_healthy,
    })
}

/// The receipt, at once or when what was left is idle.
async fn answer(
    admin: &Admin,
    receipt: &control::Receipt,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    if let Some(wait) = wait {
        let idle = async {
            while open(admin, receipt).await > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(wait, idle).await.is_err() {
            return Err(Problem::still_open(receipt.into(), open(admin, receipt).await));
        }
    }
    // A dry run creates nothing.
    let is_new = receipt.created && receipt.revision.is_some();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Receipt::from(receipt))).into_response())
}

/// Requests still open on what leaves, those in the processes before this one included.
async fn open(admin: &Admin, receipt: &control::Receipt) -> u64 {
    // Who does not say may have one.
    let before = admin.handle.open_before().await;
    receipt.open() + before.map_or(1, |open| receipt.open_elsewhere(&open))
}
