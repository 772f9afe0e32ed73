//! What a change would do to the requests of the last hour, before anybody makes it.

mod support;

use crossfade::{
    control::{Change, ChangeError, Command, Source},
    spec::{
        Engine, FieldMatch, Match, PathMatch, Pin, Reload, Sticky, StickyKey, UnhealthyPool,
        ValueMatch,
    },
};
use support::*;

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

/// blue 3, green 1, a pin to green by header; requests for every path.
async fn shop() -> (Backend, Backend, crossfade::spec::Spec) {
    let [blue, green] = [Backend::named("v1").await, Backend::named("v2").await];
    let mut spec = spec(&[
        ("blue", pool("v1", 3, &[blue.spec_address()])),
        ("green", pool("v2", 1, &[green.spec_address()])),
    ]);
    let canary = FieldMatch { name: "canary".into(), value: ValueMatch::Exact("true".into()) };
    let matches = Match { headers: vec![canary], ..Match::default() };
    spec.services["shop"].pins = vec![Pin { matches, from: Vec::new(), pool: "green".into() }];
    spec.services["shop"].unhealthy_pool = UnhealthyPool::Redistribute;
    (blue, green, spec)
}

/// Asks until the proxy remembers `samples` of its requests.
async fn traffic(proxy: &Proxy, h2: bool, header: Option<(&'static str, &str)>) {
    let mut client = if h2 { proxy.h2().await } else { proxy.h1().await };
    for _ in 0..5 {
        let mut request = get("/cart?secret=1");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        assert_eq!(client.send(request.body(full("")).unwrap()).await.status, 200);
    }
}

fn dry(command: Command) -> Change {
    Change { dry_run: true, ..change(command) }
}

#[tokio::test]
async fn a_dry_run_tells_which_share_would_go_elsewhere() {
    for (engine, h2) in WAYS {
        let (_blue, _green, mut spec) = shop().await;
        spec.engine = engine;
        let proxy = Proxy::start(spec).await;
        traffic(&proxy, h2, None).await;
        let cutover = || Command::Cutover { service: "shop".into(), to: "green".into() };
        let seen = proxy.handle.apply(dry(cutover())).await.unwrap().preview.unwrap();
        assert!(seen.all.samples > 0, "{engine:?} {h2}");
        assert!((seen.all.elsewhere - 0.75).abs() < 1e-9, "{seen:?}");
        assert_eq!(seen.all.nowhere, 0.0);
        assert_eq!(&*seen.services[0].0, "shop");
        assert!(proxy.handle.apply(change(cutover())).await.unwrap().preview.is_none());
    }
}

#[tokio::test]
async fn pins_and_sticky_users_are_known_and_secrets_are_not() {
    let (_blue, _green, mut spec) = shop().await;
    let key = StickyKey::Cookie("user".into());
    spec.services["shop"].sticky = Some(Sticky { key, issue: false, max_age: None, salt: None });
    let proxy = Proxy::start(spec).await;
    traffic(&proxy, false, Some(("canary", "true"))).await;
    let drain =
        Command::Drain { service: "shop".into(), pool: Some("green".into()), backends: Vec::new() };
    let seen = proxy.handle.apply(dry(drain.clone())).await.unwrap().preview.unwrap();
    assert_eq!((seen.all.nowhere, seen.all.elsewhere), (1.0, 0.0), "a pin is a pin");
    assert!(seen.all.examples[0].ends_with("/cart"), "{seen:?}");
    // Not every request is remembered.
    let share = async || {
        traffic(&proxy, false, Some(("cookie", "user=ann; sid=secret"))).await;
        proxy.handle.apply(dry(drain.clone())).await.unwrap().preview.unwrap().all.nowhere
    };
    let mut nowhere = share().await;
    for _ in 0..1000 {
        if nowhere < 1.0 {
            break;
        }
        nowhere = share().await;
    }
    assert!(nowhere < 1.0, "ann would be answered by the other pool");
    let recent = proxy.live.published.read(|snapshot| snapshot.services[0].recent.clone());
    let known = format!("{recent:?}");
    assert!(known.contains("/cart") && !known.contains("secret") && !known.contains("ann"));
}

#[tokio::test]
async fn a_file_that_would_strand_too_much_is_refused_unless_forced() {
    let (_blue, _green, mut spec) = shop().await;
    spec.reload = Reload { max_stranded_percent: Some(10) };
    let proxy = Proxy::start(spec.clone()).await;
    traffic(&proxy, false, None).await;
    let mut file = proxy.handle.view().spec.as_ref().clone();
    file.routes[0].matches.path = PathMatch::Prefix("/shop".into());
    // It says nothing of a limit any more; the one in force holds.
    file.reload = Reload::default();
    let load = |force| Change {
        source: Source::File,
        force,
        ..change(Command::Load { file: Box::new(file.clone()) })
    };
    let refused = proxy.handle.apply(load(false)).await.err().expect("refused");
    let ChangeError::Conflict(why) = &refused else { panic!("{refused}") };
    assert!(why.contains("100.00 %") && why.contains("/cart;"), "{why}");
    let view = proxy.handle.view();
    assert_eq!(view.file.error.as_ref(), Some(why), "it shows in the status");
    assert_eq!(view.revision, 1);
    assert_eq!(proxy.h1().await.get("/cart").await.status, 200);

    let asked = Change { dry_run: true, ..load(false) };
    let warned = proxy.handle.apply(asked).await.unwrap();
    assert!(warned.warnings.iter().any(|warning| warning.contains("max_stranded")));
    proxy.handle.apply(load(true)).await.unwrap();
    assert_eq!(proxy.h1().await.get("/cart").await.status, 404);
    assert_eq!(proxy.handle.view().file.error, None);
}
