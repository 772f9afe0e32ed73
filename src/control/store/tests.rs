use super::{
    super::{Once, Source, testing::*},
    *,
};
use crate::{
    routing::Salts,
    spec::{Name, Spec},
};
use jiff::Timestamp;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

/// The service `shop` with this weight of blue.
fn shop_with(blue: u64) -> Arc<Spec> {
    let mut shop = shop();
    shop.pools["blue"].weight = weight(blue);
    Arc::new(spec(&[("shop", shop), ("other", super::super::testing::shop())]))
}

fn entry(number: u64, before: Option<Arc<Spec>>, after: Arc<Spec>) -> Entry {
    Entry {
        rollout: None,
        number,
        at: Timestamp::from_second(1_000_000 + number as i64).unwrap(),
        author: name("ci"),
        source: Source::Api,
        cause: Some(format!("for {number}")),
        before,
        after,
        salts: [(name("shop"), Name::from(format!("salt-{number}")))]
            .into_iter()
            .collect::<Salts>(),
        most: 1000,
    }
}

fn only(entry: Entry) -> Step {
    Step { entry: Some(entry), ..Step::default() }
}

async fn keep(store: &Store, step: Step) {
    store.keep(step).await.unwrap().unwrap();
}

async fn numbers(store: &Store, page: Page) -> Vec<u64> {
    store.revisions(page).await.unwrap().into_iter().map(|it| it.number).collect()
}

const ALL: Page = Page { before: None, limit: 1000, service: None };

async fn opened(directory: &Path) -> Result<(Store, Option<Kept>), StoreError> {
    Store::open(Some(directory.to_owned()), FORMAT).await
}

async fn refused(directory: &Path) -> String {
    opened(directory).await.err().expect("it is not to be used").to_string()
}

#[tokio::test]
async fn what_was_kept_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("a/b");
    let (one, two) = (shop_with(1), shop_with(2));
    {
        let (store, kept) = opened(&directory).await.unwrap();
        assert!(kept.is_none());
        keep(
            &store,
            Step {
                entry: Some(entry(1, None, one.clone())),
                file: Some(one.clone()),
                ..Step::default()
            },
        )
        .await;
        keep(&store, only(entry(2, Some(one.clone()), two.clone()))).await;
        keep(&store, Step { entry: None, file: Some(two.clone()), ..Step::default() }).await;
        store.close().await.unwrap();
        assert_eq!(store.revisions(ALL).await, Err(StoreError::Closed));
        let again = store.reopen(None).await.unwrap().expect("what was kept");
        assert_eq!(again.revision, 2);
        store.close().await.unwrap();
    }
    let (store, kept) = opened(&directory).await.unwrap();
    let kept = kept.unwrap();
    assert_eq!((kept.revision, &kept.content.spec, kept.file.as_ref()), (2, &*two, Some(&*two)));
    assert_eq!(&**kept.content.salts.get("shop").unwrap(), "salt-2");
    let all = store.revisions(ALL).await.unwrap();
    let [newest, first] = &all[..] else { panic!("{all:?}") };
    assert_eq!((newest.number, &*newest.author, newest.source), (2, "ci", Source::Api));
    assert_eq!(newest.cause.as_deref(), Some("for 2"));
    assert_eq!(newest.at, Timestamp::from_second(1_000_002).unwrap());
    assert_eq!((&*newest.changed, &*first.changed), ("[106, 107]", "[]"));
    let (revision, content) = store.revision(1).await.unwrap();
    assert_eq!((&revision, &content.spec), (first, &*one));
    assert_eq!(&**content.salts.get("shop").unwrap(), "salt-1");
    let none = StoreError::NoRevision("revision 3 is not kept; those from 1 to 2 are".into());
    assert_eq!(store.revision(3).await, Err(none));
}

#[tokio::test]
async fn pages_of_revisions() {
    let (store, kept) = Store::open(None, FORMAT).await.unwrap();
    assert!(kept.is_none() && store.directory().is_none());
    let specs: Vec<_> = (1..=5).map(shop_with).collect();
    keep(&store, only(entry(1, None, specs[0].clone()))).await;
    for number in 2..=4 {
        let before = specs[number - 2].clone();
        keep(&store, only(entry(number as u64, Some(before), specs[number - 1].clone()))).await;
    }
    let mut without = Spec::clone(&specs[3]);
    without.services.shift_remove("other");
    keep(&store, only(entry(5, Some(specs[3].clone()), Arc::new(without)))).await;
    assert_eq!(numbers(&store, ALL).await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers(&store, Page { before: Some(4), limit: 2, service: None }).await, [3, 2]);
    let of = |service: &str| Page { service: Some(name(service)), ..ALL };
    assert_eq!(numbers(&store, of("shop")).await, [4, 3, 2]);
    assert_eq!(numbers(&store, of("other")).await, [5]);
    assert_eq!(numbers(&store, of("none")).await, [0; 0]);
    // What is in memory stays when the state is handed over.
    store.close().await.unwrap();
    assert_eq!(numbers(&store, ALL).await.len(), 5);
}

#[tokio::test]
async fn what_is_in_memory_goes_on_in_another_process() {
    let (store, _) = Store::open(None, FORMAT).await.unwrap();
    let (one, two) = (shop_with(1), shop_with(2));
    let step = Step { file: Some(one.clone()), ..only(entry(1, None, one.clone())) };
    keep(&store, step).await;
    let image = store.image().await.unwrap();
    let next = Store::unopened(None, FORMAT).unwrap();
    let kept = next.reopen(image).await.unwrap().expect("what was kept");
    assert_eq!((kept.revision, &kept.content.spec, kept.file.as_ref()), (1, &*one, Some(&*one)));
    // It grows there, and may go on to one more.
    for number in 2..=50 {
        keep(&next, only(entry(number, Some(one.clone()), two.clone()))).await;
    }
    let image = next.image().await.unwrap();
    let last = Store::unopened(None, FORMAT).unwrap();
    assert_eq!(last.reopen(image).await.unwrap().map(|kept| kept.revision), Some(50));
    assert_eq!(numbers(&store, ALL).await, [1]);

    let broken = Some(b"SQLite format 3\0 no more".to_vec());
    let anew = Store::unopened(None, FORMAT).unwrap();
    assert!(anew.reopen(broken.clone()).await.unwrap().is_none());
    keep(&anew, only(entry(1, None, one))).await;
    let directory = tempfile::tempdir().unwrap();
    let on_disk = Store::unopened(Some(directory.path().to_owned()), FORMAT).unwrap();
    assert!(on_disk.reopen(broken).await.unwrap().is_none(), "it has what is there");
    assert_eq!(on_disk.image().await, Ok(None));
}

#[tokio::test]
async fn the_oldest_are_forgotten() {
    let (store, _) = Store::open(None, FORMAT).await.unwrap();
    let spec = shop_with(1);
    for number in 1..=6 {
        let before = Some(spec.clone());
        keep(&store, only(Entry { most: 4, ..entry(number, before, spec.clone()) })).await;
    }
    assert_eq!(numbers(&store, ALL).await, [6, 5, 4, 3]);
    // As large as all together may be: only those that an undo needs are left.
    const LARGE: Format = Format { changes: |_, _| " ".repeat(40 << 20), ..FORMAT };
    let (store, _) = Store::open(None, LARGE).await.unwrap();
    for number in 1..=4 {
        keep(&store, only(entry(number, Some(spec.clone()), spec.clone()))).await;
    }
    assert_eq!(numbers(&store, ALL).await, [4, 3]);
}

#[tokio::test]
async fn a_step_is_kept_as_a_whole_or_not_at_all() {
    let (store, _) = Store::open(None, FORMAT).await.unwrap();
    let (one, two) = (shop_with(1), shop_with(2));
    keep(
        &store,
        Step {
            entry: Some(entry(1, None, one.clone())),
            file: Some(one.clone()),
            ..Step::default()
        },
    )
    .await;
    let again = Step {
        entry: Some(entry(1, None, two.clone())),
        file: Some(two.clone()),
        ..Step::default()
    };
    assert!(matches!(store.keep(again).await.unwrap(), Err(StoreError::Failed(_))));
    assert_eq!(store.revision(1).await.unwrap().1.spec, *one);
    keep(&store, only(entry(2, Some(one), two))).await;
    assert_eq!(numbers(&store, ALL).await, [2, 1]);
}

#[tokio::test]
async fn what_cannot_be_read_again_is_not_kept() {
    const DUMB: Format = Format { write: |_, _| Err(vec!["no words".into()]), ..FORMAT };
    let (store, _) = Store::open(None, DUMB).await.unwrap();
    let refused = store.keep(only(entry(1, None, shop_with(1)))).await.unwrap();
    assert_eq!(refused, Err(StoreError::Unwritable(vec!["no words".into()])));
    assert_eq!(numbers(&store, ALL).await, [0; 0]);
}

#[tokio::test]
async fn files_are_for_this_user_alone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let (store, _) = opened(&directory).await.unwrap();
    keep(&store, only(entry(1, None, shop_with(1)))).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "the tables and their log: {files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{file:?}"));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = opened(directory.path()).await.unwrap();
    keep(&store, only(entry(1, None, shop_with(1)))).await;
    let second = refused(directory.path()).await;
    assert!(second.contains("is in use: another crossfade keeps its state there"), "{second}");
    store.close().await.unwrap();
    assert!(opened(directory.path()).await.is_ok());
}

#[tokio::test]
async fn a_broken_state_is_told_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.sqlite3");
    {
        let (store, _) = opened(directory.path()).await.unwrap();
        for number in 1..=50 {
            keep(&store, only(entry(number, None, shop_with(1)))).await;
        }
        store.close().await.unwrap();
    }
    let good = fs::read(&file).unwrap();
    for (what, bytes) in [
        ("cut", good[..good.len() / 2].to_vec()),
        ("no tables", b"something else entirely".repeat(100)),
        ("one page overwritten", {
            let mut bytes = good.clone();
            bytes[4096..8192].fill(0xa5);
            bytes
        }),
    ] {
        fs::write(&file, &bytes).unwrap();
        let why = refused(directory.path()).await;
        assert!(why.contains("is damaged") && why.contains("to begin anew"), "{what}: {why}");
        assert!(fs::read(&file).unwrap() == bytes, "{what}: it was changed");
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(opened(directory.path()).await.unwrap().1.unwrap().revision, 50);
}

#[tokio::test]
async fn other_formats_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.sqlite3");
    opened(directory.path()).await.unwrap().0.close().await.unwrap();
    let set = |pragma: &str| {
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.execute_batch(pragma).unwrap();
    };
    set("PRAGMA user_version = 99");
    let why = refused(directory.path()).await;
    assert!(why.contains("a later version of crossfade (format 99"), "{why}");
    set("PRAGMA user_version = 2; PRAGMA application_id = 7");
    assert!(refused(directory.path()).await.contains("is not a state of crossfade's"));
    fs::remove_file(&file).unwrap();
    set("CREATE TABLE theirs (x)");
    assert!(refused(directory.path()).await.contains("is not a state of crossfade's"));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a-file");
    fs::write(&file, "").unwrap();
    let why = refused(&file.join("state")).await;
    assert!(why.contains("cannot be used") && why.contains("name another folder"), "{why}");
}

fn once_entry(number: u64, key: &str, at: Timestamp) -> Step {
    let once = Once { key: key.into(), fingerprint: "f".into() };
    let entry = OnceEntry { author: name("ci"), once, at, revision: number };
    Step { once: Some(entry), ..Step::default() }
}

async fn is_known(store: &Store, key: &str, now: Timestamp) -> bool {
    let once = Some((name("ci"), Once { key: key.into(), fingerprint: "f".into() }));
    let question = Question { once, undo: None, now };
    store.find(question).await.unwrap().unwrap().known.is_some()
}

#[tokio::test]
async fn keys_are_known_for_a_day_and_only_so_many() {
    let (store, _) = Store::open(None, FORMAT).await.unwrap();
    let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
    keep(&store, once_entry(1, "a", at(0))).await;
    assert!(is_known(&store, "a", at(86_399)).await);
    assert!(!is_known(&store, "a", at(86_400)).await);
    // Once its time is over, it can be used anew.
    keep(&store, once_entry(2, "a", at(86_400))).await;
    for number in 0..9_999 {
        let step = once_entry(3, &number.to_string(), at(86_400));
        drop(store.keep(step));
    }
    assert!(is_known(&store, "a", at(86_401)).await && is_known(&store, "0", at(86_401)).await);
    keep(&store, once_entry(3, "one too many", at(86_400))).await;
    assert!(!is_known(&store, "a", at(86_401)).await && is_known(&store, "0", at(86_401)).await);
}

/// Marks a revision as a step of a rollout, which nobody makes yet.
async fn mark(store: &Store, numbers: &'static str) {
    let marked = store.ask(move |database| {
        let database = open(database)?;
        let set = format!(
            "UPDATE revisions SET rollout = 'r-1', source = 'rollout' WHERE number IN ({numbers})"
        );
        database.run(&set)
    });
    marked.await.unwrap();
}

async fn target(store: &Store, service: Option<&str>) -> Result<(u32, u32, bool), StoreError> {
    let question =
        Question { once: None, undo: Some((service.map(name), None)), now: Timestamp::now() };
    let target = store.find(question).await.unwrap()?.target.unwrap();
    let weight = |service: &str| target.content.spec.services[service].pools["blue"].weight.get();
    Ok((weight("shop"), weight("other"), target.services.is_none()))
}

#[tokio::test]
async fn all_steps_of_a_rollout_are_one_change() {
    let (store, _) = Store::open(None, FORMAT).await.unwrap();
    let with = |shop: u64, other: u64| {
        let mut spec = Spec::clone(&shop_with(shop));
        spec.services["other"].pools["blue"].weight = weight(other);
        Arc::new(spec)
    };
    let specs = [with(1, 1), with(2, 1), with(3, 1), with(3, 7), with(4, 7)];
    keep(&store, only(entry(1, None, specs[0].clone()))).await;
    for number in 1..specs.len() {
        let before = Some(specs[number - 1].clone());
        keep(&store, only(entry(number as u64 + 1, before, specs[number].clone()))).await;
    }
    assert_eq!(target(&store, None).await, Ok((3, 7, true)));
    // What was before the first of them, of the services that they changed: the other's change stays.
    mark(&store, "3, 5").await;
    assert_eq!(target(&store, None).await, Ok((2, 1, false)));
    assert_eq!(target(&store, Some("shop")).await, Ok((2, 1, false)));
    assert_eq!(target(&store, Some("other")).await, Ok((3, 1, false)));
    mark(&store, "1, 2").await;
    let nothing = target(&store, None).await.unwrap_err();
    assert!(
        matches!(&nothing, StoreError::NothingBefore(why) if why.contains("revision 1")),
        "{nothing}"
    );
}
