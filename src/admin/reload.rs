//! The file's way into force, whether it changed by itself or somebody asked for it.

use super::Audit;
use crate::{
    config::Outcome,
    control::{Change, ChangeError, Command, Handle, Source},
};

/// Puts the file's new content in force, or shows why it cannot be.
pub async fn follow(handle: &Handle, audit: &Audit, outcome: Outcome) {
    let Some(file) = outcome.spec else {
        audit.unreadable(outcome.errors.len());
        refuse(handle, &outcome).await;
        return;
    };
    for warning in &outcome.warnings {
        tracing::warn!("{warning}");
    }
    let change = Change {
        command: Command::Load { file: Box::new(file) },
        source: Source::File,
        author: "file".into(),
        cause: None,
        force: false,
        if_match: None,
        dry_run: false,
        wait_healthy: None,
    };
    let result = handle.apply(change).await;
    audit.loaded(&result);
    match result {
        Ok(receipt) => tracing::info!(revision = receipt.revision, "configuration loaded"),
        // Told by the control plane, or nobody is left to tell.
        Err(ChangeError::Ended | ChangeError::Invalid(_)) => {}
        Err(error) => tracing::error!(%error, "the configuration is not loaded"),
    }
}

/// Shows every error of a file that cannot be loaded; what is in force stays. The control plane logs them.
pub async fn refuse(handle: &Handle, outcome: &Outcome) {
    let lines: Vec<_> = outcome.errors.iter().map(ToString::to_string).collect();
    handle.file_failed(lines.join("\n")).await;
}
