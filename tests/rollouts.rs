//! Rollouts on real sockets, with a second that takes a second: how they go on, go back and end.

mod support;

use crossfade::{
    control::{ChangeError, Command, News, Source},
    rollout::{Answer, Phase, Rollout, Verb},
    spec::{
        FirstTouch, GateTime, Gates, HookEvent, LatencyGate, RolloutPlan, RolloutStep,
        RolloutStrategy, Share, Spec, WebhookGate, Weight,
    },
};
use http::Response;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

/// Short times and few requests, so that time and guards decide.
fn quick() -> RolloutPlan {
    let share = |percent| RolloutStep::Share { share: Share::of_percent(percent), bake: None };
    RolloutPlan {
        steps: Some([25, 50, 100].map(share).to_vec()),
        first_touch: None,
        bake: 2 * SECOND,
        min_requests: 20,
        warm_up: Duration::ZERO,
        gates: Gates { regression: None, ..Gates::default() },
        keep_stable: 2 * SECOND,
        ..RolloutPlan::default()
    }
}

/// Two versions of a shop, the second of which does what it is told.
struct Shop {
    proxy: Arc<Proxy>,
    _backends: [Backend; 2],
    broken: Arc<AtomicBool>,
    visitors: Visitors,
}

impl Shop {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Spec)) -> Self {
        let broken = Arc::new(AtomicBool::new(false));
        let blue = Backend::named("blue").await;
        let green = Backend::failing("green", &broken).await;
        let mut spec = spec(&[
            ("blue", pool("v1", 100, &[blue.spec_address()])),
            ("green", pool("v2", 0, &[green.spec_address()])),
        ]);
        change(&mut spec);
        let proxy = Arc::new(Proxy::start(spec).await);
        let _backends = [blue, green];
        Self { proxy, _backends, broken, visitors: Visitors::default() }
    }

    fn visit(&mut self) {
        self.visitors.come(self.proxy.address);
    }

    async fn start(&self, plan: RolloutPlan) -> Result<(), ChangeError> {
        let start = Command::StartRollout {
            service: "shop".into(),
            to: "green".into(),
            from: None,
            plan: Box::new(plan),
            supersede: false,
        };
        self.proxy.apply(start).await.map(drop)
    }

    async fn verb(&self, verb: Verb) -> Result<(), ChangeError> {
        let steer = Command::SteerRollout { service: "shop".into(), verb };
        self.proxy.apply(steer).await.map(drop)
    }

    fn rollout(&self) -> Arc<Rollout> {
        self.proxy.handle.view().rollouts["shop"].clone()
    }

    fn weights(&self) -> [u32; 2] {
        let view = self.proxy.handle.view();
        ["blue", "green"].map(|pool| view.spec.services["shop"].pools[pool].weight.get())
    }

    async fn until(&self, what: &str, holds: impl Fn(&Rollout) -> bool) {
        let mut views = self.proxy.handle.views();
        let waited = views.wait_for(|view| holds(&view.rollouts["shop"]));
        let found = tokio::time::timeout(3 * PATIENCE, waited).await.is_ok();
        assert!(found, "{what}: {:?}", self.rollout().explain());
    }
}

#[tokio::test]
async fn a_good_version_is_promoted_step_by_step_and_undone_as_one_change() {
    let mut shop = Shop::open().await;
    shop.visit();
    let mut news = shop.proxy.handle.rollout_news();
    shop.start(quick()).await.unwrap();
    assert_eq!(shop.weights(), [75, 25], "in force when it is answered");
    assert!(matches!(shop.start(quick()).await, Err(ChangeError::Conflict(_))), "one at a time");
    shop.until("promoted", |rollout| rollout.phase() == Phase::Promoted).await;
    assert_eq!(shop.weights(), [0, 100]);
    let mut told = Vec::new();
    while told.last().is_none_or(|(event, _)| *event != "promoted") {
        let next = tokio::time::timeout(PATIENCE, news.recv()).await;
        let notice = next.expect("it is told").unwrap().notice;
        told.push((notice.event.as_str(), notice.share.to_string()));
    }
    let told: Vec<_> = told.iter().map(|(event, share)| (*event, &**share)).collect();
    let wanted =
        [("started", "0"), ("step", "25"), ("step", "50"), ("step", "95"), ("promoted", "100")];
    assert_eq!(told, wanted);
    assert_eq!(shop.visitors.failed(), 0);
    let totals = shop.rollout().totals().clone();
    assert!(totals.canary.requests > 60 && totals.stable.requests > 60, "{totals:?}");

    let page = crossfade::control::Page { before: None, limit: 10, service: None };
    let revisions = shop.proxy.handle.history().revisions(page).await.unwrap();
    let id = shop.rollout().id().clone();
    let own = revisions.iter().filter(|it| it.rollout.as_ref() == Some(&id));
    let own: Vec<_> = own.map(|it| it.source).collect();
    assert_eq!(own, [Source::Rollout, Source::Rollout, Source::Rollout, Source::Api]);

    shop.until("stable is not kept warm any more", |rollout| rollout.is_settled()).await;
    assert!(shop.proxy.handle.view().spec.services["shop"].pools["blue"].drained);
    shop.proxy.apply(Command::Undo { service: None, to_revision: None }).await.unwrap();
    assert_eq!(shop.weights(), [100, 0]);
    assert!(!shop.proxy.handle.view().spec.services["shop"].pools["blue"].drained);
    let kept = shop.proxy.handle.history().rollout(id).await.unwrap().unwrap();
    assert_eq!(kept.totals().canary.requests, totals.canary.requests, "finished ones are kept");
}

#[tokio::test]
async fn a_version_that_begins_to_fail_is_back_at_nothing_and_nobody_sees_it() {
    let mut shop = Shop::open().await;
    shop.visit();
    shop.start(quick()).await.unwrap();
    shop.until("it has got requests", |it| it.totals().canary.requests > 10).await;
    shop.broken.store(true, Ordering::Relaxed);
    shop.until("aborted", |rollout| rollout.phase() == Phase::Aborted).await;
    assert_eq!(shop.weights(), [100, 0]);
    assert_eq!(&*shop.rollout().why().unwrap().code, "guard");
    assert_eq!(shop.visitors.failed(), 0, "what failed was answered by stable");
    assert!(shop.rollout().totals().canary.errors > 0, "and counted all the same");
}

#[tokio::test]
async fn a_person_steers() {
    let mut shop = Shop::open().await;
    assert!(matches!(shop.verb(Verb::Pause(None)).await, Err(ChangeError::NotFound(_))));
    shop.visit();
    shop.start(RolloutPlan { bake: 600 * SECOND, ..quick() }).await.unwrap();
    shop.verb(Verb::Pause(None)).await.unwrap();
    shop.until("paused", |it| matches!(it.phase(), Phase::Paused { .. })).await;
    shop.verb(Verb::Promote).await.unwrap();
    assert_eq!(shop.weights(), [50, 50], "in force when it is answered");
    shop.verb(Verb::Abort).await.unwrap();
    assert_eq!(shop.weights(), [100, 0]);
    assert_eq!(shop.rollout().phase(), Phase::Aborted);
    let first = shop.rollout().id().clone();
    shop.proxy.apply(Command::RetryRollout { service: "shop".into() }).await.unwrap();
    assert_eq!(shop.weights(), [75, 25]);
    assert_ne!(*shop.rollout().id(), first);
}

#[tokio::test]
async fn an_answer_counts_for_the_step_in_which_it_was_asked_for() {
    let (asked, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (asks, released) = (asked.clone(), release.clone());
    let gate = Backend::start(move |_| {
        let (nth, released) = (asks.fetch_add(1, Ordering::Relaxed), released.clone());
        async move {
            // Yes to the first step comes late; the second one gets none.
            match nth {
                0 => released.notified().await,
                _ => return Response::builder().status(500).body(full("no")).unwrap(),
            }
            text("yes")
        }
    })
    .await;
    let webhook = WebhookGate {
        name: "acceptance".into(),
        url: format!("http://{}/", gate.address).into(),
        when: GateTime::During,
        interval: SECOND,
        timeout: 600 * SECOND,
        key_file: None,
    };
    let mut shop = Shop::open().await;
    shop.visit();
    let gates = Gates { webhooks: vec![webhook], ..quick().gates };
    shop.start(RolloutPlan { gates, ..quick() }).await.unwrap();
    until("it was asked", || asked.load(Ordering::Relaxed) == 1).await;
    shop.verb(Verb::Promote).await.unwrap();
    release.notify_one();
    let answer = |it: &Rollout| it.gates().next().and_then(|(_, answer)| answer.cloned());
    shop.until("answered", |it| answer(it).is_some()).await;
    let answer = answer(&shop.rollout());
    assert!(matches!(answer, Some(Answer::Fail(_))), "{answer:?}");
}

/// Whoever begins to listen after it was told must find it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_can_be_seen() {
    let mut shop = Shop::open().await;
    shop.visit();
    let mut news = shop.proxy.handle.rollout_news();
    let handle = shop.proxy.handle.clone();
    let listener = tokio::task::spawn_blocking(move || {
        loop {
            let News { notice, .. } = news.blocking_recv().unwrap();
            let view = handle.view();
            let mut notices = view.rollouts["shop"].notices().iter();
            assert!(notices.any(|it| it.number == notice.number), "{notice:?}");
            if notice.event == HookEvent::Promoted {
                return;
            }
        }
    });
    shop.start(quick()).await.unwrap();
    listener.await.unwrap();
}

#[tokio::test]
async fn whoever_moves_the_traffic_himself_ends_it_in_the_same_revision() {
    let shop = Shop::open().await;
    for command in [
        Command::Cutover { service: "shop".into(), to: "blue".into() },
        Command::SetWeights {
            service: "shop".into(),
            weights: vec![("green".into(), Weight::new(7).unwrap())],
        },
        Command::Undo { service: None, to_revision: None },
    ] {
        shop.proxy.cutover("blue").await;
        shop.start(quick()).await.unwrap();
        let before = shop.proxy.handle.view().revision;
        let receipt = shop.proxy.apply(command).await.unwrap();
        assert_eq!(receipt.revision, Some(before + 1));
        assert_eq!(shop.rollout().phase(), Phase::Superseded);
    }
    shop.proxy.weights(&[("blue", 100), ("green", 0)]).await;
    shop.start(quick()).await.unwrap();
    let delete = Command::DeletePool { service: "shop".into(), name: "green".into() };
    let refused = shop.proxy.apply(delete).await;
    let Err(ChangeError::Conflict(why)) = refused else { panic!("{:?}", refused.err()) };
    assert!(why.contains("needs both pools"), "{why}");
    let start = Command::StartRollout {
        service: "shop".into(),
        to: "green".into(),
        from: Some("blue".into()),
        plan: Box::new(quick()),
        supersede: true,
    };
    shop.proxy.apply(start).await.unwrap();
    assert_eq!((shop.weights(), shop.rollout().phase()), ([75, 25], Phase::Running));
}

#[tokio::test]
async fn a_file_that_says_something_else_of_the_traffic_is_held_back() {
    let shop = Shop::open().await;
    let mut file = Spec::clone(&shop.proxy.handle.view().spec);
    shop.proxy.apply(Command::Load { file: Box::new(file.clone()) }).await.unwrap();
    shop.start(quick()).await.unwrap();
    file.services["shop"].pools["green"].weight = Weight::new(40).unwrap();
    file.services["shop"].pools["green"].slow_start = SECOND;
    shop.proxy.apply(Command::Load { file: Box::new(file.clone()) }).await.unwrap();
    assert_eq!(shop.weights(), [75, 25]);
    assert_eq!(&*shop.rollout().why().unwrap().code, "drift");
    let view = shop.proxy.handle.view();
    assert_eq!(view.spec.services["shop"].pools["green"].slow_start, SECOND, "the rest is applied");
    shop.verb(Verb::Abort).await.unwrap();
    assert_eq!(shop.weights(), [100, 0]);
    shop.start(quick()).await.unwrap();
    file.services["shop"].pools.shift_remove("green");
    let refused = shop.proxy.apply(Command::Load { file: Box::new(file) }).await;
    assert!(matches!(refused, Err(ChangeError::Conflict(_))), "it needs both");
}

#[tokio::test]
async fn what_cannot_begin_says_why() {
    let shop = Shop::with(|spec| {
        spec.services["shop"].pools.insert("dead".into(), pool("v3", 0, &[dead_address()]));
        spec.services["shop"].health_check = Some(health_check());
    })
    .await;
    let start = |to: &str, from: Option<&str>| Command::StartRollout {
        service: "shop".into(),
        to: to.into(),
        from: from.map(Into::into),
        plan: Box::new(quick()),
        supersede: false,
    };
    let refused = |result: Result<_, ChangeError>| result.map(drop).unwrap_err();
    let why = refused(shop.proxy.apply(start("dead", None)).await);
    assert!(
        matches!(&why, ChangeError::Conflict(why) if why.contains("no healthy backend")),
        "{why:?}"
    );
    let why = refused(shop.proxy.apply(start("red", None)).await);
    assert!(matches!(why, ChangeError::NotFound(_)), "{why:?}");
    for (to, from) in [("blue", None), ("green", Some("green"))] {
        let why = refused(shop.proxy.apply(start(to, from)).await);
        assert!(matches!(why, ChangeError::Invalid(_)), "{why:?}");
    }
    assert!(shop.proxy.handle.view().rollouts.is_empty());
}

#[tokio::test]
async fn recreate_loses_no_request() {
    let mut shop = Shop::open().await;
    shop.visit();
    let strategy = RolloutStrategy::Recreate;
    shop.start(RolloutPlan { strategy, steps: None, ..quick() }).await.unwrap();
    shop.until("promoted", |rollout| rollout.phase() == Phase::Promoted).await;
    assert_eq!(shop.weights(), [0, 100]);
    assert_eq!(shop.visitors.failed(), 0);
}

#[tokio::test]
async fn a_first_touch_is_few_requests_whatever_the_traffic() {
    let mut shop = Shop::open().await;
    shop.visit();
    until("the traffic is known", || shop.visitors.answered() > 3000).await;
    let rate = NonZeroU32::new(2).unwrap();
    let first_touch = Some(FirstTouch { time: 600 * SECOND, rate });
    shop.start(RolloutPlan { first_touch, ..quick() }).await.unwrap();
    let [blue, green] = shop.weights();
    let share = f64::from(green) / f64::from(blue + green);
    assert!((0.001..0.2).contains(&share), "{blue} {green}");
}

#[tokio::test]
async fn a_version_that_gets_slower_is_caught() {
    let gates = Gates {
        regression: None,
        error_rate: None,
        latency: Some(LatencyGate {
            quantile: Share::of_percent(90),
            max: Duration::from_millis(1),
        }),
        ..Gates::default()
    };
    let mut shop = Shop::with(|spec| {
        spec.services["shop"].timeouts.response = 20 * SECOND;
    })
    .await;
    shop.visit();
    // Everybody is slower than the limit, so the guard rests while both versions serve, and cuts when one does.
    shop.start(RolloutPlan {
        gates,
        strategy: RolloutStrategy::BlueGreen,
        steps: Some(Vec::new()),
        ..quick()
    })
    .await
    .unwrap();
    assert_eq!(shop.weights(), [0, 100]);
    shop.until("it ends", |rollout| rollout.phase().is_over()).await;
}
