//! The state's file: opened by one process at a time, and only if it is whole.

use super::{
    Content, Format, Found, Kept, Page, Question, Revision, RolloutPage, Step, StoreError, once,
    rollouts, rows, schema, undo,
};
use crate::rollout::Rollout;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};
use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

const FILE: &str = "state.sqlite3";

/// What all revisions may take.
const MOST_ON_DISK: u64 = 256 << 20;
const MOST_IN_MEMORY: u64 = 64 << 20;

pub(super) struct Database {
    connection: Connection,
    format: Format,
    most_bytes: u64,
    /// The last write failed, and it is not known how much of it is on the disk.
    unsure: bool,
}

impl Database {
    /// `image`: what a database in memory begins with.
    ///
    /// # Errors
    /// When it cannot be used; says what would help.
    pub(super) fn open(
        directory: Option<&Path>,
        image: Option<&[u8]>,
        format: Format,
    ) -> Result<(Self, Option<Kept>), StoreError> {
        let (mut connection, most_bytes) = match directory {
            Some(directory) => (connect(directory)?, MOST_ON_DISK),
            None => (Connection::open_in_memory()?, MOST_IN_MEMORY),
        };
        if let (None, Some(image)) = (directory, image) {
            connection.deserialize_read_exact(MAIN_DB, image, image.len(), false)?;
        }
        let told = |foreign| match directory {
            Some(directory) => StoreError::Failed(explain(directory, foreign)),
            None => StoreError::Failed("the tables in memory cannot be made".into()),
        };
        schema::bring_up_to_date(&mut connection).map_err(told)?;
        let database = Self { connection, format, most_bytes, unsure: false };
        let kept = rows::kept(&database.connection, format).map_err(|error| match directory {
            Some(directory) => StoreError::Failed(format!(
                "{error}; this is not a state that this crossfade can read: run the one that wrote it, or {}",
                begin_anew(directory)
            )),
            None => error,
        })?;
        Ok((database, kept))
    }

    /// All of it, for [`Database::open`].
    pub(super) fn image(&mut self) -> Result<Vec<u8>, StoreError> {
        Ok(self.connection.serialize(MAIN_DB)?.to_vec())
    }

    /// # Errors
    /// When it is not kept: all of it or nothing.
    pub(super) fn keep(&mut self, step: Step) -> Result<(), StoreError> {
        let texts = rows::Texts::of(&step, self.format)?;
        if self.unsure {
            self.tidy();
            self.connection.pragma_update(None, "synchronous", "FULL")?;
        }
        let kept = self.write(&step, &texts);
        if kept.is_err() {
            self.unsure = true;
            self.tidy();
        }
        Ok(kept?)
    }

    fn write(&mut self, step: &Step, texts: &rows::Texts) -> rusqlite::Result<()> {
        let work = Transaction::new(&mut self.connection, TransactionBehavior::Immediate)?;
        rows::insert(&work, step, texts)?;
        if let Some(entry) = &step.entry {
            rows::forget_old(&work, entry.most, self.most_bytes)?;
        }
        if let Some(entry) = &step.once {
            once::insert(&work, entry)?;
        }
        work.commit()
    }

    /// Whether there is something to [tidy](Self::tidy).
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// What a failed write has left in the log is not in force, and no start may find it there. Where only its sync
    /// has failed it is all there: something else is written in its place, for which no sync is needed. Then all
    /// that is good is moved out of the log, which ends it for good.
    pub(super) fn tidy(&mut self) {
        let connection = &self.connection;
        let write_over = || {
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "user_version", schema::current())
        };
        let written_over = write_over();
        let synced_again = connection.pragma_update(None, "synchronous", "FULL");
        let moved = written_over
            .and(synced_again)
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        self.unsure = moved.is_err();
        if let Err(error) = moved {
            tracing::warn!(%error, "the state's log cannot be cleaned after a failed write");
        }
    }

    pub(super) fn find(&self, question: &Question) -> Result<Found, StoreError> {
        let known = match &question.once {
            Some((author, it)) => once::known(&self.connection, author, it, question.now)?,
            None => None,
        };
        let target = match &question.undo {
            Some((service, to)) if known.is_none() => {
                Some(undo::target(&self.connection, service.as_ref(), *to, self.format)?)
            }
            _ => None,
        };
        Ok(Found { known, target })
    }

    #[cfg(test)]
    pub(super) fn run(&self, statement: &str) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch(statement)?)
    }

    pub(super) fn remember(&self, author: &str, key: &str, answer: &str) -> Result<(), StoreError> {
        Ok(once::remember(&self.connection, author, key, answer)?)
    }

    pub(super) fn revisions(&self, page: &Page) -> Result<Vec<Revision>, StoreError> {
        rows::revisions(&self.connection, page)
    }

    pub(super) fn rollouts(&self, page: &RolloutPage) -> Result<Vec<Rollout>, StoreError> {
        rollouts::page(&self.connection, page)
    }

    pub(super) fn rollout(&self, id: &str) -> Result<Option<Rollout>, StoreError> {
        rollouts::one(&self.connection, id)
    }

    pub(super) fn revision(&self, number: u64) -> Result<(Revision, Content), StoreError> {
        match rows::revision(&self.connection, number, self.format)? {
            Some(found) => Ok(found),
            None => Err(StoreError::NoRevision(undo::not_kept(&self.connection, number)?)),
        }
    }
}

/// Opens the file, alone.
fn connect(directory: &Path) -> Result<Connection, StoreError> {
    let file = directory.join(FILE);
    make(directory, &file).map_err(|error| {
        let why = format!("{} cannot be used: {error}", directory.display());
        StoreError::Failed(format!(
            "{why}; let crossfade's user write there, or name another folder"
        ))
    })?;
    let opened = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&file, flags)?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        // Before the log is used: then there is no memory that processes share, and no second process.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // What is committed is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound == "ok" {
            // What is in the log alone could be lost with it, or cut short unnoticed.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            return Ok(connection);
        }
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Err(rusqlite::Error::SqliteFailure(code, Some(sound)))
    };
    opened().map_err(|error| StoreError::Failed(explain(directory, schema::Foreign::Broken(error))))
}

/// Makes what is missing, for this user alone.
fn make(directory: &Path, file: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)?;
    let mode = opened.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        opened.set_permissions(Permissions::from_mode(mode & 0o700))?;
    }
    // The name is on the disk too.
    std::fs::File::open(directory)?.sync_all()
}

fn explain(directory: &Path, foreign: schema::Foreign) -> String {
    let file: PathBuf = directory.join(FILE);
    let file = file.display();
    match foreign {
        schema::Foreign::NotOurs => {
            format!("{file} is not a state of crossfade's: name another folder for it")
        }
        schema::Foreign::Later(format) => format!(
            "{file} was written by a later version of crossfade (format {format}, this one knows up to {}): \
             run that version, or {}",
            schema::current(),
            begin_anew(directory)
        ),
        schema::Foreign::Broken(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
                "{file} is in use: another crossfade keeps its state there; end it first, or give each a \
                 `state.directory` of its own"
            ),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => format!(
                "{file} is damaged ({error}): restore it from a backup, or {}",
                begin_anew(directory)
            ),
            _ => format!("{file} cannot be used: {error}"),
        },
    }
}

/// Never done unasked.
fn begin_anew(directory: &Path) -> String {
    format!(
        "move the folder away to begin anew with the configuration file, without what the API has changed and \
         without history: mv {0} {0}.old",
        directory.display()
    )
}
