//! Rollouts, those that run and those that are over.

use super::{
    StoreError,
    rows::{signed, unreadable},
};
use crate::{rollout::Rollout, spec::Name};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// That are kept of each service.
const MOST: u32 = 200;

/// Which rollouts are asked for.
#[derive(Clone, Debug)]
pub struct RolloutPage {
    /// Those that were started before, in milliseconds since 1970; `None`: from the newest on.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: u32,
    pub service: Option<Name>,
}

pub(super) fn put(work: &Transaction<'_>, rollout: &Rollout, text: &str) -> rusqlite::Result<()> {
    work.prepare(
        "INSERT OR REPLACE INTO rollouts (id, service, started, settled, state) VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![
        &**rollout.id(),
        &**rollout.service(),
        signed(rollout.started()),
        rollout.is_settled(),
        text
    ])?;
    work.prepare(
        "DELETE FROM rollouts WHERE service = ?1 AND settled AND id NOT IN (
             SELECT id FROM rollouts WHERE service = ?1 ORDER BY started DESC LIMIT ?2)",
    )?
    .execute(params![&**rollout.service(), MOST])?;
    Ok(())
}

/// Those that are not over, and the last one of each service.
pub(super) fn current(connection: &Connection) -> Result<Vec<Rollout>, StoreError> {
    let mut rows = connection.prepare(
        "SELECT state FROM rollouts AS it WHERE NOT settled OR started =
             (SELECT max(started) FROM rollouts WHERE service = it.service)
         ORDER BY started",
    )?;
    let rows = rows.query_and_then([], of)?;
    rows.collect()
}

/// The newest first.
pub(super) fn page(
    connection: &Connection,
    page: &RolloutPage,
) -> Result<Vec<Rollout>, StoreError> {
    let mut rows = connection.prepare(
        "SELECT state FROM rollouts WHERE started < ?1 AND (?2 IS NULL OR service = ?2)
         ORDER BY started DESC LIMIT ?3",
    )?;
    let before = page.before.map_or(i64::MAX, signed);
    let rows = rows.query_and_then(params![before, page.service.as_deref(), page.limit], of)?;
    rows.collect()
}

pub(super) fn one(connection: &Connection, id: &str) -> Result<Option<Rollout>, StoreError> {
    let found = connection
        .prepare("SELECT state FROM rollouts WHERE id = ?")?
        .query_row([id], |row| row.get::<_, String>(0))
        .optional()?;
    found.map(|text| read(&text)).transpose()
}

fn of(row: &Row<'_>) -> Result<Rollout, StoreError> {
    read(&row.get::<_, String>(0)?)
}

fn read(text: &str) -> Result<Rollout, StoreError> {
    serde_json::from_str(text).map_err(unreadable)
}
