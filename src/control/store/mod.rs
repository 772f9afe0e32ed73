//! What is kept of changes: every revision, and the file as last loaded. A thread of its own writes it down, so
//! that a slow disk holds up nobody but who makes a change.
//!
//! - `revision`: what is kept, as others see it
//! - `failure`: why something is not kept
//! - `undo`, `once`: what an undo goes back to, and what must not be made twice
//! - `rollouts`: the rollouts beside them
//! - `database` (with `schema`, `rows`): the tables, in a directory or in memory

mod database;
mod failure;
mod once;
mod revision;
mod rollouts;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod undo;

pub use failure::StoreError;
pub use revision::{Content, Page, Revision};
pub(super) use revision::{Entry, Found, Kept, OnceEntry, Question, Step, Target};
pub use rollouts::RolloutPage;

use crate::{
    rollout::Rollout,
    spec::{Name, Spec},
};
use database::Database;
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// How specs are written down. Not this room's business: in the keys of the file.
#[derive(Clone, Copy)]
pub struct Format {
    /// The text from which `read` makes an equal spec, or why there is none. Of what is the same in the second one,
    /// which was written before, that is known.
    pub write: fn(&Spec, Option<&Spec>) -> Result<String, Vec<String>>,
    /// A text of this or an earlier version; else every reason.
    pub read: fn(&str) -> Result<Spec, Vec<String>>,
    /// What differs between two specs, as JSON.
    pub changes: fn(&Spec, &Spec) -> String,
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Format")
    }
}

/// Before the next try to clean up after a failed write.
const TIDY: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Option<Database>) + Send>;

/// Where what is kept is asked for. Its thread ends when every clone has gone.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    place: Place,
}

#[derive(Clone)]
struct Place {
    /// `None`: in memory.
    directory: Option<Arc<PathBuf>>,
    format: Format,
}

impl Place {
    fn open(&self, image: Option<&[u8]>) -> Result<(Database, Option<Kept>), StoreError> {
        Database::open(self.directory.as_ref().map(|path| path.as_path()), image, self.format)
    }
}

impl Store {
    /// Opens the state in `directory`, which is made if it is missing; without one it begins empty, in memory.
    /// Returns what was in force when it was last written to.
    ///
    /// # Errors
    /// When it cannot be used; says what would help. Nothing is changed then.
    pub(super) async fn open(
        directory: Option<PathBuf>,
        format: Format,
    ) -> Result<(Self, Option<Kept>), StoreError> {
        let store = Self::unopened(directory, format)?;
        let kept = store.reopen(None).await?;
        Ok((store, kept))
    }

    /// To be [reopened](Self::reopen) when another process has let go of it.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(super) fn unopened(directory: Option<PathBuf>, format: Format) -> Result<Self, StoreError> {
        let place = Place { directory: directory.map(Arc::new), format };
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("state".into())
            .spawn(move || work(&queue))
            .map_err(|error| StoreError::Failed(format!("its thread cannot start: {error}")))?;
        Ok(Self { jobs, place })
    }

    /// Opens it again after [`close`](Self::close), as [`open`](Self::open) did; without a directory it begins with the
    /// [`image`](Self::image) that another process has made.
    ///
    /// # Errors
    /// As `open`.
    pub(super) async fn reopen(&self, image: Option<Vec<u8>>) -> Result<Option<Kept>, StoreError> {
        let place = self.place.clone();
        self.ask(move |database| {
            let opened = place.open(image.as_deref()).or_else(|error| {
                if place.directory.is_some() || image.is_none() {
                    return Err(error);
                }
                // That of a later version, say. To refuse would not help: a restart forgets it too.
                tracing::warn!(%error, "the history in memory cannot be taken over and begins anew");
                place.open(None)
            });
            let (opened, kept) = opened?;
            *database = Some(opened);
            Ok(kept)
        })
        .await
    }

    /// Lets go of the directory, so that another process can open it. What is in memory stays there.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        if self.place.directory.is_none() {
            return Ok(());
        }
        self.ask(|database| {
            *database = None;
            Ok(())
        })
        .await
    }

    /// What is kept in memory alone, for another process; `None` where it is in a directory.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn image(&self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.place.directory.is_some() {
            return Ok(None);
        }
        self.ask(|database| open(database)?.image().map(Some)).await
    }

    /// `None`: in memory.
    pub(super) fn directory(&self) -> Option<Arc<PathBuf>> {
        self.place.directory.clone()
    }

    /// Keeps a step. It is there after a crash once this has returned.
    ///
    /// # Errors
    /// When it is not kept.
    pub(super) fn keep(&self, step: Step) -> oneshot::Receiver<Result<(), StoreError>> {
        self.send(move |database| open(database)?.keep(step))
    }

    /// What must be known before a change is made.
    pub(super) fn find(&self, question: Question) -> oneshot::Receiver<Result<Found, StoreError>> {
        self.send(move |database| open(database)?.find(&question))
    }

    /// Keeps what the change with this key was answered, for who asks again. Whoever asks after this call is
    /// told it; there is no need to wait until it is on the disk.
    pub fn remember(&self, author: Name, key: String, answer: String) {
        drop(self.send(move |database| {
            let remembered = open(database)?.remember(&author, &key, &answer);
            // The change stands; who asks again is told so, with fewer words.
            remembered.inspect_err(|error| tracing::warn!(%error, "an answer is not kept"))
        }));
    }

    /// Revisions, the newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn revisions(&self, page: Page) -> Result<Vec<Revision>, StoreError> {
        self.ask(move |database| open(database)?.revisions(&page)).await
    }

    /// A revision and what it put in force.
    ///
    /// # Errors
    /// When it is not kept, or cannot be read.
    pub async fn revision(&self, number: u64) -> Result<(Revision, Content), StoreError> {
        self.ask(move |database| open(database)?.revision(number)).await
    }

    /// Rollouts, the newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn rollouts(&self, page: RolloutPage) -> Result<Vec<Rollout>, StoreError> {
        self.ask(move |database| open(database)?.rollouts(&page)).await
    }

    /// The rollout of this name; `None`: it is not kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn rollout(&self, id: Name) -> Result<Option<Rollout>, StoreError> {
        self.ask(move |database| open(database)?.rollout(&id)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Option<Database>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.send(work).await.unwrap_or(Err(StoreError::Closed))
    }

    fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Option<Database>) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        // When the thread has ended, the answer is dropped with the job, and who waits for it sees that.
        let _ = self.jobs.send(Box::new(move |database| {
            // Who has left does not want to know.
            let _ = answer.send(work(database));
        }));
        answered
    }
}

/// One job after the other, until nobody is left to ask for any.
fn work(queue: &mpsc::Receiver<Job>) {
    let mut database: Option<Database> = None;
    loop {
        let job = match &mut database {
            Some(database) if database.is_unsure() => match queue.recv_timeout(TIDY) {
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    database.tidy();
                    continue;
                }
                other => other.ok(),
            },
            _ => queue.recv().ok(),
        };
        let Some(job) = job else { return };
        job(&mut database);
    }
}

fn open(database: &mut Option<Database>) -> Result<&mut Database, StoreError> {
    database.as_mut().ok_or(StoreError::Closed)
}
