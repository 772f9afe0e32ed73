//! The plan of a rollout: how a service moves from one pool to another. As it is configured, checked and whole.
//! A copy of it is kept, as it is, with every rollout: what is renamed here still has to be read by its old name.

use super::{Name, Role};
use serde::{Deserialize, Serialize};
use std::{fmt, num::NonZeroU32, path::PathBuf, time::Duration};

/// How a service moves to a new version. A copy of it goes with each rollout that is started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutPlan {
    pub strategy: RolloutStrategy,
    /// Before the first step; `None`: the first step is the beginning.
    pub first_touch: Option<FirstTouch>,
    /// `None`: those of the strategy ([`RolloutPlan::steps`]).
    pub steps: Option<Vec<RolloutStep>>,
    /// Kept on stable during a last step of all, until the end.
    pub holdback: Share,
    /// Shortest time of a step that names none.
    pub bake: Duration,
    /// On the canary, in a step.
    pub min_requests: u64,
    pub gates: Gates,
    pub sensitivity: Sensitivity,
    /// That a canary which is no worse is not aborted, over the whole rollout.
    pub confidence: Share,
    /// The time at the beginning in which the canary may be slow.
    pub warm_up: Duration,
    /// How long a burst of errors may last without being enough by itself to abort.
    pub burst: Duration,
    pub on_failure: OnFailure,
    pub on_inconclusive: OnInconclusive,
    /// A step that takes longer is inconclusive.
    pub step_deadline: Duration,
    /// Of the whole; pauses do not count.
    pub deadline: Duration,
    /// How long stable stays warm after the end.
    pub keep_stable: Duration,
    /// The longest that requests wait in a [`RolloutStrategy::Recreate`].
    pub hold: Duration,
    /// What fails on the canary is tried once more on stable, unless the service says where else.
    pub rescue: bool,
    /// Who may approve what waits for a person; `None`: every operator.
    pub approval: Option<Role>,
    pub hooks: Vec<Hook>,
    pub rolling: Rolling,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutStrategy {
    /// Step by step, each with a larger share.
    #[default]
    Canary,
    /// All at once, after a time in which only pinned requests go there.
    BlueGreen,
    /// Backend by backend.
    Rolling,
    /// Requests wait while one version ends and the other takes over.
    Recreate,
    /// A fixed split, measured.
    AbTest,
}

impl RolloutStrategy {
    pub const ALL: [Self; 5] =
        [Self::Canary, Self::BlueGreen, Self::Rolling, Self::Recreate, Self::AbTest];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::BlueGreen => "blue_green",
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
            Self::AbTest => "ab_test",
        }
    }
}

/// A part of a whole, in millionths.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Share(u32);

impl Share {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(1_000_000);

    /// `None` above all.
    pub fn of_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::ALL.0).then_some(Self(millionths))
    }

    /// # Panics
    /// Above 100: for constants.
    pub const fn of_percent(percent: u32) -> Self {
        assert!(percent <= 100);
        Self(percent * 10_000)
    }

    pub fn millionths(self) -> u32 {
        self.0
    }

    /// 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }

    pub fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

/// In percent, without a sign: `5`, `0.1`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 10_000.0)
    }
}

/// Limits the harm of a canary that is broken from the beginning, whatever the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstTouch {
    pub time: Duration,
    /// Requests on the canary in a second, at most.
    pub rate: NonZeroU32,
}

impl Default for FirstTouch {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), rate: NonZeroU32::MIN.saturating_add(19) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutStep {
    /// The canary's part of what stable and canary have together; how long at least.
    Share { share: Share, bake: Option<Duration> },
    /// Until a person promotes, or for this time.
    Pause(Option<Duration>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    /// Of the canary's requests; `None`: any.
    pub error_rate: Option<Share>,
    pub latency: Option<LatencyGate>,
    /// `None`: the two versions are not compared.
    pub regression: Option<Regression>,
    pub prometheus: Vec<PrometheusGate>,
    pub webhooks: Vec<WebhookGate>,
}

impl Gates {
    /// Queries and webhooks at most, together.
    pub const MOST: usize = 32;
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            error_rate: Some(Share::of_percent(1)),
            latency: Some(LatencyGate::default()),
            regression: Some(Regression::default()),
            prometheus: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

/// So large a part of the canary's requests must not take longer than `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyGate {
    pub quantile: Share,
    pub max: Duration,
}

impl Default for LatencyGate {
    fn default() -> Self {
        Self { quantile: Share::of_percent(99), max: Duration::from_secs(1) }
    }
}

/// How much worse than stable the canary may be at most for a step to be left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regression {
    /// More of all requests.
    pub error_rate: Share,
    /// Longer, in millionths: 200,000 is a fifth.
    pub latency_millionths: u32,
}

impl Default for Regression {
    fn default() -> Self {
        let error_rate = Share::of_millionths(5_000).unwrap_or_default();
        Self { error_rate, latency_millionths: 200_000 }
    }
}

/// A query whose answer must not be above a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrometheusGate {
    pub name: Name,
    /// Of the server, `http` or `https`.
    pub url: Name,
    /// In PromQL: one number.
    pub query: Name,
    pub max: f64,
    pub interval: Duration,
    pub timeout: Duration,
}

impl PrometheusGate {
    pub const INTERVAL: Duration = Duration::from_secs(15);
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

/// An address that must answer 200 for a rollout to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookGate {
    pub name: Name,
    pub url: Name,
    pub when: GateTime,
    pub interval: Duration,
    pub timeout: Duration,
    /// What is in it signs what is sent.
    pub key_file: Option<PathBuf>,
}

impl WebhookGate {
    pub const INTERVAL: Duration = Duration::from_secs(15);
    pub const TIMEOUT: Duration = Duration::from_secs(10);
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateTime {
    /// Before traffic goes to the canary.
    Before,
    /// In each step, again and again.
    #[default]
    During,
    /// Before the last of stable's traffic is taken.
    After,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sensitivity {
    #[default]
    Default,
    /// The canary may not be worse at all.
    Strict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    #[default]
    Abort,
    Pause,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnInconclusive {
    #[default]
    Hold,
    Abort,
    Promote,
}

/// Says what happens to somebody else. What it answers does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub on: Vec<HookEvent>,
    pub url: Name,
    /// What is in it signs what is sent.
    pub key_file: Option<PathBuf>,
}

/// The transitions that hooks, events and metrics speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookEvent {
    Started,
    Step,
    Waiting,
    Paused,
    Resumed,
    Aborted,
    Promoted,
    Superseded,
    Failed,
}

impl HookEvent {
    pub const ALL: [Self; 9] = [
        Self::Started,
        Self::Step,
        Self::Waiting,
        Self::Paused,
        Self::Resumed,
        Self::Aborted,
        Self::Promoted,
        Self::Superseded,
        Self::Failed,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Step => "step",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Aborted => "aborted",
            Self::Promoted => "promoted",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }
}

/// How a [`RolloutStrategy::Rolling`] goes about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Backends that are exchanged at a time.
    pub parallelism: NonZeroU32,
    /// Between two batches.
    pub delay: Duration,
    pub order: RollingOrder,
    /// How long each batch is watched.
    pub monitor: Duration,
    pub failure_action: FailureAction,
    /// Fewer backends than stable had at the beginning, at most; at least one batch in [`RollingOrder::StopFirst`].
    pub max_unavailable: u32,
    /// Must answer 200 before a batch of backends gets requests: starts them, say.
    pub admit: Option<Name>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollingOrder {
    /// New backends get requests before old ones stop.
    #[default]
    StartFirst,
    StopFirst,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    #[default]
    Pause,
    /// As if nothing had happened.
    Continue,
    Rollback,
}

impl Default for Rolling {
    fn default() -> Self {
        Self {
            parallelism: NonZeroU32::MIN,
            delay: Duration::from_secs(10),
            order: RollingOrder::default(),
            monitor: Duration::from_secs(30),
            failure_action: FailureAction::default(),
            max_unavailable: 0,
            admit: None,
        }
    }
}

impl Default for RolloutPlan {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            first_touch: Some(FirstTouch::default()),
            steps: None,
            holdback: Share::of_percent(5),
            bake: Duration::from_secs(600),
            min_requests: 300,
            gates: Gates::default(),
            sensitivity: Sensitivity::default(),
            confidence: Share::of_percent(99),
            warm_up: Duration::from_secs(30),
            burst: Duration::from_secs(3),
            on_failure: OnFailure::default(),
            on_inconclusive: OnInconclusive::default(),
            step_deadline: Duration::from_secs(30 * 60),
            deadline: Duration::from_secs(4 * 3600),
            keep_stable: Duration::from_secs(600),
            hold: Duration::from_secs(30),
            rescue: true,
            approval: None,
            hooks: Vec::new(),
            rolling: Rolling::default(),
        }
    }
}

impl RolloutPlan {
    /// Steps at most.
    pub const MOST_STEPS: usize = 100;
    /// Hooks at most.
    pub const MOST_HOOKS: usize = 32;
    /// [`RolloutPlan::burst`] at least: that of one slice of counts.
    pub const SHORTEST_BURST: Duration = Duration::from_secs(1);

    /// What stands in `steps`, or what the strategy does without. Those of a [`RolloutStrategy::BlueGreen`] come before its
    /// switch; a [`RolloutStrategy::AbTest`] has one; [`RolloutStrategy::Rolling`] and [`RolloutStrategy::Recreate`] have none.
    pub fn steps(&self) -> Vec<RolloutStep> {
        let share = |percent| RolloutStep::Share { share: Share::of_percent(percent), bake: None };
        match (&self.steps, self.strategy) {
            (_, RolloutStrategy::Rolling | RolloutStrategy::Recreate) => Vec::new(),
            (Some(steps), _) => steps.clone(),
            (None, RolloutStrategy::Canary) => [5, 25, 50, 100].map(share).to_vec(),
            (None, RolloutStrategy::BlueGreen) => vec![RolloutStep::Pause(Some(self.bake))],
            (None, RolloutStrategy::AbTest) => vec![share(50)],
        }
    }
}
