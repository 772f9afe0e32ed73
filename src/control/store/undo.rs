//! What an undo goes back to.

use super::{
    Format, StoreError, Target,
    rows::{self, signed, unsigned},
};
use crate::spec::Name;
use rusqlite::{Connection, OptionalExtension, params};

/// A change that can be undone.
struct Newest {
    number: i64,
    rollout: Option<String>,
}

/// `to`: the revision whose content is wanted; `None`: what was before the newest change, which all revisions of
/// one rollout are together. Of one `service`, or of all; of the services of a rollout when that is newest, so
/// that what others changed meanwhile stays.
///
/// # Errors
/// When that is not kept.
pub(super) fn target(
    connection: &Connection,
    service: Option<&Name>,
    to: Option<u64>,
    format: Format,
) -> Result<Target, StoreError> {
    let mut services = service.map(|service| vec![service.clone()]);
    let number = match to {
        Some(number) => number,
        None => {
            let newest = newest(connection, service)?;
            if let (Some(rollout), None) = (&newest.rollout, service) {
                services = Some(touched_by(connection, rollout)?);
            }
            before(connection, &newest)?
        }
    };
    match rows::revision(connection, number, format)? {
        Some((_, content)) => Ok(Target { content, services }),
        None => Err(StoreError::NoRevision(not_kept(connection, number)?)),
    }
}

fn newest(connection: &Connection, service: Option<&Name>) -> Result<Newest, StoreError> {
    let found = connection
        .query_row(
            "SELECT number, rollout FROM revisions
             WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM json_each(services) WHERE value = ?1)
             ORDER BY number DESC LIMIT 1",
            [service.map(|service| &**service)],
            |row| Ok(Newest { number: row.get(0)?, rollout: row.get(1)? }),
        )
        .optional()?;
    found.ok_or_else(|| {
        let of = service.map(|service| format!(" of service `{service}`")).unwrap_or_default();
        StoreError::NothingBefore(format!("there is nothing to undo: no change{of} is kept"))
    })
}

/// The newest revision before a change.
fn before(connection: &Connection, newest: &Newest) -> Result<u64, StoreError> {
    let first: i64 = connection.query_row(
        "SELECT coalesce((SELECT min(number) FROM revisions WHERE rollout = ?), ?)",
        params![newest.rollout, newest.number],
        |row| row.get(0),
    )?;
    let before = connection.query_row(
        "SELECT max(number) FROM revisions WHERE number < ?",
        [first],
        |row| row.get::<_, Option<i64>>(0),
    )?;
    before.map(unsigned).ok_or_else(|| {
        StoreError::NothingBefore(format!(
            "there is nothing to undo: revision {first} is the first that is kept"
        ))
    })
}

fn touched_by(connection: &Connection, rollout: &str) -> Result<Vec<Name>, StoreError> {
    let mut rows = connection.prepare(
        "SELECT DISTINCT value FROM revisions, json_each(services) WHERE rollout = ? ORDER BY value",
    )?;
    let names = rows.query_map([rollout], |row| row.get::<_, String>(0))?;
    Ok(names.map(|name| name.map(Name::from)).collect::<Result<_, _>>()?)
}

/// That a revision is not kept, and which are.
pub(super) fn not_kept(connection: &Connection, number: u64) -> Result<String, StoreError> {
    let (first, last): (Option<i64>, Option<i64>) =
        connection.query_row("SELECT min(number), max(number) FROM revisions", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(match (first, last) {
        (Some(first), Some(last)) if signed(number) >= first && signed(number) <= last => {
            format!("there is no revision {number}")
        }
        (Some(first), Some(last)) => {
            format!("revision {number} is not kept; those from {first} to {last} are")
        }
        _ => format!("revision {number} is not kept; none is"),
    })
}
