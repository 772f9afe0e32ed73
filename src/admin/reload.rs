//! The file's way into force, whether it changed by itself or somebody asked for it.

use super::Audit;
use crate::{
    config::Outcome,
    control::{Change, ChangeError, Command, Handle, Source},
    spec::Role,
};
use std::time::Duration;

/// Before the next try to load a file while another process takes over.
const UPGRADING: Duration = Duration::from_millis(100);

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
    let file = Box::new(file);
    loop {
        let change = Change {
            command: Command::Load { file: file.clone() },
            source: Source::File,
            author: "file".into(),
            role: Role::Operator,
            cause: None,
            force: false,
            if_match: None,
            dry_run: false,
            wait_healthy: None,
        };
        let result = handle.apply(change).await;
        if result.as_ref().err() != Some(&ChangeError::Upgrading) {
            audit.loaded(&result);
        }
        match result {
            Ok(receipt) => tracing::info!(revision = receipt.revision, "configuration loaded"),
            // The process that takes over loads the file too; if none does, it is not to be missed here.
            Err(ChangeError::Upgrading) => {
                tokio::time::sleep(UPGRADING).await;
                continue;
            }
            // Told by the control plane, or nobody is left to tell.
            Err(ChangeError::Ended | ChangeError::Invalid(_)) => {}
            Err(error) => tracing::error!(%error, "the configuration is not loaded"),
        }
        return;
    }
}

/// Shows every error of a file that cannot be loaded; what is in force stays. The control plane logs them.
pub async fn refuse(handle: &Handle, outcome: &Outcome) {
    let lines: Vec<_> = outcome.errors.iter().map(ToString::to_string).collect();
    handle.file_failed(lines.join("\n")).await;
}
