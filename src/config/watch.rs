//! A stream of what a file says, whenever that or a file that it names (a certificate, a key) changes.
//!
//! Editors replace files, Kubernetes swaps a symbolic link above them, bind mounts show changes without
//! any event: so each directory on the way to the file is watched for the names on that way, and the
//! content is compared now and then regardless.

#[cfg(test)]
mod tests;

use super::{
    NamedFile,
    load::{Content, Loaded, hash, interpret, read, way_to},
};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

/// How long a file must stay the same until it counts as written.
const SETTLED: Duration = Duration::from_millis(200);

/// A file that is written all the time is taken as it is after this many looks.
const MOST_LOOKS: usize = 25;

/// Reads the file when asked to.
#[derive(Clone)]
pub struct Reloader {
    file: Arc<Path>,
    requests: mpsc::Sender<oneshot::Sender<Loaded>>,
}

impl Reloader {
    /// Reads the file now, changed or not. What the caller gets does not come out of the stream too: the
    /// caller applies it, in a task of its own where the caller might be cancelled.
    pub async fn reload(&self) -> Loaded {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(answer).await.is_ok()
            && let Ok(loaded) = answered.await
        {
            return loaded;
        }
        // The watching has ended, but the question can still be answered.
        interpret(&self.file, read_off_thread(&self.file).await)
    }
}

/// Watches the file of `loaded` and those that it names. The stream has what differs from it, good or bad, one at a time; the
/// watching ends when the stream is dropped. The content is compared each `poll`, which must be above
/// zero, and when the file system says that something happened. Needs a tokio runtime.
pub fn watch(loaded: &Loaded, poll: Duration) -> (Reloader, mpsc::Receiver<Loaded>) {
    spawn(loaded, poll, Places::new())
}

fn spawn(loaded: &Loaded, poll: Duration, places: Places) -> (Reloader, mpsc::Receiver<Loaded>) {
    let (stream, receiver) = mpsc::channel(1);
    let (requests, asked) = mpsc::channel(1);
    let file = Arc::clone(&loaded.file);
    let task = Task { file: Arc::clone(&file), seen: Seen::of(loaded), places, stream };
    tokio::spawn(task.run(asked, poll));
    (Reloader { file, requests }, receiver)
}

struct Task {
    file: Arc<Path>,
    /// What was handed out last.
    seen: Seen,
    places: Places,
    stream: mpsc::Sender<Loaded>,
}

/// By which it is known whether something has changed.
#[derive(Clone, PartialEq)]
struct Seen {
    text: Option<u64>,
    files: Vec<NamedFile>,
}

impl Seen {
    fn of(loaded: &Loaded) -> Self {
        Self { text: loaded.text_hash, files: loaded.outcome.files.clone() }
    }
}

impl Task {
    async fn run(mut self, mut asked: mpsc::Receiver<oneshot::Sender<Loaded>>, poll: Duration) {
        let mut ticks = interval_at(Instant::now() + poll, poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let happened = Arc::clone(&self.places.happened);
        // At once: the file may have changed since it was loaded.
        let mut news = self.look().await;
        loop {
            if let Some(loaded) = news {
                self.seen = Seen::of(&loaded);
                self.follow().await;
                if self.stream.send(loaded).await.is_err() {
                    return;
                }
            }
            news = tokio::select! {
                () = self.stream.closed() => return,
                Some(answer) = asked.recv() => self.answer(answer).await,
                () = happened.notified() => self.look_or_answer(&mut asked).await,
                _ = ticks.tick() => self.look_or_answer(&mut asked).await,
            };
        }
    }

    /// Looks; whoever asks meanwhile gets the file as it is now. Who changes the file and asks at once would
    /// otherwise wait until it has settled, and hear that nothing changed, since the stream had it first.
    async fn look_or_answer(
        &mut self,
        asked: &mut mpsc::Receiver<oneshot::Sender<Loaded>>,
    ) -> Option<Loaded> {
        loop {
            let answer = tokio::select! {
                Some(answer) = asked.recv() => answer,
                news = self.look() => return news,
            };
            let unwanted = self.answer(answer).await;
            if unwanted.is_some() {
                return unwanted;
            }
        }
    }

    /// Gives the file to who asked. If they have gone, it belongs into the stream.
    async fn answer(&mut self, answer: oneshot::Sender<Loaded>) -> Option<Loaded> {
        let loaded = interpret_off_thread(&self.file, read_off_thread(&self.file).await).await;
        let seen = Seen::of(&loaded);
        let unwanted = answer.send(loaded).err();
        if unwanted.is_none() {
            self.seen = seen;
        }
        unwanted
    }

    /// What the file says, if that is new and no longer being written.
    async fn look(&mut self) -> Option<Loaded> {
        self.follow().await;
        let (mut content, mut seen) = self.read_all().await;
        for _ in 0..MOST_LOOKS {
            if seen == self.seen {
                return None;
            }
            sleep(SETTLED).await;
            let later = self.read_all().await;
            let is_settled = later.1 == seen;
            (content, seen) = later;
            if is_settled {
                break;
            }
        }
        Some(interpret_off_thread(&self.file, content).await)
    }

    /// Has itself told of changes of the file and those that it names.
    async fn follow(&mut self) {
        let named = self.seen.files.iter().map(|file| file.path.clone());
        let files = [self.file.to_path_buf()].into_iter().chain(named).collect();
        self.places.follow(files).await;
    }

    /// The file's content, and what is to be seen of it and of the files that it named when it was last read.
    async fn read_all(&self) -> (Content, Seen) {
        let (file, named) = (Arc::clone(&self.file), self.seen.files.clone());
        let read_all = spawn_blocking(move || {
            let content = read(&file);
            let look = |file: NamedFile| NamedFile { hash: hash(&read(&file.path)), ..file };
            let files = named.into_iter().map(look).collect();
            let seen = Seen { text: hash(&content), files };
            (content, seen)
        });
        read_all.await.unwrap_or_else(|error| (Err(error.to_string()), self.seen.clone()))
    }
}

async fn read_off_thread(file: &Arc<Path>) -> Content {
    let file = Arc::clone(file);
    let read = spawn_blocking(move || read(&file)).await;
    read.unwrap_or_else(|error| Err(error.to_string()))
}

/// Parsing a large file takes longer than a task of the runtime should.
async fn interpret_off_thread(file: &Arc<Path>, content: Content) -> Loaded {
    let owned = Arc::clone(file);
    match spawn_blocking(move || interpret(&owned, content)).await {
        Ok(loaded) => loaded,
        Err(error) => interpret(file, Err(error.to_string())),
    }
}

/// Where the file system is asked to tell of changes.
struct Places {
    /// `None`: the system has no more watches to give, and only the comparing is left.
    watcher: Option<RecommendedWatcher>,
    directories: HashSet<PathBuf>,
    /// The paths whose changes count; others in these directories do not.
    names: Arc<Mutex<HashSet<PathBuf>>>,
    happened: Arc<Notify>,
}

impl Places {
    fn new() -> Self {
        let names = Arc::new(Mutex::new(HashSet::<PathBuf>::new()));
        let happened = Arc::new(Notify::new());
        let (known, wake) = (Arc::clone(&names), Arc::clone(&happened));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let counts = event.map_or(true, |event| {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                event.need_rescan()
                    || is_change(event.kind) && event.paths.iter().any(|path| known.contains(path))
            });
            if counts {
                wake.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "changes of the configuration file are found by polling only");
            })
            .ok();
        Self { watcher, directories: HashSet::new(), names, happened }
    }

    /// Watches the ways that lead to `files` now.
    async fn follow(&mut self, files: Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let ways = move || files.iter().flat_map(|file| way_to(file)).collect::<Vec<_>>();
        let Ok(way) = spawn_blocking(ways).await else { return };
        let parents = way.iter().filter_map(|path| path.parent());
        let directories: HashSet<PathBuf> = parents.map(Path::to_owned).collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = way.into_iter().collect();
        for left in self.directories.difference(&directories) {
            // It fails where the directory is gone, and its watch with it.
            let _ = watcher.unwatch(left);
        }
        // Also those that were watched before: another directory may have taken the name.
        for directory in &directories {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, directory = %directory.display(), "not watched");
            }
        }
        self.directories = directories;
    }
}

/// Looking at a file is no change: this room does it all the time.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
