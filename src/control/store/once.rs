//! What must not be made twice: the keys of changes, with what they were answered.

use super::{
    super::{Known, Once},
    OnceEntry, StoreError,
    rows::{signed, unsigned},
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// How long a key is known, in seconds.
const LONGEST: i64 = 24 * 3600;

/// So many keys are known at most; the oldest are forgotten first.
const MOST: u32 = 10_000;

/// # Errors
/// When the key was used for something else, or what is kept cannot be read.
pub(super) fn known(
    connection: &Connection,
    author: &str,
    once: &Once,
    now: Timestamp,
) -> Result<Option<Known>, StoreError> {
    let found = connection
        .query_row(
            "SELECT fingerprint, revision, answer FROM answers WHERE author = ? AND key = ? AND at > ?",
            params![author, once.key, now.as_second() - LONGEST],
            |row| {
                let known = Known { revision: unsigned(row.get(1)?), answer: row.get(2)? };
                Ok((row.get::<_, String>(0)?, known))
            },
        )
        .optional()?;
    match found {
        Some((fingerprint, _)) if fingerprint != once.fingerprint => Err(StoreError::KeyReused),
        found => Ok(found.map(|(_, known)| known)),
    }
}

pub(super) fn insert(work: &Transaction<'_>, entry: &OnceEntry) -> rusqlite::Result<()> {
    let now = entry.at.as_second();
    work.execute(
        "DELETE FROM answers WHERE at <= ?1
         OR id <= (SELECT id FROM answers ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        params![now - LONGEST, MOST - 1],
    )?;
    work.execute(
        "INSERT INTO answers (at, author, key, fingerprint, revision) VALUES (?, ?, ?, ?, ?)",
        params![
            now,
            &*entry.author,
            entry.once.key,
            entry.once.fingerprint,
            signed(entry.revision)
        ],
    )?;
    Ok(())
}

pub(super) fn remember(
    connection: &Connection,
    author: &str,
    key: &str,
    answer: &str,
) -> rusqlite::Result<()> {
    let set = "UPDATE answers SET answer = ? WHERE author = ? AND key = ?";
    connection.execute(set, params![answer, author, key]).map(drop)
}
