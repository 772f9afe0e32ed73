//! The tables, and how those of earlier versions become them.

use rusqlite::{Transaction, TransactionBehavior};

/// "cros": says whose file it is.
const APPLICATION: i32 = 0x6372_6f73;

/// The steps from each format to the next. A file of format N has taken the first N of them; what is here is
/// never changed, only added to.
const STEPS: &[&str] = &[
    "CREATE TABLE revisions (
        number INTEGER PRIMARY KEY,
        bytes INTEGER NOT NULL,
        at TEXT NOT NULL,
        author TEXT NOT NULL,
        source TEXT NOT NULL,
        cause TEXT,
        rollout TEXT,
        services TEXT NOT NULL,
        salts TEXT NOT NULL,
        changed TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT;
    CREATE TABLE file (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        content TEXT NOT NULL
    ) STRICT;",
    "CREATE TABLE answers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        author TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        revision INTEGER NOT NULL,
        answer TEXT,
        UNIQUE (author, key)
    ) STRICT;
    CREATE INDEX sizes ON revisions (number, bytes);",
    "CREATE TABLE rollouts (
        id TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        started INTEGER NOT NULL,
        settled INTEGER NOT NULL,
        state TEXT NOT NULL
    ) STRICT;
    CREATE INDEX rollouts_by_service ON rollouts (service, started);
    CREATE INDEX rollouts_by_time ON rollouts (started);",
];

/// Why the tables are not used.
pub(super) enum Foreign {
    /// They are somebody else's.
    NotOurs,
    /// Of a later version, which writes this format.
    Later(i64),
    Broken(rusqlite::Error),
}

impl From<rusqlite::Error> for Foreign {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error)
    }
}

/// The format that this version writes.
pub(super) fn current() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Makes the tables those of this version, all or nothing.
pub(super) fn bring_up_to_date(connection: &mut rusqlite::Connection) -> Result<(), Foreign> {
    let work = Transaction::new(connection, TransactionBehavior::Immediate)?;
    let number = |pragma| work.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (application, format) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let empty = application == 0 && format == 0 && tables == 0;
    if application != i64::from(APPLICATION) && !empty {
        return Err(Foreign::NotOurs);
    }
    let taken = usize::try_from(format).map_err(|_| Foreign::NotOurs)?;
    let Some(steps) = STEPS.get(taken..) else { return Err(Foreign::Later(format)) };
    for step in steps {
        work.execute_batch(step)?;
    }
    if !steps.is_empty() {
        work.pragma_update(None, "application_id", APPLICATION)?;
        work.pragma_update(None, "user_version", current())?;
    }
    work.commit()?;
    Ok(())
}
