use crate::{
    admin::time,
    config,
    control::{RouteSides, View},
    live::RouteCounts,
    rollout::{
        Answer, By, Explained, Lack, Notice, Paused, Phase, Rollout, Stage, Task, Total, Why,
    },
    spec::{Name, Spec},
};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A rollout in short.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct RolloutSummary {
    pub(super) id: String,
    pub(super) service: String,
    /// `canary`, `blue_green`, `rolling`, `recreate` or `ab_test`.
    strategy: &'static str,
    /// `running` (in a step), `waiting` (the time of the step is over, evidence or traffic is missing), `paused`,
    /// `promoted`, `aborted`, `superseded` or `failed` (an abort that cannot move traffic to stable, yet).
    state: &'static str,
    /// The pool that it goes from, called stable.
    from: String,
    /// The pool that it goes to, called the canary.
    to: String,
    /// From 1; 0: before the first.
    step: usize,
    steps: usize,
    /// The canary's part, 0 to 1, of what both pools have together.
    share: f64,
    /// RFC 3339.
    started: String,
    /// RFC 3339; `null`: it is not over.
    ended: Option<String>,
    /// Who started it, and why.
    by: Option<ByView>,
    /// Why it is where it is; `null`: there is no more to say than the state.
    why: Option<WhyView>,
    /// Where it is and why, in words.
    summary: String,
    /// What both versions did, over the whole rollout.
    stable: VersionView,
    canary: VersionView,
}

/// A rollout with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct RolloutView {
    #[serde(flatten)]
    short: RolloutSummary,
    /// `null`: it is not paused.
    paused: Option<PauseView>,
    /// What stable and canary weigh now; empty for one that is not the service's last.
    weights: IndexMap<String, u32>,
    /// What the step still asks for.
    lacks: Vec<LackView>,
    /// Seconds until all of it is there, at the present traffic; `null`: nobody knows.
    eta_seconds: Option<f64>,
    evidence: EvidenceView,
    /// Those from elsewhere.
    gates: Vec<GateView>,
    /// What both versions did in this step by route, those with the largest difference of error rates first; a hint,
    /// nothing is decided by it. At most 100 and the others as one; empty for one that is not the service's last.
    routes: Vec<RouteView>,
    stages: Vec<StageView>,
    /// What happened so far, the oldest first; at most 500.
    notices: Vec<NoticeView>,
    /// In the keys of the configuration file.
    #[schema(value_type = Object)]
    plan: Value,
}

/// What a version did.
#[derive(Debug, Serialize, ToSchema)]
struct VersionView {
    requests: u64,
    errors: u64,
    /// 0 to 1; `null`: no requests.
    error_rate: Option<f64>,
    /// Requests that took longer than `gates.latency.max`.
    slow: u64,
    /// Requests a second, by its share of what both get at present; 0 when it is over.
    rate: f64,
    /// Seconds; `null`: no requests.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Who did something, and why.
#[derive(Debug, Serialize, ToSchema)]
struct ByView {
    author: String,
    cause: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WhyView {
    /// For programs: `errors`, `latency`, `guard`, `gate`, `canary_unhealthy`, `drift`, `deadline`, `person` and others.
    code: String,
    /// For people.
    text: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct PauseView {
    /// `person`, `step` (as the plan says), `failure` (a version that is worse), `drift` (the file says something else)
    /// or `deadline`.
    by: &'static str,
    /// RFC 3339; `null`: until somebody resumes or promotes it.
    until: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LackView {
    text: String,
    /// `null`: nobody knows.
    eta_seconds: Option<f64>,
}

/// The evidence against the canary. `against` is the sum of its three parts; at `needed` the canary is cut.
#[derive(Debug, Serialize, ToSchema)]
struct EvidenceView {
    against: f64,
    needed: f64,
    errors: f64,
    latency: f64,
    guards: f64,
    /// How much errors came together on single backends of stable before the rollout; 1: not. Errors are evidence of so
    /// much less.
    dispersion: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct GateView {
    name: String,
    /// `pass`, `fail` or `inconclusive`; `null`: it has not answered in this step.
    answer: Option<&'static str>,
    said: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RouteView {
    /// `null`: all others.
    route: Option<String>,
    stable: CountsView,
    canary: CountsView,
}

#[derive(Debug, Serialize, ToSchema)]
struct CountsView {
    requests: u64,
    errors: u64,
    slow: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct StageView {
    /// `touch` (a first few requests), `step`, `pause`, `exchange` (backends), `watch`, `delay`, `idle` (until nothing
    /// is in flight on stable) or `experiment`.
    kind: &'static str,
    /// The step of the plan that it belongs to, from 1; 0: before the first.
    step: usize,
    /// The canary's part, 0 to 1.
    share: f64,
    /// `done`, `current` or `next`; `skipped` when the rollout ended before.
    state: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct NoticeView {
    /// Counts from 1 in each rollout.
    number: u64,
    /// RFC 3339.
    at: String,
    /// `started`, `step`, `waiting`, `paused`, `resumed`, `aborted`, `promoted`, `superseded` or `failed`.
    event: &'static str,
    step: usize,
    share: f64,
    /// `null`: by itself.
    by: Option<ByView>,
    why: Option<WhyView>,
}

impl RolloutSummary {
    pub(in crate::admin) fn of(rollout: &Rollout) -> Self {
        Self::explained(rollout, rollout.explain().summary)
    }

    fn explained(rollout: &Rollout, summary: String) -> Self {
        let share = rollout.layout().share.as_f64();
        let totals = rollout.totals();
        let rate = if rollout.phase().is_over() { 0.0 } else { totals.rate };
        let first = rollout.notices().first().filter(|notice| notice.number == 1);
        Self {
            id: rollout.id().to_string(),
            service: rollout.service().to_string(),
            strategy: rollout.plan().strategy.as_str(),
            state: rollout.phase().as_str(),
            from: rollout.stable().to_string(),
            to: rollout.canary().to_string(),
            step: rollout.step(),
            steps: rollout.steps(),
            share,
            started: time(rollout.started()),
            ended: rollout.ended().map(time),
            by: first.and_then(|notice| notice.by.as_ref()).map(ByView::of),
            why: rollout.why().map(WhyView::of),
            summary,
            stable: VersionView::of(&totals.stable, rate * (1.0 - share)),
            canary: VersionView::of(&totals.canary, rate * share),
        }
    }
}

impl RolloutView {
    /// The last rollout of a service, while `view` is in force.
    pub(in crate::admin) fn current(rollout: &Rollout, view: &View) -> Self {
        let routes = view.rollout_routes.get(rollout.service());
        Self::of(rollout, Some(&view.spec), routes.map_or(&[], |routes| routes))
    }

    /// With no more than so many of the notices, the last, and of the routes, the first.
    pub(in crate::admin) fn short_of(mut self, most: usize) -> Self {
        self.notices.drain(..self.notices.len().saturating_sub(most));
        self.routes.truncate(most);
        self
    }

    /// `spec`: what the service is now, if it is of interest.
    pub(in crate::admin) fn of(
        rollout: &Rollout,
        spec: Option<&Spec>,
        routes: &[RouteSides],
    ) -> Self {
        let Explained { summary, lacks, eta, evidence, evidence_needed, .. } = rollout.explain();
        let parts = rollout.judge().parts();
        let service = spec.and_then(|spec| spec.services.get(rollout.service()));
        let weight = |pool: &Name| Some((pool.to_string(), service?.pools.get(pool)?.weight.get()));
        Self {
            short: RolloutSummary::explained(rollout, summary),
            paused: PauseView::of(rollout.phase()),
            weights: [rollout.stable(), rollout.canary()].into_iter().filter_map(weight).collect(),
            lacks: lacks.into_iter().map(LackView::from).collect(),
            eta_seconds: eta.map(rounded),
            evidence: EvidenceView {
                against: number(evidence),
                needed: number(evidence_needed),
                errors: number(parts.errors),
                latency: number(parts.latency),
                guards: number(parts.guards),
                dispersion: number(rollout.judge().config().errors.phi),
            },
            gates: rollout.gates().map(GateView::of).collect(),
            routes: by_difference(routes),
            stages: stages(rollout),
            notices: rollout.notices().iter().map(NoticeView::of).collect(),
            plan: config::rollout_document(rollout.plan()),
        }
    }
}

impl VersionView {
    fn of(total: &Total, rate: f64) -> Self {
        Self {
            requests: total.requests,
            errors: total.errors,
            error_rate: (total.requests > 0).then(|| total.error_rate()),
            slow: total.slow,
            rate: (rate * 10.0).round() / 10.0,
            p50: total.quantile(0.5),
            p95: total.quantile(0.95),
            p99: total.quantile(0.99),
        }
    }
}

impl ByView {
    fn of(by: &By) -> Self {
        Self { author: by.author.to_string(), cause: by.cause.clone() }
    }
}

impl WhyView {
    fn of(why: &Why) -> Self {
        Self { code: why.code.to_string(), text: why.text.clone() }
    }
}

impl PauseView {
    fn of(phase: Phase) -> Option<Self> {
        let Phase::Paused { by, until } = phase else { return None };
        let by = match by {
            Paused::Person => "person",
            Paused::Step => "step",
            Paused::Failure => "failure",
            Paused::Drift => "drift",
            Paused::Deadline => "deadline",
        };
        Some(Self { by, until: until.map(time) })
    }
}

impl From<Lack> for LackView {
    fn from(lack: Lack) -> Self {
        Self { text: lack.text, eta_seconds: lack.eta.map(rounded) }
    }
}

impl GateView {
    fn of((name, answer): (&str, Option<&Answer>)) -> Self {
        let (answer, said) = match answer {
            None => (None, None),
            Some(Answer::Pass(said)) => (Some("pass"), Some(said)),
            Some(Answer::Fail(said)) => (Some("fail"), Some(said)),
            Some(Answer::Inconclusive(said)) => (Some("inconclusive"), Some(said)),
        };
        Self { name: name.to_owned(), answer, said: said.cloned() }
    }
}

impl NoticeView {
    fn of(notice: &Notice) -> Self {
        Self {
            number: notice.number,
            at: time(notice.at),
            event: notice.event.as_str(),
            step: notice.step,
            share: notice.share.as_f64(),
            by: notice.by.as_ref().map(ByView::of),
            why: notice.why.as_ref().map(WhyView::of),
        }
    }
}

impl From<RouteCounts> for CountsView {
    fn from(counts: RouteCounts) -> Self {
        let RouteCounts { requests, errors, slow } = counts;
        Self { requests, errors, slow }
    }
}

fn by_difference(routes: &[RouteSides]) -> Vec<RouteView> {
    let rate = |counts: RouteCounts| counts.errors as f64 / counts.requests.max(1) as f64;
    let difference = |side: &RouteSides| (rate(side.canary) - rate(side.stable)).abs();
    let mut routes: Vec<&RouteSides> = routes.iter().collect();
    routes.sort_by(|one, other| difference(other).total_cmp(&difference(one)));
    let view = |side: &RouteSides| RouteView {
        route: side.route.as_ref().map(ToString::to_string),
        stable: side.stable.into(),
        canary: side.canary.into(),
    };
    routes.into_iter().map(view).collect()
}

fn stages(rollout: &Rollout) -> Vec<StageView> {
    let at = rollout.at();
    let state = |place: usize| match (at, rollout.phase()) {
        (_, Phase::Promoted) => "done",
        (Some(at), _) if place < at => "done",
        (_, phase) if phase.is_over() => "skipped",
        (Some(at), _) if place == at => "current",
        _ => "next",
    };
    let view = |(place, stage): (usize, &Stage)| StageView {
        kind: kind(stage.task),
        step: stage.step,
        share: stage.layout.share.as_f64(),
        state: state(place),
    };
    rollout.stages().iter().enumerate().map(view).collect()
}

pub(super) fn kind(task: Task) -> &'static str {
    match task {
        Task::Touch(_) => "touch",
        Task::Step { .. } => "step",
        Task::Pause(_) => "pause",
        Task::Exchange => "exchange",
        Task::Watch(_) => "watch",
        Task::Delay(_) => "delay",
        Task::Idle => "idle",
        Task::Experiment => "experiment",
    }
}

/// Seconds ahead: more digits would only look as if they were known.
pub(super) fn rounded(seconds: f64) -> f64 {
    number(seconds.ceil())
}

/// JSON has no infinity.
fn number(value: f64) -> f64 {
    value.clamp(-1e15, 1e15)
}
