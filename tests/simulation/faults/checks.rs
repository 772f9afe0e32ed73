//! What holds whatever happens.

use crossfade::{
    rollout::{Layout, Notice, Paused, Phase, Rollout, Second, Task},
    spec::{HookEvent, Service, Share},
};

pub(crate) struct Checks {
    /// The last step that was told, whatever was forgotten in a restart.
    step: usize,
    /// The stage that it was in when it moved last.
    at: Option<usize>,
    /// The end, once there is one.
    end: Option<Phase>,
    is_superseded: bool,
    ended_at: u64,
    /// Whether an abort is to go through in this second.
    expected: Expected,
    /// Until when it is paused at least, if it is.
    pause: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Anything,
    /// The abort goes through.
    Aborted,
    /// It cannot, and says so.
    Failed(Layout),
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self {
            step: 0,
            at: None,
            end: None,
            is_superseded: false,
            ended_at: 0,
            expected: Expected::Anything,
            pause: None,
        }
    }

    /// Somebody has paused it until then; or has done something else about it.
    pub(crate) fn paused(&mut self, until: Option<u64>) {
        self.pause = until;
    }

    /// Each step once, one after the other.
    pub(crate) fn told(&mut self, notice: &Notice) {
        match notice.event {
            HookEvent::Step => {
                assert_eq!(notice.step, self.step + 1, "a step is left out or told again");
                self.step = notice.step;
            }
            HookEvent::Superseded => assert!(self.is_superseded, "by nobody"),
            _ => {}
        }
    }

    pub(crate) fn superseded(&mut self) {
        self.is_superseded = true;
    }

    pub(crate) fn before(&mut self, rollout: &Rollout, second: &Second, full: bool) {
        let layout = *rollout.layout();
        self.expected = match rollout.is_returning() {
            false => Expected::Anything,
            true if full => Expected::Failed(layout),
            true if layout.share == Share::NONE || second.stable_healthy => Expected::Aborted,
            true => Expected::Failed(layout),
        };
    }

    /// It is about to ask for this.
    pub(crate) fn moves(
        &self,
        rollout: &Rollout,
        layout: &Layout,
        second: Option<&Second>,
        passed: u64,
    ) {
        assert!(!self.is_superseded, "a superseded one moves nothing");
        let now = rollout.layout();
        let is_return = rollout.is_returning();
        if self.end.is_some() {
            assert_eq!(self.end, Some(Phase::Promoted), "it is over");
            assert!(layout.stable_drained);
            let keep = rollout.plan().keep_stable.as_secs();
            assert!(passed - self.ended_at + 1 >= keep, "stable is kept for {keep} s");
            return;
        }
        assert!(!layout.stable_drained);
        if matches!(rollout.phase(), Phase::Paused { .. }) {
            assert!(is_return, "it is paused");
        }
        let second = second.expect("only a second moves anything");
        if is_return && now.share > Share::NONE {
            assert!(second.stable_healthy, "nobody is there");
        }
        if layout.share > now.share {
            let serving = layout.backends.map_or(second.canary_backends.len(), |it| it.admitted);
            assert!(second.canary_backends[..serving].contains(&true), "the share rises to nobody");
        }
        if let Some(next) = layout.backends {
            let admitted = now.backends.map_or(0, |now| now.admitted);
            let new = &second.canary_backends[admitted.min(next.admitted)..next.admitted];
            assert!(new.iter().all(|healthy| *healthy), "a backend that is not healthy");
        }
    }

    pub(crate) fn moved(&mut self, rollout: &Rollout, passed: u64) {
        if rollout.phase().is_over() && self.end.is_none() {
            self.ended_at = passed;
        }
        if let (Some(at), Some(stage)) = (self.at, rollout.stage()) {
            let now = position(rollout);
            assert!(now >= at, "back in stage {now} after {at}");
            assert!(stage.step <= rollout.stages()[at].step + 1);
        }
        self.at = rollout.stage().map(|_| position(rollout));
        self.pause = match (rollout.phase(), rollout.stage().map(|stage| stage.task)) {
            (Phase::Paused { by: Paused::Step, .. }, Some(Task::Pause(Some(time)))) => {
                Some(passed + time.as_secs())
            }
            _ => None,
        };
    }

    /// After a second.
    pub(crate) fn after(&mut self, rollout: &Rollout, service: &Service, passed: u64) {
        if self.pause.is_some_and(|until| passed < until) {
            let by_itself = matches!(
                rollout.phase(),
                Phase::Paused { by: Paused::Person | Paused::Step, until: Some(_) }
            );
            let ended = rollout.is_returning() || rollout.phase().is_over();
            let other = matches!(rollout.phase(), Phase::Paused { until: None, .. });
            assert!(by_itself || ended || other, "too early");
        }
        match self.expected {
            Expected::Anything => {}
            Expected::Aborted => assert_eq!(rollout.phase(), Phase::Aborted),
            Expected::Failed(layout) => {
                assert_eq!(rollout.phase(), Phase::Failed);
                assert_eq!(*rollout.layout(), layout, "nobody is moved to nobody");
            }
        }
        self.holds(rollout, service);
    }

    /// At any time.
    pub(crate) fn holds(&mut self, rollout: &Rollout, service: &Service) {
        assert!(service.total_weight() > 0);
        let failed = rollout.notices().iter().filter(|it| it.event == HookEvent::Failed).count();
        assert!(failed <= 1, "told once");
        if let Some(end) = self.end {
            assert_eq!(rollout.phase(), end, "an end is final");
        } else if rollout.phase().is_over() {
            self.end = Some(rollout.phase());
        }
        if self.is_superseded {
            return;
        }
        let (blue, green) = (&service.pools["blue"], &service.pools["green"]);
        let served = |pool: &crossfade::spec::Pool| {
            !pool.drained && pool.backends.values().all(|backend| !backend.drained)
        };
        match rollout.phase() {
            Phase::Aborted => {
                assert_eq!(green.weight.get(), 0);
                assert_eq!(blue.weight.get(), rollout.before().both);
                assert!(served(blue), "nothing of stable is drained");
                assert!(!rollout.layout().held);
            }
            Phase::Promoted => {
                assert_eq!(blue.weight.get(), 0);
                assert!(green.weight.get() > 0 && served(green));
                assert!(!rollout.layout().held);
            }
            _ => assert!(!blue.drained && !green.drained),
        }
    }
}

/// The number of the stage that it is in.
fn position(rollout: &Rollout) -> usize {
    let stage = rollout.stage().expect("it is in one");
    rollout.stages().iter().position(|it| std::ptr::eq(it, stage)).expect("one of them")
}
