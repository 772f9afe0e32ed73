use super::section;
use crate::{
    config::{
        kinds::{
            Count, Decimal, FilePath, Flag, Growth, HttpUrl, ListOf, NameKind, OffOr, Part,
            Quantile, QueryText, SetOf, Span, choice,
        },
        reader::{At, Field, Kind, Reader},
        shape::Shape,
        tree::{Data, NodeId},
    },
    spec::{
        FailureAction, GateTime, HookEvent, OnFailure, OnInconclusive, Role, RollingOrder,
        RolloutStrategy, Sensitivity,
    },
};
use std::time::Duration;

section! {
    Rollout, "How the service moves to a new version: what a rollout does that is started without saying otherwise.",
    {
        strategy: StrategyKind, Default("canary"), example "blue_green",
            "`canary`: step by step; `blue_green`: all at once, after a time in which pinned requests alone go there; \
             `rolling`: backend by backend; `recreate`: requests wait while one version ends and the other takes over; \
             `ab_test`: a fixed split, measured.";
        first_touch: OffOr<FirstTouch>, Default("{ for: 10s, rate: 20 }"), example "{ for: 30s, rate: 5 }",
            "Before the first step: a trickle of requests, so that a version that is broken from the beginning harms \
             few whatever the traffic.";
        steps: ListOf<StepEntry, 1>,
            Absent("`canary`: `[5, 25, 50, 100]`; `ab_test`: `[50]`; `blue_green`: a pause of `bake`"),
            example "[1, 10, { share: 50, bake: 1h }, { pause: {} }, 100]",
            "The canary's part of what stable and canary have together, in percent, each above the one before; and \
             pauses. `rolling` and `recreate` have none.";
        holdback: Part<0, 999_999, false>, Default("5"), example "10",
            "Percent that stay on stable during a last step of 100, until the end, as something to compare with.";
        bake: Span<true>, Default("10m"), example "1h", "The shortest time of a step that names none.";
        min_requests: Count<1, 1_000_000_000>, Default("300"), example "1000",
            "On the canary, in a step, before it can end.";
        gates: Gates, Absent("the defaults below"), example "{ error_rate: { max: 2% } }",
            "What must hold.";
        sensitivity: SensitivityKind, Default("default"), example "strict",
            "`strict`: the canary may not be worse at all; takes more requests.";
        confidence: Part<500_000, 999_990, true>, Default("99%"), example "99.9%",
            "That a canary which is no worse is not aborted, over the whole rollout.";
        warm_up: Span<true>, Default("30s"), example "2m",
            "The time at the beginning in which the canary may be slow.";
        burst: Span<false>, Default("3s"), example "10s",
            "How long a burst of errors may last without being enough by itself to abort: 1s at least.";
        on_failure: OnFailureKind, Default("abort"), example "pause",
            "What happens when the canary is worse.";
        on_inconclusive: OnInconclusiveKind, Default("hold"), example "abort",
            "What happens at `step_deadline` and `deadline` when nobody can know.";
        step_deadline: Span<false>, Default("30m"), example "2h",
            "A step that takes longer is inconclusive.";
        deadline: Span<false>, Default("4h"), example "2d",
            "The same of the whole. Pauses do not count.";
        keep_stable: Span<true>, Default("10m"), example "1h",
            "How long stable stays warm after the end, so that an undo is one swap.";
        hold: Span<false>, Default("30s"), example "2m",
            "The longest that requests wait in `recreate`.";
        rescue: Flag, Default("true"), example "false",
            "What fails on the canary is sent once more to stable, where that can do no harm twice. A `rescue` of the \
             service says otherwise.";
        approval: ApprovalKind, Default("operator"), example "approver",
            "The role that it takes to promote, and to resume what has paused because of a failure. See docs/admin.md.";
        hooks: ListOf<HookSection, 0>, Default("[]"),
            example "[{ on: [aborted, promoted], url: \"http://127.0.0.1:8000/hook\" }]",
            "Who is told what happens. See docs/rollouts.md.";
        rolling: Rolling, Absent("the defaults below"), example "{ parallelism: 2 }",
            "How `rolling` goes about it.";
    }
}

section! {
    FirstTouch, "A trickle of requests before the first step.",
    {
        r#for: Span<false>, Default("10s"), example "30s", "How long.";
        rate: Count<1, 1_000_000>, Default("20"), example "5",
            "Requests on the canary in a second, at most.";
    }
}

section! {
    Step, "A share of the requests, or a pause.",
    {
        share: Part<1, 1_000_000, false>, Absent("see `pause`"), example "5",
            "The canary's part, in percent: `5`, `0.1`.";
        bake: Span<true>, Absent("`bake` of the rollout"), example "1h",
            "The shortest time of this step. Only with `share`.";
        pause: PauseEntry, Absent("see `share`"), example "1h",
            "Waits so long, or with `{}` until somebody promotes.";
    }
}

section! {
    PauseSection, "How long a pause is.",
    {
        r#for: Span<false>, Absent("until somebody promotes"), example "1h", "Its time.";
    }
}

/// A step written as its share alone, or as a mapping.
pub(in crate::config) struct StepEntry;

type StepShare = Part<1, 1_000_000, false>;

impl Kind for StepEntry {
    type Value = Step;
    const SHAPE: Shape = Shape::Either(&[StepShare::SHAPE, Step::SHAPE]);

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Step> {
        if matches!(reader.data(node), Data::Map(_)) {
            return Step::read(reader, node);
        }
        let value = StepShare::read(reader, node)?;
        let share = Field::Good(At { value, node });
        Some(Step { share, bake: Field::Absent, pause: Field::Absent })
    }
}

/// A pause written as its time alone, or as a mapping. `None`: without an end of its own.
pub(in crate::config) struct PauseEntry;

impl Kind for PauseEntry {
    type Value = Option<Duration>;
    const SHAPE: Shape = Shape::Either(&[Span::<false>::SHAPE, PauseSection::SHAPE]);

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        if !matches!(reader.data(node), Data::Map(_)) {
            return Span::<false>::read(reader, node).map(Some);
        }
        match PauseSection::read(reader, node)?.r#for {
            Field::Absent => Some(None),
            Field::Good(time) => Some(Some(time.value)),
            Field::Bad(_) => None,
        }
    }
}

section! {
    Gates, "What must hold for a rollout to go on. `off`: not asked.",
    {
        error_rate: OffOr<ErrorRateGate>, Default("{ max: 1% }"), example "{ max: 0.5% }",
            "How many of the canary's requests may fail.";
        latency: OffOr<LatencyGateSection>, Default("{ quantile: 0.99, max: 1s }"),
            example "{ quantile: 0.95, max: 300ms }",
            "How long the canary may take.";
        regression: OffOr<RegressionSection>, Default("{ error_rate: 0.5%, latency: 20% }"), example "off",
            "How much worse than stable the canary may be for a step to be left behind. `off`: the two are not \
             compared; times and the other gates alone decide.";
        prometheus: ListOf<PrometheusSection, 0>, Default("[]"),
            example "[{ name: errors, url: \"http://127.0.0.1:9090\", query: \"sum(rate(errors[1m]))\", max: 0.01 }]",
            "Queries whose answers must not be above a limit. See docs/rollouts.md.";
        webhooks: ListOf<WebhookSection, 0>, Default("[]"),
            example "[{ name: smoke, url: \"http://127.0.0.1:8000/smoke\", when: before }]",
            "Addresses that must answer 200. See docs/rollouts.md.";
    }
}

section! {
    ErrorRateGate, "How many of the canary's requests may fail.",
    {
        max: Part<1, 1_000_000, true>, Default("1%"), example "0.5%", "Of its requests.";
    }
}

section! {
    LatencyGateSection, "How long the canary may take, from the request head sent to the response head.",
    {
        quantile: Quantile, Default("0.99"), example "0.95",
            "So large a part of its requests must not take longer than `max`.";
        max: Span<false>, Default("1s"), example "300ms", "The limit.";
    }
}

section! {
    RegressionSection, "How much worse than stable the canary may be.",
    {
        error_rate: Part<1, 500_000, true>, Default("0.5%"), example "0.1%",
            "More errors, of all requests.";
        latency: Growth, Default("20%"), example "10%", "Longer, of stable's time.";
    }
}

section! {
    PrometheusSection, "A query whose answer must not be above a limit.",
    {
        name: NameKind, Required, example "errors", "Its name in what the rollout says. No two gates have the same.";
        url: HttpUrl, Required, example "http://127.0.0.1:9090",
            "The server. A path is kept: `/api/v1/query` is put after it.";
        query: QueryText, Required, example "\"sum(rate(errors[1m]))\"", "In PromQL. Its answer must be one number.";
        max: Decimal, Required, example "0.01", "The gate holds as long as the answer is not above it.";
        interval: Span<false>, Default("15s"), example "1m", "From one question to the next.";
        timeout: Span<false>, Default("5s"), example "10s", "How long an answer may take.";
    }
}

section! {
    WebhookSection, "An address that must answer 200.",
    {
        name: NameKind, Required, example "smoke", "Its name in what the rollout says. No two gates have the same.";
        url: HttpUrl, Required, example "http://127.0.0.1:8000/smoke",
            "What is asked, by POST, with the rollout as JSON.";
        when: GateTimeKind, Default("during"), example "before",
            "`before` traffic goes to the canary; `during` each step, again and again; `after` the steps, before the last \
             of stable's traffic is taken.";
        interval: Span<false>, Default("15s"), example "1m", "From one question to the next.";
        timeout: Span<false>, Default("10s"), example "1m", "How long an answer may take.";
        key_file: FilePath, Absent("what is sent is not signed"), example "hook.key",
            "What is in it signs what is sent, without the white space around it. Read anew each time.";
    }
}

section! {
    HookSection, "Is told what happens, and told again until it answers 200 to 299.",
    {
        on: SetOf<HookEventKind, 1>, Required, example "[aborted, promoted]", "What it is told.";
        url: HttpUrl, Required, example "http://127.0.0.1:8000/hook", "Where it is sent, by POST, as JSON.";
        key_file: FilePath, Absent("what is sent is not signed"), example "hook.key",
            "What is in it signs what is sent, without the white space around it. Read anew each time.";
    }
}

section! {
    Rolling, "How `rolling` goes about it.",
    {
        parallelism: Count<1, 10_000>, Default("1"), example "2", "Backends that are exchanged at a time.";
        delay: Span<true>, Default("10s"), example "1m", "Between two batches.";
        order: RollingOrderKind, Default("start_first"), example "stop_first",
            "Whether new backends get requests before old ones stop.";
        monitor: Span<true>, Default("30s"), example "5m", "How long each batch is watched.";
        failure_action: FailureActionKind, Default("pause"), example "rollback",
            "What happens when a batch is worse. `continue`: as if nothing had happened.";
        max_unavailable: Count<0, 10_000>, Default("0"), example "1",
            "Fewer backends than stable had at the beginning, at most; with `stop_first` one batch at least.";
        admit: HttpUrl, Absent("backends run already"), example "http://127.0.0.1:8000/admit",
            "Must answer 200 before a batch of backends gets requests: it starts them, say. By POST, with the rollout as \
             JSON.";
    }
}

choice! {
    StrategyKind -> RolloutStrategy {
        "canary" => RolloutStrategy::Canary,
        "blue_green" => RolloutStrategy::BlueGreen,
        "rolling" => RolloutStrategy::Rolling,
        "recreate" => RolloutStrategy::Recreate,
        "ab_test" => RolloutStrategy::AbTest,
    }
}

choice! {
    SensitivityKind -> Sensitivity {
        "default" => Sensitivity::Default,
        "strict" => Sensitivity::Strict,
    }
}

choice! { OnFailureKind -> OnFailure { "abort" => OnFailure::Abort, "pause" => OnFailure::Pause } }

choice! {
    OnInconclusiveKind -> OnInconclusive {
        "hold" => OnInconclusive::Hold,
        "abort" => OnInconclusive::Abort,
        "promote" => OnInconclusive::Promote,
    }
}

choice! { ApprovalKind -> Role { "operator" => Role::Operator, "approver" => Role::Approver } }

choice! {
    GateTimeKind -> GateTime {
        "before" => GateTime::Before,
        "during" => GateTime::During,
        "after" => GateTime::After,
    }
}

choice! {
    HookEventKind -> HookEvent {
        "started" => HookEvent::Started,
        "step" => HookEvent::Step,
        "waiting" => HookEvent::Waiting,
        "paused" => HookEvent::Paused,
        "resumed" => HookEvent::Resumed,
        "aborted" => HookEvent::Aborted,
        "promoted" => HookEvent::Promoted,
        "superseded" => HookEvent::Superseded,
        "failed" => HookEvent::Failed,
    }
}

choice! {
    RollingOrderKind -> RollingOrder {
        "start_first" => RollingOrder::StartFirst,
        "stop_first" => RollingOrder::StopFirst,
    }
}

choice! {
    FailureActionKind -> FailureAction {
        "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
    }
}
