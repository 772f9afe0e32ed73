//! What stands in the tables.

use super::{
    super::Source, Content, Entry, Format, Kept, Page, Revision, Step, StoreError, rollouts,
};
use crate::{
    routing::Salts,
    spec::{Name, Spec},
};
use indexmap::IndexMap;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// The columns of a [`Revision`].
const COLUMNS: &str = "number, at, author, source, cause, rollout, changed";

/// A step, written down.
pub(super) struct Texts {
    entry: Option<EntryTexts>,
    file: Option<String>,
    rollouts: Vec<String>,
}

struct EntryTexts {
    services: String,
    salts: String,
    changed: String,
    content: String,
}

impl Texts {
    /// # Errors
    /// When it could not be read again.
    pub(super) fn of(step: &Step, format: Format) -> Result<Self, StoreError> {
        let entry = step.entry.as_ref().map(|entry| EntryTexts::of(entry, format));
        let file = step.file.as_deref().map(|file| write(file, None, format));
        let rollouts = step.rollouts.iter().map(json).collect::<Result<_, _>>()?;
        Ok(Self { entry: entry.transpose()?, file: file.transpose()?, rollouts })
    }
}

impl EntryTexts {
    fn of(entry: &Entry, format: Format) -> Result<Self, StoreError> {
        let changed = entry.before.as_ref().map(|it| (format.changes)(it, &entry.after));
        Ok(Self {
            services: json(&touched(entry))?,
            salts: json(&entry.salts.iter().map(text_pair).collect::<IndexMap<_, _>>())?,
            changed: changed.unwrap_or_else(|| "[]".to_owned()),
            content: write(&entry.after, entry.before.as_deref(), format)?,
        })
    }
}

fn write(spec: &Spec, before: Option<&Spec>, format: Format) -> Result<String, StoreError> {
    (format.write)(spec, before).map_err(StoreError::Unwritable)
}

fn text_pair<'a>((service, salt): (&'a Name, &'a Name)) -> (&'a str, &'a str) {
    (service, salt)
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// The services that the revision changes.
fn touched(entry: &Entry) -> Vec<&str> {
    let Some(before) = &entry.before else { return Vec::new() };
    let after = &entry.after.services;
    let now = after.iter().filter(|(name, it)| before.services.get(*name) != Some(it));
    let gone = before.services.iter().filter(|(name, _)| !after.contains_key(*name));
    now.chain(gone).map(|(name, _)| &**name).collect()
}

pub(super) fn insert(work: &Transaction<'_>, step: &Step, texts: &Texts) -> rusqlite::Result<()> {
    if let (Some(entry), Some(texts)) = (&step.entry, &texts.entry) {
        let EntryTexts { services, salts, changed, content } = texts;
        let bytes = services.len() + salts.len() + changed.len() + content.len();
        work.prepare(
            "INSERT INTO revisions (number, bytes, at, author, source, cause, rollout, services, salts, changed, content)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            signed(entry.number),
            signed(bytes as u64),
            entry.at.to_string(),
            &*entry.author,
            entry.source.as_str(),
            entry.cause,
            entry.rollout.as_deref(),
            services,
            salts,
            changed,
            content,
        ])?;
    }
    if let Some(file) = &texts.file {
        work.prepare("INSERT OR REPLACE INTO file (one, content) VALUES (1, ?)")?
            .execute([file])?;
    }
    for (rollout, text) in step.rollouts.iter().zip(&texts.rollouts) {
        rollouts::put(work, rollout, text)?;
    }
    Ok(())
}

/// Forgets the oldest revisions: all but `most`, and fewer where they are large. The newest and the one before
/// it stay always: they are what an undo needs.
pub(super) fn forget_old(work: &Transaction<'_>, most: u32, bytes: u64) -> rusqlite::Result<()> {
    work.prepare(
        "DELETE FROM revisions WHERE number IN (
             SELECT number FROM (
                 SELECT number, row_number() OVER newest AS place, sum(bytes) OVER newest AS total
                 FROM revisions WINDOW newest AS (ORDER BY number DESC)
             ) WHERE place > 2 AND (place > ? OR total > ?))",
    )?
    .execute(params![most, signed(bytes)])?;
    Ok(())
}

pub(super) fn kept(connection: &Connection, format: Format) -> Result<Option<Kept>, StoreError> {
    let newest = connection
        .query_row("SELECT max(number) FROM revisions", [], |row| row.get::<_, Option<i64>>(0))?;
    let Some(newest) = newest else { return Ok(None) };
    let Some((revision, content)) = self::revision(connection, unsigned(newest), format)? else {
        return Ok(None);
    };
    let file: Option<String> =
        connection.query_row("SELECT content FROM file", [], |row| row.get(0)).optional()?;
    let file = file.map(|text| read(&text, format)).transpose()?;
    let rollouts = rollouts::current(connection)?;
    Ok(Some(Kept { revision: revision.number, content, file, rollouts }))
}

pub(super) fn revisions(connection: &Connection, page: &Page) -> Result<Vec<Revision>, StoreError> {
    let mut rows = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM revisions
         WHERE number < ?1 AND (?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(services) WHERE value = ?2))
         ORDER BY number DESC LIMIT ?3"
    ))?;
    let before = page.before.map_or(i64::MAX, signed);
    let rows =
        rows.query_and_then(params![before, page.service.as_deref(), page.limit], revision_of)?;
    rows.collect()
}

pub(super) fn revision(
    connection: &Connection,
    number: u64,
    format: Format,
) -> Result<Option<(Revision, Content)>, StoreError> {
    let mut row = connection
        .prepare(&format!("SELECT {COLUMNS}, salts, content FROM revisions WHERE number = ?"))?;
    let mut rows = row.query([signed(number)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (salts, content): (String, String) = (row.get("salts")?, row.get("content")?);
    let salts: IndexMap<String, String> = serde_json::from_str(&salts).map_err(unreadable)?;
    let salts = salts.into_iter().map(|(service, salt)| (service.into(), salt.into()));
    let content = Content { spec: read(&content, format)?, salts: salts.collect::<Salts>() };
    Ok(Some((revision_of(row)?, content)))
}

fn revision_of(row: &Row<'_>) -> Result<Revision, StoreError> {
    let text = |column: &str| row.get::<_, String>(column);
    let source = text("source")?;
    Ok(Revision {
        number: unsigned(row.get("number")?),
        at: text("at")?.parse().map_err(unreadable)?,
        author: text("author")?.into(),
        source: Source::of(&source)
            .ok_or_else(|| unreadable(format_args!("`{source}` is no source of changes")))?,
        cause: row.get("cause")?,
        rollout: row.get::<_, Option<String>>("rollout")?.map(Name::from),
        changed: text("changed")?.into(),
    })
}

fn read(text: &str, format: Format) -> Result<Spec, StoreError> {
    (format.read)(text).map_err(|reasons| unreadable(reasons.join("; ")))
}

pub(super) fn unreadable(why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("what is kept cannot be read: {why}"))
}

/// SQLite's integers have a sign, ours never get that large.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
