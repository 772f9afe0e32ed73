use super::*;
use crate::config::{load, tests::a_certificate};
use std::{fs, os::unix::fs::symlink};
use tempfile::TempDir;
use tokio::time::timeout;

/// So rare that a test which passes was told by the file system.
const NEVER: Duration = Duration::from_secs(3600);
/// Until a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(20);

fn text(threads: u32) -> String {
    format!(
        "threads: {threads}\nlisteners: [{{ address: 127.0.0.1:1 }}]\n\
         services: {{ s: {{ pools: {{ p: {{ backends: [a:1] }} }} }} }}\n"
    )
}

struct Watched {
    directory: TempDir,
    reloader: Reloader,
    stream: mpsc::Receiver<Loaded>,
}

impl Watched {
    /// Watches `c.yaml` in a directory that `prepare` has filled.
    async fn new(poll: Duration, places: Places, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let (reloader, stream) = spawn(&load(&directory.path().join("c.yaml")), poll, places);
        // It answers after its first look, which begins the watching.
        timeout(PATIENCE, reloader.reload()).await.expect("an answer");
        Self { directory, reloader, stream }
    }

    async fn next(&mut self) -> Loaded {
        let next = timeout(PATIENCE, self.stream.recv()).await;
        next.expect("a change is noticed").expect("the task lives")
    }

    async fn next_threads(&mut self) -> usize {
        threads(&self.next().await)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As editors do.
    fn replace(&self, text: &str) {
        fs::write(self.path("c.yaml.new"), text).unwrap();
        fs::rename(self.path("c.yaml.new"), self.path("c.yaml")).unwrap();
    }
}

fn threads(loaded: &Loaded) -> usize {
    loaded.outcome.spec.as_ref().expect("a good file").threads.unwrap().get()
}

fn plain(directory: &Path) {
    fs::write(directory.join("c.yaml"), text(1)).unwrap();
}

#[tokio::test]
async fn a_file_that_is_replaced() {
    let mut watched = Watched::new(NEVER, Places::new(), plain).await;
    for n in 2..5 {
        watched.replace(&text(n));
        assert_eq!(watched.next_threads().await, n as usize);
    }
}

#[tokio::test]
async fn a_file_that_is_written_in_place() {
    let mut watched = Watched::new(NEVER, Places::new(), plain).await;
    for n in 2..5 {
        fs::write(watched.path("c.yaml"), text(n)).unwrap();
        assert_eq!(watched.next_threads().await, n as usize);
    }
}

/// The link in the mounted directory leads through `..data`, which is swapped for another directory; the
/// one before is removed.
#[tokio::test]
async fn a_link_that_is_swapped_as_kubernetes_does() {
    let mut watched = Watched::new(NEVER, Places::new(), |directory| {
        fs::create_dir(directory.join("..1")).unwrap();
        fs::write(directory.join("..1/c.yaml"), text(1)).unwrap();
        symlink("..1", directory.join("..data")).unwrap();
        symlink("..data/c.yaml", directory.join("c.yaml")).unwrap();
    })
    .await;
    for n in 2..5 {
        let version = watched.path(&format!("..{n}"));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("c.yaml"), text(n)).unwrap();
        symlink(format!("..{n}"), watched.path("..data_tmp")).unwrap();
        fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
        assert_eq!(watched.next_threads().await, n as usize);
        fs::remove_dir_all(watched.path(&format!("..{}", n - 1))).unwrap();
    }
}

#[tokio::test]
async fn a_link_into_another_directory() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = |n: u32| elsewhere.path().join(format!("{n}/c.yaml"));
    for n in [1, 2] {
        fs::create_dir(elsewhere.path().join(n.to_string())).unwrap();
        fs::write(target(n), text(n)).unwrap();
    }
    let mut watched = Watched::new(NEVER, Places::new(), |directory| {
        symlink(target(1), directory.join("c.yaml")).unwrap();
    })
    .await;
    fs::write(target(1), text(11)).unwrap();
    assert_eq!(watched.next_threads().await, 11);
    symlink(target(2), watched.path("new")).unwrap();
    fs::rename(watched.path("new"), watched.path("c.yaml")).unwrap();
    assert_eq!(watched.next_threads().await, 2);
    fs::write(target(2), text(22)).unwrap();
    assert_eq!(watched.next_threads().await, 22);
}

fn with_tls(directory: &Path) {
    plain(directory);
    let (cert, key) = a_certificate("a.example");
    fs::create_dir(directory.join("tls")).unwrap();
    fs::write(directory.join("tls/a.crt"), cert).unwrap();
    fs::write(directory.join("tls/a.key"), key).unwrap();
    let tls = "address: 127.0.0.1:1, tls: { certificates: [{ cert: tls/a.crt, key: tls/a.key }] }";
    let text = text(1).replace("address: 127.0.0.1:1", tls);
    fs::write(directory.join("c.yaml"), text).unwrap();
}

fn names(loaded: &Loaded) -> String {
    let spec = loaded.outcome.spec.as_ref().expect("a good file");
    spec.listeners[0].tls.as_ref().unwrap().certificates[0].pair.names.to_string()
}

/// Told by the file system, and by looking alone.
#[tokio::test]
async fn a_certificate_that_is_renewed() {
    for (poll, watcher) in [(NEVER, true), (OFTEN, false)] {
        let mut places = Places::new();
        if !watcher {
            places.watcher = None;
        }
        let mut watched = Watched::new(poll, places, with_tls).await;
        for name in ["b.example", "c.example"] {
            let (cert, key) = a_certificate(name);
            fs::write(watched.path("tls/a.key"), key).unwrap();
            fs::write(watched.path("tls/a.crt"), cert).unwrap();
            assert_eq!(names(&watched.next().await), name);
        }
        // A pair of which one half is missing yet is told as wrong, once.
        let (cert, key) = a_certificate("d.example");
        fs::write(watched.path("tls/a.crt"), cert).unwrap();
        let half = watched.next().await;
        assert!(half.outcome.spec.is_none());
        assert!(half.outcome.errors[0].message.contains("is not the certificate's"));
        fs::write(watched.path("tls/a.key"), key).unwrap();
        assert_eq!(names(&watched.next().await), "d.example");
    }
}

#[tokio::test]
async fn without_events_the_content_is_compared() {
    let places = Places { watcher: None, ..Places::new() };
    let mut watched = Watched::new(OFTEN, places, plain).await;
    watched.replace(&text(2));
    assert_eq!(watched.next_threads().await, 2);
    // The same text again is no change: the next one that is told is the next text.
    watched.replace(&text(2));
    watched.replace(&text(3));
    assert_eq!(watched.next_threads().await, 3);
}

#[tokio::test]
async fn bad_and_missing_files_are_told_once() {
    let mut watched = Watched::new(OFTEN, Places::new(), plain).await;
    watched.replace("threads: none\n");
    assert_eq!(watched.next().await.outcome.errors.len(), 3);
    fs::remove_file(watched.path("c.yaml")).unwrap();
    let gone = watched.next().await;
    assert_eq!(gone.text_hash, None);
    assert!(gone.outcome.errors[0].message.starts_with("the file cannot be read"));
    watched.replace(&text(2));
    assert_eq!(watched.next_threads().await, 2);
}

#[tokio::test]
async fn a_change_before_the_watching_began_is_told() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let loaded = load(&directory.path().join("c.yaml"));
    fs::write(directory.path().join("c.yaml"), text(2)).unwrap();
    let (_reloader, mut stream) = watch(&loaded, NEVER);
    assert_eq!(threads(&stream.recv().await.unwrap()), 2);
}

#[tokio::test]
async fn what_was_asked_for_is_told_to_one_side_only() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let (stream, _receiver) = mpsc::channel(1);
    let file = directory.path().join("c.yaml").into();
    let mut task =
        Task { file, seen: Seen { text: None, files: Vec::new() }, places: Places::new(), stream };

    let (answer, waits) = oneshot::channel();
    drop(waits);
    let unwanted = task.answer(answer).await.expect("it goes into the stream");
    assert_eq!(threads(&unwanted), 1);

    let (answer, waits) = oneshot::channel();
    assert!(task.answer(answer).await.is_none());
    assert_eq!(threads(&waits.await.unwrap()), 1);
    assert!(task.look().await.is_none(), "it is known");
}

#[tokio::test]
async fn who_asks_during_a_look_gets_the_change_instead_of_the_stream() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let (stream, _receiver) = mpsc::channel(1);
    let file = directory.path().join("c.yaml").into();
    let mut task =
        Task { file, seen: Seen { text: None, files: Vec::new() }, places: Places::new(), stream };

    let (requests, mut asked) = mpsc::channel(1);
    let (answer, waits) = oneshot::channel();
    // The look is begun first, and cannot end before the file has settled.
    let (news, ()) = tokio::join!(task.look_or_answer(&mut asked), async {
        requests.send(answer).await.unwrap();
    });
    assert!(news.is_none(), "told twice");
    assert_eq!(threads(&waits.await.unwrap()), 1);
}

#[tokio::test]
async fn the_task_ends_with_its_stream() {
    let Watched { directory: _directory, reloader, stream } =
        Watched::new(NEVER, Places::new(), plain).await;
    drop(stream);
    timeout(PATIENCE, reloader.requests.closed()).await.expect("it ends");
    assert_eq!(threads(&reloader.reload().await), 1);
}
