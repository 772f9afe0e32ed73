//! Revisions, the way back, and changes that are made once.

use super::*;
use crate::routing::derive_salt;
use jiff::Timestamp;

const ALL: Page = Page { before: None, limit: 1000, service: None };

fn undo(service: Option<&str>, to_revision: Option<u64>) -> Command {
    Command::Undo { service: service.map(name), to_revision }
}

async fn two_shops() -> Rig {
    rig(spec(&[("shop", shop()), ("other", shop())])).await
}

fn weights(rig: &Rig, service: &str) -> [u32; 2] {
    let view = rig.handle.view();
    let service = &view.spec.services[service];
    ["blue", "green"].map(|pool| service.pools[pool].weight.get())
}

async fn conflict(rig: &Rig, command: Command) -> String {
    match rig.apply(command).await.err() {
        Some(ChangeError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_change_is_a_revision() {
    let rig = two_shops().await;
    let change = Change { cause: Some("it is time".into()), ..change(cutover("green")) };
    rig.handle.apply(change).await.unwrap();
    rig.apply(cutover("green")).await.unwrap();
    rig.apply(load(&spec(&[("shop", shop())]))).await.unwrap();
    let revisions = rig.handle.history().revisions(ALL).await.unwrap();
    let told: Vec<_> = revisions.iter().map(|it| (it.number, it.source.as_str())).collect();
    assert_eq!(told, [(3, "api"), (2, "api"), (1, "file")]);
    assert_eq!(revisions[1].cause.as_deref(), Some("it is time"));
    assert_eq!((&*revisions[1].author, &*revisions[2].author), ("test", "file"));
    let (_, first) = rig.handle.history().revision(1).await.unwrap();
    assert_eq!(first.spec, spec(&[("shop", shop()), ("other", shop())]));
}

#[tokio::test]
async fn an_undo_undoes_the_newest_change_and_a_second_one_the_first() {
    let rig = two_shops().await;
    assert!(conflict(&rig, undo(None, None)).await.contains("nothing to undo"));
    rig.apply(set_weights(&[("blue", 70), ("green", 30)])).await.unwrap();
    rig.apply(set_weights(&[("blue", 60), ("green", 40)])).await.unwrap();
    let receipt = rig.apply(undo(None, None)).await.unwrap();
    assert_eq!((receipt.revision, weights(&rig, "shop")), (Some(4), [70, 30]));
    let receipt = rig.apply(undo(None, None)).await.unwrap();
    assert_eq!((receipt.revision, weights(&rig, "shop")), (Some(5), [60, 40]));
    rig.apply(undo(None, Some(1))).await.unwrap();
    assert_eq!(weights(&rig, "shop"), [95, 5]);
    // What is in force already is no change.
    let same = rig.apply(undo(None, Some(1))).await.unwrap();
    assert_eq!((same.revision, same.before == same.after), (Some(6), true));
    let none = rig.apply(undo(None, Some(99))).await.err().unwrap();
    let why = "revision 99 is not kept; those from 1 to 6 are";
    assert_eq!(none, ChangeError::NotFound(why.into()));
}

#[tokio::test]
async fn an_undo_of_one_service_leaves_the_others() {
    let rig = two_shops().await;
    let of = |service: &str, blue: u64| Command::SetWeights {
        service: name(service),
        weights: vec![(name("blue"), weight(blue))],
    };
    rig.apply(of("shop", 10)).await.unwrap();
    rig.apply(of("other", 20)).await.unwrap();
    rig.apply(of("other", 30)).await.unwrap();
    rig.apply(undo(Some("shop"), None)).await.unwrap();
    assert_eq!((weights(&rig, "shop"), weights(&rig, "other")), ([95, 5], [30, 5]));
    rig.apply(undo(Some("shop"), None)).await.unwrap();
    assert_eq!((weights(&rig, "shop"), weights(&rig, "other")), ([10, 5], [30, 5]));
    rig.apply(undo(Some("other"), Some(3))).await.unwrap();
    assert_eq!((weights(&rig, "shop"), weights(&rig, "other")), ([10, 5], [20, 5]));
    let none = rig.apply(undo(Some("none"), Some(1))).await.err().unwrap();
    assert!(
        matches!(&none, ChangeError::NotFound(why) if why.contains("known services")),
        "{none}"
    );
    assert!(conflict(&rig, undo(Some("none"), None)).await.contains("no change of service `none`"));
}

#[tokio::test]
async fn what_was_drained_or_removed_comes_back_and_the_files_wish_with_it() {
    let rig = two_shops().await;
    rig.apply(drain("blue", Some(1))).await.unwrap();
    rig.apply(delete_backend("blue", 2)).await.unwrap();
    rig.apply(undo(None, None)).await.unwrap();
    let view = rig.handle.view();
    let blue = &view.spec.services["shop"].pools["blue"];
    assert!(blue.backends[&address(1)].drained && blue.backends.contains_key(&address(2)));
    rig.apply(undo(None, Some(1))).await.unwrap();
    assert!(!rig.handle.view().spec.services["shop"].pools["blue"].backends[&address(1)].drained);
    // The file as last loaded is no part of it: what it does not say is drift still.
    assert_eq!(rig.handle.view().loaded, Some(rig.handle.view().spec.clone()));
}

#[tokio::test]
async fn an_undo_towards_an_unhealthy_pool_is_refused() {
    let mut shop = checked(&[1], &[2]);
    shop.pools["green"].weight = weight(100);
    let rig = rig(spec(&[("shop", shop)])).await;
    rig.handle.apply(Change { force: true, ..change(cutover("green")) }).await.unwrap();
    let why = conflict(&rig, undo(None, None)).await;
    assert!(why.contains("has no healthy backend"), "{why}");
    let forced = Change { force: true, ..change(undo(None, None)) };
    assert_eq!(rig.handle.apply(forced).await.unwrap().revision, Some(3));
}

/// Of the service in force.
async fn salt(rig: &Rig) -> Name {
    let number = rig.handle.view().revision;
    let (_, content) = rig.handle.history().revision(number).await.unwrap();
    content.salts.get("shop").unwrap().clone()
}

#[tokio::test]
async fn an_undo_finds_what_was_removed_proven() {
    let (blue, green) = (Probed::start(200).await, Probed::start(200).await);
    let mut shop = checked(&[blue.port], &[green.port]);
    shop.pools["green"].weight = weight(100);
    let rig = rig(spec(&[("shop", shop)])).await;
    eventually(|| [blue.port, green.port].iter().all(|p| rig.backend(*p).health.is_available()))
        .await;
    rig.apply(cutover("blue")).await.unwrap();
    rig.apply(delete_pool("green")).await.unwrap();
    // It is gone, and probed on.
    let probes = green.probes();
    eventually(|| green.probes() > probes + 2).await;
    assert!(rig.try_backend(green.port).is_none());
    // One swap: it has been well all the time, so nobody waits and nobody is warned.
    let receipt = rig.apply(undo(None, Some(1))).await.unwrap();
    assert_eq!(receipt.warnings, ["no state directory: a restart returns to the file"]);
    assert!(rig.backend(green.port).health.is_available());

    // One that is shut down once it has left is forgotten, and the way back to it refused.
    rig.apply(cutover("blue")).await.unwrap();
    rig.apply(delete_pool("green")).await.unwrap();
    green.set(503);
    let refused = async {
        loop {
            let asked = Change { dry_run: true, ..change(undo(None, Some(1))) };
            if rig.handle.apply(asked).await.is_err() {
                return conflict(&rig, undo(None, Some(1))).await;
            }
        }
    };
    let why = timeout(PATIENCE, refused).await.expect("in time");
    assert!(why.contains("pool `green` of service `shop` has no healthy backend"), "{why}");
}

#[tokio::test]
async fn users_go_where_they_went_then() {
    let mut sticky = shop();
    sticky.pools["green"].weight = weight(5);
    let rig = rig(spec(&[("shop", sticky)])).await;
    let first = salt(&rig).await;
    // While both have weight, another version keeps the salt; once nobody can be moved by it, it is new.
    rig.apply(put_pool("green", pool("v3", 5, &[11]))).await.unwrap();
    assert_eq!(salt(&rig).await, first);
    rig.apply(cutover("blue")).await.unwrap();
    assert_eq!(salt(&rig).await, derive_salt("shop", ["v1", "v3"]));
    rig.apply(undo(None, None)).await.unwrap();
    assert_eq!(salt(&rig).await, first);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_made() {
    const DUMB: Format = Format {
        write: |spec, before| {
            let blue = spec.services["shop"].pools["blue"].weight;
            if blue.get() == 13 {
                Err(vec!["unlucky".into()])
            } else {
                (FORMAT.write)(spec, before)
            }
        },
        ..FORMAT
    };
    let spec = spec(&[("shop", shop())]);
    let Started { handle, live, .. } = start(spec, 1, FileStatus::default(), DUMB).await.unwrap();
    let refused = handle.apply(change(set_weights(&[("blue", 13)]))).await.err();
    assert_eq!(refused, Some(ChangeError::Invalid(vec!["unlucky".into()])));
    assert_eq!((handle.view().revision, live.published.read(|s| s.revision)), (1, 1));
    // Refused for what it is, not for the state's sake.
    assert_eq!(handle.view().state.error, None);
    assert!(handle.apply(change(set_weights(&[("blue", 14)]))).await.is_ok());
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = spec(&[("shop", shop())]);
    file.state.directory = Some(directory.path().join("state"));
    let first = rig(file.clone()).await;
    first.apply(set_weights(&[("blue", 10)])).await.unwrap();
    first.apply(drain("green", None)).await.unwrap();
    // A change of the file that changes nothing in force is kept too.
    let mut adopted = file.clone();
    adopted.services["shop"].pools["blue"].weight = weight(10);
    assert_eq!(first.apply(load(&adopted)).await.unwrap().revision, Some(3));
    first.handle.hand_over(true).await.unwrap();
    assert_eq!(first.apply(cutover("blue")).await.err(), Some(ChangeError::Upgrading));

    // As by a restart: what only the API has changed stays, what the file changed since wins.
    let mut changed = adopted.clone();
    changed.services["shop"].pins = vec![pin("green")];
    changed.threads = std::num::NonZeroUsize::new(3);
    let second = rig(changed.clone()).await;
    let view = second.handle.view();
    assert_eq!((view.revision, view.spec.threads), (4, changed.threads));
    let shop = &view.spec.services["shop"];
    assert_eq!((shop.pools["blue"].weight, shop.pins.len()), (weight(10), 1));
    assert!(shop.pools["green"].drained);
    assert_eq!(view.loaded.as_deref(), Some(&changed));
    let revisions = second.handle.history().revisions(ALL).await.unwrap();
    assert_eq!((revisions.len(), revisions[0].source), (4, Source::File));
    second.handle.hand_over(true).await.unwrap();

    // The same file: nothing is new.
    let third = rig(changed).await;
    assert_eq!(third.handle.view().revision, 4);
    assert!(first.handle.take_back().await.is_err(), "another one has it");
    third.handle.hand_over(true).await.unwrap();
    first.handle.take_back().await.unwrap();
}

#[tokio::test]
async fn a_file_that_does_not_fit_leaves_what_was_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = spec(&[("shop", shop())]);
    file.state.directory = Some(directory.path().join("state"));
    let first = rig(file.clone()).await;
    first.apply(put_pool("red", pool("v3", 0, &[21]))).await.unwrap();
    first.apply(cutover("red")).await.unwrap();
    let mut with = Spec::clone(&first.handle.view().spec);
    with.services["shop"].pins = vec![pin("red")];
    first.apply(Command::Replace { spec: Box::new(with) }).await.unwrap();
    first.handle.hand_over(true).await.unwrap();
    // The file takes all weight from the pools that it knows.
    for pool in ["blue", "green"] {
        file.services["shop"].pools.shift_remove(pool);
    }
    file.services["shop"].pools.insert(name("red"), pool("v9", 0, &[22]));
    let second = rig(file).await;
    let view = second.handle.view();
    assert_eq!(view.revision, 4);
    assert!(
        view.file.error.as_ref().is_some_and(|why| why.contains("sum to 0")),
        "{:?}",
        view.file
    );
}

#[tokio::test]
async fn a_change_with_a_key_is_made_once() {
    let rig = two_shops().await;
    let once = |key: &str, print: &str| Once { key: key.into(), fingerprint: print.into() };
    let made = |reply: Reply| match reply {
        Reply::Made(receipt) => receipt,
        Reply::Known(known) => panic!("{known:?}"),
    };
    let known = |reply: Reply| match reply {
        Reply::Known(known) => known,
        Reply::Made(_) => panic!("made again"),
    };
    let handle = &rig.handle;
    let first = made(handle.apply_once(change(cutover("green")), once("k", "a")).await.unwrap());
    assert_eq!(first.revision, Some(2));
    // Somebody else goes back meanwhile, and a repetition must not undo that.
    rig.apply(cutover("blue")).await.unwrap();
    let again = known(handle.apply_once(change(cutover("green")), once("k", "a")).await.unwrap());
    assert_eq!(again, Known { answer: None, revision: 2 });
    assert_eq!(weights(&rig, "shop"), [100, 0]);
    handle.history().remember(name("test"), "k".into(), "told".into());
    // Also where it would not be possible any more.
    let late = Change { if_match: Some(1), ..change(cutover("green")) };
    let again = known(handle.apply_once(late, once("k", "a")).await.unwrap());
    assert_eq!(again.answer.as_deref(), Some("told"));
    let other = handle.apply_once(change(cutover("green")), once("k", "b")).await.err();
    assert_eq!(other, Some(ChangeError::KeyReused));
    // Others have keys of their own; what fails or changes nothing is no different.
    let theirs = Change { author: name("else"), ..change(cutover("blue")) };
    assert_eq!(made(handle.apply_once(theirs, once("k", "b")).await.unwrap()).revision, Some(3));
    let failed = handle.apply_once(change(cutover("none")), once("f", "a")).await.err();
    assert!(matches!(failed, Some(ChangeError::NotFound(_))));
    made(handle.apply_once(change(cutover("blue")), once("f", "b")).await.unwrap());
    known(handle.apply_once(change(cutover("blue")), once("f", "b")).await.unwrap());
    // A dry run neither asks nor tells.
    let dry = || Change { dry_run: true, ..change(cutover("green")) };
    assert_eq!(made(handle.apply_once(dry(), once("k", "z")).await.unwrap()).revision, None);
    assert_eq!(made(handle.apply_once(dry(), once("d", "z")).await.unwrap()).revision, None);
    made(handle.apply_once(change(cutover("green")), once("d", "y")).await.unwrap());
    assert!(Timestamp::now() > first.at);
}
