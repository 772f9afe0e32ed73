use crate::spec::HookEvent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How entries and events are written. It goes up when one of their keys goes away or means something else.
pub(in crate::admin) const SCHEMA: u8 = 1;

/// What happened, by one name wherever it is told.
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
    /// A new process has taken over.
    #[serde(rename = "process.upgraded")]
    ProcessUpgraded,
    /// A rollout goes on or stays where it is; no value of the configuration changed by it.
    #[serde(rename = "rollout.steered")]
    RolloutSteered,
    /// A rollout has begun.
    #[serde(rename = "rollout.started")]
    RolloutStarted,
    /// It is in its next step.
    #[serde(rename = "rollout.step")]
    RolloutStep,
    /// The time of its step is over, evidence or traffic is missing.
    #[serde(rename = "rollout.waiting")]
    RolloutWaiting,
    /// It stays where it is, by a person, its plan, a failure or the file.
    #[serde(rename = "rollout.paused")]
    RolloutPaused,
    /// It goes on.
    #[serde(rename = "rollout.resumed")]
    RolloutResumed,
    /// All of the traffic is back on stable.
    #[serde(rename = "rollout.aborted")]
    RolloutAborted,
    /// All of the traffic is on the canary.
    #[serde(rename = "rollout.promoted")]
    RolloutPromoted,
    /// Somebody else has moved its traffic.
    #[serde(rename = "rollout.superseded")]
    RolloutSuperseded,
    /// An abort could not move traffic to stable, yet.
    #[serde(rename = "rollout.failed")]
    RolloutFailed,
    /// Certificates or tokens were read anew from their files.
    #[serde(rename = "files.renewed")]
    FilesRenewed,
    /// Somebody was not let in.
    #[serde(rename = "access.denied")]
    AccessDenied,
}

impl From<HookEvent> for Event {
    fn from(event: HookEvent) -> Self {
        match event {
            HookEvent::Started => Self::RolloutStarted,
            HookEvent::Step => Self::RolloutStep,
            HookEvent::Waiting => Self::RolloutWaiting,
            HookEvent::Paused => Self::RolloutPaused,
            HookEvent::Resumed => Self::RolloutResumed,
            HookEvent::Aborted => Self::RolloutAborted,
            HookEvent::Promoted => Self::RolloutPromoted,
            HookEvent::Superseded => Self::RolloutSuperseded,
            HookEvent::Failed => Self::RolloutFailed,
        }
    }
}

impl Event {
    /// Those of a change that is in force and of a rollout have events of their own, which say more.
    pub(in crate::admin) fn is_told_otherwise(self) -> bool {
        self == Self::ChangeMade || HookEvent::ALL.iter().any(|event| Self::from(*event) == self)
    }
}

/// A line of the audit log. What is not known or does not apply is absent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::admin) struct Entry {
    /// Goes up by one; by more where another process has taken over.
    pub(in crate::admin) id: u64,
    /// RFC 3339.
    pub(in crate::admin) at: String,
    pub(in crate::admin) event: Event,
    /// Of how it is written: 1.
    #[serde(default = "schema")]
    pub(in crate::admin) schema: u8,
    /// The name of the token, the user of the unix socket, the name of the certificate, `file`; `api` where nobody
    /// need say who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) author: Option<String>,
    /// How the author is known: `token`, `unix`, `certificate`, `address` (nobody need say), `file`;
    /// `rollout` for what one did by itself.
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
    /// The rollout that it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) rollout: Option<String>,
    /// Counts from 1 in each rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) number: Option<u64>,
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

/// Of what was written before there was a number for it.
fn schema() -> u8 {
    SCHEMA
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
            schema: SCHEMA,
            author: None,
            by: None,
            role: None,
            from: None,
            method: None,
            path: None,
            operation: None,
            service: None,
            rollout: None,
            number: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/events.md says what every name means, and no other.
    #[test]
    fn the_document_has_every_name() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md");
        let document = std::fs::read_to_string(path).unwrap();
        let mut told: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
            .filter(|name| name.contains('.'))
            .collect();
        told.sort_unstable();
        let schema = serde_json::to_value(<Event as utoipa::PartialSchema>::schema()).unwrap();
        let mut names: Vec<&str> =
            schema["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(told, names);
        for name in names {
            let event: Event = serde_json::from_value(name.into()).unwrap();
            let of_a_rollout = name.starts_with("rollout.") && event != Event::RolloutSteered;
            assert_eq!(event.is_told_otherwise(), of_a_rollout || name == "change.made", "{name}");
        }
    }

    #[test]
    fn names_of_rollouts_are_those_of_hooks() {
        for event in HookEvent::ALL {
            let name = serde_json::to_value(Event::from(event)).unwrap();
            assert_eq!(name, format!("rollout.{}", event.as_str()));
        }
    }
}
