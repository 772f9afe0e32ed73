//! What can be asked of the control plane, and what it answers.

use super::{
    HoldStatus, Open, OrderStatus, Outcomes, Preview, RouteSides, StoreError, leaving::Elsewhere,
};
use crate::{
    live::{InFlight, LiveBackend, Tally},
    rollout::{Rollout, Verb},
    spec::{Backend, BackendAddress, DnsName, Name, Pool, Role, RolloutPlan, Spec, Weight},
};
use indexmap::IndexMap;
use jiff::Timestamp;
use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// A command with who wants it and under which conditions.
#[derive(Debug)]
pub struct Change {
    pub command: Command,
    pub source: Source,
    pub author: Name,
    /// What the author may.
    pub role: Role,
    pub cause: Option<String>,
    /// Go on although a pool that gets traffic has no healthy backend.
    pub force: bool,
    /// Only if the current revision is this one.
    pub if_match: Option<u64>,
    /// Say what would change, change nothing.
    pub dry_run: bool,
    /// Wait this long for a healthy backend in the pools that get traffic.
    pub wait_healthy: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    File,
    Api,
    Rollout,
}

impl Source {
    /// As it is written down, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
            Self::Rollout => "rollout",
        }
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::File, Self::Api, Self::Rollout].into_iter().find(|source| source.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Pools that are not named keep their weight.
    SetWeights {
        service: Name,
        weights: Vec<(Name, Weight)>,
    },
    /// All weight to one pool.
    Cutover {
        service: Name,
        to: Name,
    },
    PutPool {
        service: Name,
        name: Name,
        pool: Pool,
    },
    DeletePool {
        service: Name,
        name: Name,
    },
    PutBackend {
        service: Name,
        pool: Name,
        address: BackendAddress,
        backend: Backend,
    },
    DeleteBackend {
        service: Name,
        pool: Name,
        address: BackendAddress,
    },
    /// No new requests for these backends of a pool; without backends for all of the pool, without a pool for all of
    /// the service.
    Drain {
        service: Name,
        pool: Option<Name>,
        backends: Vec<BackendAddress>,
    },
    /// New requests again, for what was drained under the same name: a pool or some of its backends.
    Undrain {
        service: Name,
        pool: Option<Name>,
        backends: Vec<BackendAddress>,
    },
    /// Requests of a service wait, at the longest for this time. It is no new revision.
    Hold {
        service: Name,
        time: Duration,
    },
    /// They go on.
    Release {
        service: Name,
    },
    /// What an older revision put in force, anew: of everything, or of one service.
    Undo {
        service: Option<Name>,
        /// `None`: what was before the newest change; all revisions of one rollout are one change.
        to_revision: Option<u64>,
    },
    /// Moves a service to another pool, by a plan.
    StartRollout {
        service: Name,
        to: Name,
        /// `None`: the only other pool with weight.
        from: Option<Name>,
        plan: Box<RolloutPlan>,
        /// One that runs ends.
        supersede: bool,
    },
    /// The last one once more.
    RetryRollout {
        service: Name,
    },
    SteerRollout {
        service: Name,
        verb: Verb,
    },
    /// A rollout goes where it wants to; nobody else says that.
    MoveRollout {
        service: Name,
    },
    /// The whole desired state (`PUT /v1/config`).
    Replace {
        spec: Box<Spec>,
    },
    /// The file as it is now: merged, three ways, with the file as last loaded and what is in force.
    Load {
        file: Box<Spec>,
    },
}

/// Says that a change is the same as one before, which must not be made twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// The author's own.
    pub key: String,
    /// Of all that was asked for.
    pub fingerprint: String,
}

/// What became of a change that is made once.
pub enum Reply {
    Made(Box<Receipt>),
    /// It was made before.
    Known(Known),
}

impl Reply {
    /// The receipt of a change that was made now.
    pub fn made(&self) -> Option<&Receipt> {
        match self {
            Self::Made(receipt) => Some(receipt),
            Self::Known(_) => None,
        }
    }
}

/// What is known of a change that was made before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// As it was given to [`Store::remember`](super::Store::remember); `None`: the process ended before that.
    pub answer: Option<String>,
    /// In force after it.
    pub revision: u64,
}

/// What a change did.
#[derive(Clone)]
pub struct Receipt {
    /// `None` for a dry run. The current one when nothing changed.
    pub revision: Option<u64>,
    pub author: Name,
    pub cause: Option<String>,
    pub at: Timestamp,
    pub before: Arc<Spec>,
    pub after: Arc<Spec>,
    /// In flight at the swap, of every backend that stopped getting new requests by it.
    pub in_flight: Vec<LeftInFlight>,
    /// The drains that it began.
    pub drains: Vec<Name>,
    /// The hold that it began, or prolonged.
    pub hold: Option<HoldStatus>,
    /// The hold that it ended.
    pub released: Option<HoldStatus>,
    /// The rollout that it began, steered or moved, as it is after that.
    pub rollout: Option<Arc<Rollout>>,
    /// The backend or pool did not exist before.
    pub created: bool,
    /// Of a dry run.
    pub preview: Option<Preview>,
    pub warnings: Vec<String>,
    /// What stopped getting new requests, by this change or, when all was as asked already, before; idle
    /// when none has a request open.
    pub leaving: Vec<Arc<LiveBackend>>,
    /// What was removed but gets requests until another backend of its pool is proven.
    pub lingering: Vec<Arc<LiveBackend>>,
    /// `None`: nothing beside these.
    pub(super) elsewhere: Option<Elsewhere>,
}

impl Receipt {
    /// Requests still open on what leaves. What lingers counts as one at least, until it has stopped
    /// getting new ones; so 0 is final, but for pools that still are the target of a pin.
    pub fn open(&self) -> u64 {
        let lingering = self.lingering.iter().map(|backend| {
            // In this order: what is closing gets no new requests, and what is open only falls.
            let closing = backend.is_closing();
            backend.open().max(u64::from(!closing))
        });
        self.leaving.iter().map(|backend| backend.open()).sum::<u64>() + lingering.sum::<u64>()
    }

    /// The same of another process, by what is `open` there.
    pub fn open_elsewhere(&self, open: &[Open]) -> u64 {
        let leaves = |open: &&Open| {
            self.leaving.iter().chain(&self.lingering).any(|backend| {
                *backend.pool.service == *open.service
                    && *backend.pool.name == *open.pool
                    && backend.address.to_string() == open.backend
            })
        };
        let leaves = |open: &&Open| {
            leaves(open)
                || self.elsewhere.as_ref().is_some_and(|it| it.waits_for(open, &self.after))
        };
        open.iter().filter(leaves).map(|open| open.requests).sum()
    }
}

/// What was in flight at a swap where no new requests go any more, and what has become of it.
#[derive(Clone, Debug)]
pub struct LeftInFlight {
    pub service: Name,
    pub pool: Name,
    /// `None`: the pool as a whole.
    pub backend: Option<BackendAddress>,
    pub in_flight: InFlight,
    /// With what they had counted by then.
    pub(super) backends: Vec<(Arc<LiveBackend>, Tally)>,
}

/// in flight at the swap + started = finished + cut + open, whenever nothing begins or ends meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Begun since: a pin leads to a pool without weight too.
    pub since: Tally,
    pub open: u64,
}

impl LeftInFlight {
    /// What has become of it so far.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for (backend, then) in &self.backends {
            ledger.since += backend.tally().since(*then);
            ledger.open += backend.open();
        }
        ledger
    }
}

/// Why a change was not made. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// No such service, pool or backend; the message names those that exist.
    NotFound(String),
    /// Not possible in this state; the message says why and what would help.
    Conflict(String),
    /// Somebody else may.
    Forbidden(String),
    /// `if_match` is not the current revision.
    Stale { current: u64 },
    /// The desired state would not be valid: every reason.
    Invalid(Vec<String>),
    /// Another process is taking over what is in force.
    Upgrading,
    /// The key of [`Once`] was used for something else.
    KeyReused,
    /// It could not be kept, so that a restart would forget it.
    NotKept(StoreError),
    /// The control plane has ended.
    Ended,
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unwritable(reasons) => Self::Invalid(reasons),
            StoreError::KeyReused => Self::KeyReused,
            StoreError::NoRevision(what) => Self::NotFound(what),
            StoreError::NothingBefore(what) => Self::Conflict(what),
            error => Self::NotKept(error),
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => f.write_str(what),
            Self::Conflict(why) | Self::Forbidden(why) => f.write_str(why),
            Self::Stale { current } => write!(f, "the current revision is {current}"),
            Self::Invalid(reasons) => f.write_str(&reasons.join("; ")),
            Self::Upgrading => f.write_str(
                "crossfade is being upgraded and nothing changes just now; try again in a second",
            ),
            Self::KeyReused => f.write_str(
                "this Idempotency-Key was used for another request; use a new key for each change",
            ),
            Self::NotKept(why) => {
                write!(
                    f,
                    "the change cannot be kept, so it is not made: {why}; see `state` in /v1/status"
                )
            }
            Self::Ended => f.write_str("crossfade is shutting down"),
        }
    }
}

impl std::error::Error for ChangeError {}

/// What is in force, for who looks in. Published anew with every change and every step of a drain.
#[derive(Clone)]
pub struct View {
    pub revision: u64,
    pub spec: Arc<Spec>,
    /// The file as last loaded; what differs from it is drift. `None`: there was none.
    pub loaded: Option<Arc<Spec>>,
    pub file: FileStatus,
    /// Keys whose change in the file waits for a restart.
    pub needs_restart: Vec<String>,
    pub drains: Vec<Drain>,
    pub holds: Vec<HoldStatus>,
    /// Of certificates.
    pub orders: Arc<[OrderStatus]>,
    pub publishes: Publishes,
    pub names: Vec<NameStatus>,
    pub state: StateStatus,
    /// Of each service the rollout that runs, or the last one.
    pub rollouts: IndexMap<Name, Arc<Rollout>>,
    /// Of each of those what its versions did by route in the step that it is in, or the last one that it was in.
    pub rollout_routes: IndexMap<Name, Arc<[RouteSides]>>,
    /// How many have ended since this process began.
    pub outcomes: Outcomes,
}

/// How it stands with what is kept.
#[derive(Clone, Debug, Default)]
pub struct StateStatus {
    /// `None`: in memory alone.
    pub directory: Option<Arc<PathBuf>>,
    /// Why the last change could not be kept, and was refused.
    pub error: Option<String>,
    /// Changes so far that could not be kept.
    pub failures: u64,
}

/// A name that stands for backends, and what is known of it.
#[derive(Clone, Debug)]
pub struct NameStatus {
    pub name: DnsName,
    pub addresses: Vec<SocketAddr>,
    /// Why the last lookup did not tell all addresses.
    pub error: Option<String>,
    pub lookups: Lookups,
}

/// Lookups so far, by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    pub found: u64,
    /// There is no such name, or it has no addresses.
    pub empty: u64,
    pub failed: u64,
}

/// Publishes so far, by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publishes {
    pub file: u64,
    pub api: u64,
    pub rollout: u64,
}

#[derive(Clone, Debug, Default)]
pub struct FileStatus {
    pub path: Option<PathBuf>,
    /// When what is loaded was read.
    pub loaded_at: Option<Timestamp>,
    /// Why the file as it is now could not be loaded, every error a line.
    pub error: Option<String>,
}

/// A backend on its way out.
#[derive(Clone)]
pub struct Drain {
    /// `d-17`.
    pub id: Name,
    pub backend: Arc<LiveBackend>,
    /// The whole pool leaves or is drained with it.
    pub whole_pool: bool,
    pub since: Timestamp,
    pub deadline: Timestamp,
}
