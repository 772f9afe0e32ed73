use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(in crate::admin) enum Event {
    /// A change is in force.
    #[serde(rename = "change.made")]
    ChangeMade,
    /// A change was asked for and not made.
    #[serde(rename = "change.refused")]
    ChangeRefused,
    /// Who asked for a change left before the answer; it may have been made.
    #[serde(rename = "change.unanswered")]
    ChangeUnanswered,
    /// The requests of a service wait from now on.
    #[serde(rename = "service.held")]
    ServiceHeld,
    /// They go on.
    #[serde(rename = "service.released")]
    ServiceReleased,
    /// A rollout goes on or stays where it is; no value of the configuration changed by it.
    #[serde(rename = "rollout.steered")]
    RolloutSteered,
    /// A new process has taken over.
    #[serde(rename = "process.upgraded")]
    ProcessUpgraded,
    /// Certificates or tokens were read anew from their files.
    #[serde(rename = "files.renewed")]
    FilesRenewed,
    /// Somebody was not let in.
    #[serde(rename = "access.denied")]
    AccessDenied,
}

/// A line of the audit log. What is not known or does not apply is absent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::admin) struct Entry {
    /// Goes up by one; by more where another process has taken over.
    pub(in crate::admin) id: u64,
    /// RFC 3339.
    pub(in crate::admin) at: String,
    pub(in crate::admin) event: Event,
    /// The name of the token, the user of the unix socket, the name of the certificate, `file`; `api` where nobody
    /// need say who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) author: Option<String>,
    /// How the author is known: `token`, `unix`, `certificate`, `address` (nobody need say), `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) role: Option<String>,
    /// `IP:PORT`, or `unix:uid=1000,pid=4242`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) method: Option<String>,
    /// Without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) path: Option<String>,
    /// The `operationId` in `/v1/openapi.json`; `load` for the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) service: Option<String>,
    /// `x-request-id` of the request, or what the answer says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) status: Option<u16>,
    /// The one that the change made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) revision: Option<u64>,
    /// The values that the change changed, by the keys that lead to them; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::admin) changed: Vec<String>,
    /// Why not: the last part of the problem's `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) reason: Option<String>,
    /// Why not, in words. Values of the request do not appear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) detail: Option<String>,
    /// So many who were not let in before this one were not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(in crate::admin) skipped: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    /// Now. The id is given when it is kept.
    pub(in crate::admin) fn new(event: Event) -> Self {
        Self {
            id: 0,
            at: Timestamp::now().to_string(),
            event,
            author: None,
            by: None,
            role: None,
            from: None,
            method: None,
            path: None,
            operation: None,
            service: None,
            request_id: None,
            cause: None,
            status: None,
            revision: None,
            changed: Vec::new(),
            reason: None,
            detail: None,
            skipped: 0,
        }
    }
}
