use super::{hold::HoldView, plan::PreviewView, rollout::RolloutView, views::Open};
use crate::{
    config,
    control::{self, Ledger},
    live::Tally,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What a change did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    /// The revision that is in force now; absent after a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    author: String,
    cause: Option<String>,
    /// RFC 3339.
    at: String,
    /// Empty when all was as asked already.
    changed: Vec<Changed>,
    /// What was in flight at that moment where no new requests go any more.
    in_flight: Vec<Left>,
    /// Ids of the drains that began, see `/v1/drains`.
    drains: Vec<String>,
    /// The hold that began, or goes on until later.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldView>,
    /// The hold that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<HoldView>,
    /// Of a dry run: where requests such as those of the last hour would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<PreviewView>,
    /// The rollout that was started or steered, as it is now; after a dry run as it would begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<Box<RolloutView>>,
    warnings: Vec<String>,
}

/// One value of the desired state.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Changed {
    /// The keys that lead to it in the configuration.
    path: String,
    /// `null`: it was not there.
    from: Value,
    /// `null`: it is gone.
    to: Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Left {
    service: String,
    pool: String,
    /// `null`: the pool as a whole.
    backend: Option<String>,
    #[serde(flatten)]
    open: Open,
    #[serde(flatten)]
    since: Since,
}

/// What has become of it by now: what was in flight + `started` = `finished` + `cut` + `open`.
#[derive(Debug, Serialize, ToSchema)]
struct Since {
    /// Since then: pins lead to pools without weight too.
    started: u64,
    finished: u64,
    /// Tunnels that were asked to end, because what they lead to drains.
    told_to_close: u64,
    /// Cancelled at the deadline of the drain.
    cut: u64,
    open: u64,
}

impl From<Ledger> for Since {
    fn from(Ledger { since, open }: Ledger) -> Self {
        let Tally { started, finished, told, cut } = since;
        Self { started, finished, told_to_close: told, cut, open }
    }
}

impl From<config::Change> for Changed {
    fn from(change: config::Change) -> Self {
        Self { path: change.path, from: change.from, to: change.to }
    }
}

impl Receipt {
    /// Of a change that was made by another process, of which no more is kept.
    pub(super) fn again(revision: control::Revision) -> Self {
        Self {
            revision: Some(revision.number),
            author: revision.author.to_string(),
            cause: revision.cause,
            at: revision.at.to_string(),
            changed: serde_json::from_str(&revision.changed).unwrap_or_default(),
            in_flight: Vec::new(),
            drains: Vec::new(),
            hold: None,
            released: None,
            preview: None,
            rollout: None,
            warnings: vec![
                "made before crossfade was started; what was in flight then is not known".into(),
            ],
        }
    }
}

impl From<&control::Receipt> for Receipt {
    fn from(receipt: &control::Receipt) -> Self {
        let changed = config::changes(&receipt.before, &receipt.after);
        Self {
            revision: receipt.revision,
            author: receipt.author.to_string(),
            cause: receipt.cause.clone(),
            at: receipt.at.to_string(),
            changed: changed.into_iter().map(Changed::from).collect(),
            in_flight: receipt.in_flight.iter().map(Left::from).collect(),
            drains: receipt.drains.iter().map(ToString::to_string).collect(),
            hold: receipt.hold.as_ref().map(HoldView::of),
            released: receipt.released.as_ref().map(HoldView::of),
            preview: receipt.preview.as_ref().map(PreviewView::from),
            rollout: receipt
                .rollout
                .as_ref()
                .map(|rollout| Box::new(RolloutView::of(rollout, Some(&receipt.after), &[]))),
            warnings: receipt.warnings.clone(),
        }
    }
}

impl From<&control::LeftInFlight> for Left {
    fn from(left: &control::LeftInFlight) -> Self {
        Self {
            service: left.service.to_string(),
            pool: left.pool.to_string(),
            backend: left.backend.as_ref().map(ToString::to_string),
            open: left.in_flight.into(),
            since: left.ledger().into(),
        }
    }
}
