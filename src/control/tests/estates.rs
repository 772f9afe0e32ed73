//! What passes from one process to the next.

use super::*;
use crate::{
    control::estate::Held,
    live::{Kind, Outcome},
    net::Inherited,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

fn file() -> FileStatus {
    FileStatus { path: Some(PathBuf::from("crossfade.yaml")), ..FileStatus::default() }
}

/// A process that begins with what another has left.
async fn heir(estate: Estate, spec: Spec) -> Rig {
    let taken = estate.clone();
    let inheritance = Inheritance { sockets: Inherited::default(), estate: Some(estate) };
    let started = start_from(spec.clone(), 2, file(), FORMAT, inheritance).await;
    let Started { live, handle, task } = started.unwrap();
    handle.take_over(taken, Some(Arc::new(spec)), None).await.unwrap();
    Rig { live, handle, task }
}

fn to_green() -> Command {
    Command::Cutover { service: name("shop"), to: name("green") }
}

fn shop_spec() -> Spec {
    spec(&[("shop", shop())])
}

#[tokio::test]
async fn what_is_in_force_goes_on_and_the_file_adds_what_it_has_changed() {
    let old = rig(shop_spec()).await;
    old.apply(to_green()).await.unwrap();
    let estate = old.handle.hand_over(false).await.unwrap();
    assert_eq!(estate.revision, 2);

    let same = heir(estate.clone(), shop_spec()).await;
    let view = same.handle.view();
    assert_eq!((view.revision, &view.spec), (2, &estate.spec), "no change, no revision");

    let mut changed = shop();
    changed.timeouts.drain = Duration::from_secs(7);
    let mut changed = spec(&[("shop", changed)]);
    changed.threads = std::num::NonZeroUsize::new(2);
    let other = heir(estate.clone(), changed.clone()).await;
    let view = other.handle.view();
    assert_eq!(view.revision, 3);
    assert_eq!(view.spec.threads, changed.threads, "what waits for a restart waits no longer");
    assert_eq!(view.spec.services["shop"].timeouts.drain, Duration::from_secs(7));
    assert_eq!(view.spec.services["shop"].pools["blue"].weight, weight(0));

    // The base of the next merge is the file as the heir has read it.
    other.apply(Command::Load { file: Box::new(changed) }).await.unwrap();
    assert_eq!(other.handle.view().revision, 3);
}

#[tokio::test]
async fn nothing_changes_from_the_hand_over_on_unless_it_is_taken_back() {
    let old = rig(shop_spec()).await;
    let waiting = {
        let handle = old.handle.clone();
        tokio::spawn(async move {
            let wait_healthy = Some(Duration::from_secs(60));
            handle.apply(Change { wait_healthy, ..change(to_green()) }).await
        })
    };
    // It is known to wait once another change has been made behind it.
    let (service, pool) = (name("shop"), Some(name("blue")));
    let backends = Vec::new();
    let drain = Command::Drain { service, pool, backends };
    old.apply(drain).await.unwrap();
    let estate = old.handle.hand_over(true).await.unwrap();
    if let Err(error) = waiting.await.unwrap() {
        assert_eq!(error, ChangeError::Upgrading);
    }
    assert_eq!(old.apply(to_green()).await.err(), Some(ChangeError::Upgrading));
    assert_eq!(old.handle.view().revision, estate.revision);
    old.handle.take_back().await.unwrap();
    let (service, pool) = (name("shop"), Some(name("blue")));
    let undrain = Command::Undrain { service, pool, backends: Vec::new() };
    assert_eq!(old.apply(undrain).await.unwrap().revision, Some(estate.revision + 1));
}

#[tokio::test]
async fn the_old_process_follows_before_a_change_is_answered() {
    let old = rig(shop_spec()).await;
    let estate = old.handle.hand_over(true).await.unwrap();
    let new = heir(estate, shop_spec()).await;
    let mut leads = new.handle.lead().await.unwrap();
    let handle = old.handle.clone();
    let (go, may_go) = oneshot::channel::<()>();
    tokio::spawn(async move {
        may_go.await.unwrap();
        while let Some(Word::Changed(change, estate)) = leads.next().await {
            handle.follow(Estate::clone(&estate)).await.unwrap();
            leads.has_followed(change);
        }
    });
    let mut made = Box::pin(new.apply(to_green()));
    assert!(timeout(Duration::from_millis(50), &mut made).await.is_err(), "it waits");
    go.send(()).unwrap();
    made.await.unwrap();
    assert_eq!(old.handle.view().revision, 2);
    assert_eq!(old.handle.view().spec.services, new.handle.view().spec.services);

    let hold = Command::Hold { service: name("shop"), time: Duration::from_secs(30) };
    new.apply(hold).await.unwrap();
    let held = |rig: &Rig| rig.live.published.read(|it| it.services[0].hold.is_some());
    assert!(held(&old) && held(&new));
    new.apply(Command::Release { service: name("shop") }).await.unwrap();
    assert!(!held(&old) && !held(&new));
}

/// As between two processes: `old` is told what changes in `new`, and asked what is in flight.
async fn lead(new: &Rig, old: &Rig) -> JoinHandle<()> {
    let mut leads = new.handle.lead().await.unwrap();
    let (handle, backend) = (old.handle.clone(), old.backend(1));
    tokio::spawn(async move {
        while let Some(word) = leads.next().await {
            match word {
                Word::Changed(change, estate) => {
                    handle.follow(Estate::clone(&estate)).await.unwrap();
                    leads.has_followed(change);
                }
                Word::Open(answer) => {
                    let open = handle.open_before().await.map(|mut open| {
                        open.push(Open {
                            service: "shop".into(),
                            pool: "blue".into(),
                            backend: backend.address.to_string(),
                            source: None,
                            requests: backend.open(),
                        });
                        open
                    });
                    let _ = answer.send(open);
                }
            }
        }
    })
}

#[tokio::test]
async fn changes_reach_all_that_were_there_before_and_what_is_open_there_is_known() {
    let first = rig(shop_spec()).await;
    let second = heir(first.handle.hand_over(true).await.unwrap(), shop_spec()).await;
    assert_eq!(second.handle.open_before().await, Some(vec![]), "nobody was led");
    let first_is_led = lead(&second, &first).await;
    let third = heir(second.handle.hand_over(true).await.unwrap(), shop_spec()).await;
    let second_is_led = lead(&third, &second).await;
    let old = [first.backend(1), second.backend(1)];
    old.iter().for_each(|backend| backend.begin(0));

    let receipt = third.apply(to_green()).await.unwrap();
    assert_eq!([&first, &second].map(|rig| rig.handle.view().revision), [2, 2]);
    let elsewhere = async |receipt: &Receipt| {
        third.handle.open_before().await.map(|open| receipt.open_elsewhere(&open))
    };
    assert_eq!((receipt.open(), elsewhere(&receipt).await), (0, Some(2)));
    let other = third.apply(delete_backend("blue", 2)).await.unwrap();
    assert_eq!(elsewhere(&other).await, Some(0), "nothing is open on that one");
    old.iter().for_each(|backend| backend.end(0, Kind::Request, Outcome::Finished));
    assert_eq!(elsewhere(&receipt).await, Some(0));

    second_is_led.abort();
    first_is_led.abort();
    assert!(second_is_led.await.is_err());
    assert_eq!(third.handle.open_before().await, Some(vec![]), "it has ended");
}

#[tokio::test]
async fn what_was_drained_before_the_upgrade_is_waited_for_after_it() {
    let first = rig(shop_spec()).await;
    let old = first.backend(1);
    old.begin(0);
    first.apply(drain("blue", Some(1))).await.unwrap();
    let second = heir(first.handle.hand_over(true).await.unwrap(), shop_spec()).await;
    let _led = lead(&second, &first).await;
    let elsewhere = async |receipt: &Receipt| {
        second.handle.open_before().await.map(|open| receipt.open_elsewhere(&open))
    };
    let again = second.apply(drain("blue", Some(1))).await.unwrap();
    assert_eq!(elsewhere(&again).await, Some(1));
    let other = second.apply(drain("blue", Some(2))).await.unwrap();
    assert_eq!(elsewhere(&other).await, Some(0), "that is another one");
    let gone = second.apply(delete_backend("blue", 1)).await.unwrap();
    assert_eq!((gone.open(), elsewhere(&gone).await), (0, Some(1)));
    old.end(0, Kind::Request, Outcome::Finished);
    assert_eq!([elsewhere(&again).await, elsewhere(&gone).await], [Some(0); 2]);
}

#[tokio::test]
async fn history_without_a_directory_goes_on() {
    let old = rig(shop_spec()).await;
    old.apply(to_green()).await.unwrap();
    let estate = old.handle.hand_over(true).await.unwrap();
    let history = old.handle.history().image().await.unwrap();
    let inheritance = Inheritance { estate: Some(estate.clone()), ..Inheritance::default() };
    let started = start_from(shop_spec(), 2, file(), FORMAT, inheritance).await;
    let Started { live, handle, task } = started.unwrap();
    handle.take_over(estate, Some(Arc::new(shop_spec())), history).await.unwrap();
    let new = Rig { live, handle, task };
    new.apply(Command::Undo { service: None, to_revision: None }).await.unwrap();
    assert_eq!(new.handle.view().spec.services["shop"], shop());
    let page = Page { before: None, limit: 9, service: None };
    let revisions = new.handle.history().revisions(page).await.unwrap();
    assert_eq!(revisions.iter().map(|it| it.number).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn who_does_not_follow_is_not_waited_for_again() {
    let rig = rig(shop_spec()).await;
    drop(rig.handle.lead().await.unwrap());
    rig.apply(to_green()).await.unwrap();
    let mut stuck = rig.handle.lead().await.unwrap();
    let back = Command::Cutover { service: name("shop"), to: name("blue") };
    rig.apply(back.clone()).await.unwrap();
    rig.apply(to_green()).await.unwrap();
    assert_eq!(rig.handle.view().revision, 4);
    assert_eq!(rig.handle.open_before().await, None, "nobody knows what is in flight there");

    // When it wakes it hears of the last change, and is asked behind that.
    let Some(Word::Changed(2, estate)) = stuck.next().await else { panic!("two changes") };
    assert_eq!(estate.revision, 4);
    assert!(matches!(stuck.next().await, Some(Word::Open(_))));
    stuck.has_followed(2);
    let follows = tokio::spawn(async move {
        let Some(Word::Changed(change, _)) = stuck.next().await else { panic!("a change") };
        stuck.has_followed(change);
    });
    rig.apply(back).await.unwrap();
    follows.await.unwrap();
}

#[tokio::test]
async fn what_has_changed_since_is_taken_over_as_it_is() {
    let old = rig(shop_spec()).await;
    let new = heir(old.handle.hand_over(false).await.unwrap(), shop_spec()).await;
    old.apply(to_green()).await.unwrap();
    let mut estate = old.handle.hand_over(true).await.unwrap();
    let until = Timestamp::now() + SignedDuration::from_secs(60);
    let (service, author) = (name("shop"), name("ci"));
    estate.holds.push(Held { service, until, author, cause: None });
    new.handle.take_over(estate.clone(), Some(Arc::new(shop_spec())), None).await.unwrap();
    let view = new.handle.view();
    assert_eq!((view.revision, &view.spec), (2, &estate.spec));
    assert_eq!(view.holds.len(), 1);

    // Without a file to merge: the old one has loaded another than this process has read.
    let threads = std::num::NonZeroUsize::new(2);
    let began = heir(estate.clone(), Spec { threads, ..shop_spec() }).await;
    assert_eq!(began.handle.view().revision, 3);
    began.handle.take_over(estate.clone(), None, None).await.unwrap();
    let view = began.handle.view();
    assert_eq!((view.revision, view.spec.threads), (3, threads), "it has as many as it has");

    let mut broken = Spec::clone(&estate.spec);
    broken.routes[0] = route("shop", "nobody");
    let refused = new.handle.take_over(estate, Some(Arc::new(broken)), None).await;
    assert!(matches!(refused, Err(ChangeError::Invalid(_))), "{refused:?}");
    assert_eq!(new.handle.view().revision, 2);
    assert!(new.handle.is_alive().await);
    new.task.abort();
}
