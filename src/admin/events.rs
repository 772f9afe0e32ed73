//! What happens, as it happens: server-sent events (HTML Living Standard, section 9.2) of rollouts and revisions.

use super::{
    Admin,
    access::{self, Peer},
    audit,
    conditions::Errors,
    dashboard::Pictures,
    history::RevisionView,
    problem::Problem,
};
use crate::{
    control::{News, Page, View},
    rollout::{Notice, Rollout},
    spec::{Name, Spec},
};
use axum::{
    extract::{Extension, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{self, error::RecvError},
    watch,
};
use utoipa::{IntoParams, ToSchema};

/// Who may follow at a time.
pub(super) const LISTENERS: usize = 64;

/// A comment is sent when nothing else was for so long, so that nobody on the way takes the silence for the end.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Revisions that are told at most to somebody who was away.
const MOST_REVISIONS: u32 = 1000;

const PATH: &str = "/v1/events";

/// Resolves when the admin API ends.
#[derive(Clone)]
pub(super) struct Ending(pub(super) watch::Receiver<Duration>);

/// Something happened to a rollout.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloutEvent {
    /// Of how it is written: 1.
    schema: u8,
    /// As in the audit log: `rollout.started`, `rollout.step` and so on.
    #[schema(inline)]
    name: audit::Event,
    rollout: String,
    /// Counts from 1 in each rollout.
    number: u64,
    service: String,
    /// `started`, `step`, `waiting`, `paused`, `resumed`, `aborted`, `promoted`, `superseded` or `failed`.
    event: &'static str,
    /// The state that the rollout is in.
    state: &'static str,
    from: String,
    to: String,
    step: usize,
    steps: usize,
    /// The canary's part, 0 to 1, of what both pools have together.
    share: f64,
    /// Who has brought it about; `null`: itself.
    author: Option<String>,
    /// Why, in words.
    reason: Option<String>,
    /// RFC 3339.
    at: String,
}

impl RolloutEvent {
    fn of(rollout: &Rollout, notice: &Notice) -> Self {
        let cause = notice.by.as_ref().and_then(|by| by.cause.clone());
        Self {
            schema: audit::SCHEMA,
            name: notice.event.into(),
            rollout: rollout.id().to_string(),
            number: notice.number,
            service: rollout.service().to_string(),
            event: notice.event.as_str(),
            state: rollout.phase().as_str(),
            from: rollout.stable().to_string(),
            to: rollout.canary().to_string(),
            step: notice.step,
            steps: rollout.steps(),
            share: notice.share.as_f64(),
            author: notice.by.as_ref().map(|by| by.author.to_string()),
            reason: notice.why.as_ref().map(|why| why.text.clone()).or(cause),
            at: super::time(notice.at),
        }
    }
}

/// A change is in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevisionEvent {
    /// Of how it is written: 1.
    schema: u8,
    /// As in the audit log: `change.made`.
    #[schema(inline)]
    name: audit::Event,
    #[serde(flatten)]
    revision: RevisionView,
}

/// Another entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditEvent {
    /// The same as `event`.
    #[schema(inline)]
    name: audit::Event,
    #[serde(flatten)]
    #[schema(value_type = audit::Entry)]
    entry: Arc<audit::Entry>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsAsked {
    /// About once a second, `live` with what is in force and what it does (`LiveView`) as well.
    #[param(value_type = Option<bool>)]
    live: Option<String>,
}

/// Events as they happen, as `text/event-stream`: `rollout` with what happened to a rollout (`RolloutEvent`), `revision` with a
/// change that is in force (`RevisionEvent`), `audit` with whatever else the audit log has (`AuditEvent`), and `missed` with how many
/// were lost by who reads too slowly.
/// With `Last-Event-ID` it begins with what was missed since then; what happened at that very moment may come twice. The
/// stream ends with the process, and when who follows may not look any more.
#[utoipa::path(get, path = "/v1/events", tag = "look",
    params(EventsAsked, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query cannot be read"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "`live` is neither true nor false"),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "As many follow as may, or too many requests at once"),
    ))]
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    Extension(Ending(ended)): Extension<Ending>,
    asked: Result<Query<EventsAsked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::malformed(error.body_text()))?;
    let mut errors = Errors::default();
    let wants_pictures = errors.flag("live", asked.live.map(Value::String));
    errors.check()?;
    let place = Arc::clone(&admin.listeners).try_acquire_owned().map_err(|_| {
        Problem::unavailable(format!("{LISTENERS} follow events already, as many as may"))
    })?;
    let since = headers.get("last-event-id").and_then(|id| Place::parse(id.to_str().ok()?));
    let mut follower = Follower::new(admin, ended, (peer, headers), place, since);
    if wants_pictures {
        follower.pictures = Some(follower.admin.feed.follow());
    }
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let mut response = Sse::new(Box::pin(events))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Up to where somebody has been told: the id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Of rollouts, in milliseconds since 1970.
    at: u64,
    revision: u64,
    /// Of the audit log.
    entry: u64,
}

impl Place {
    fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split('-').map(|part| part.parse().ok());
        let (at, revision) = (parts.next()??, parts.next()??);
        let entry = match parts.next() {
            Some(entry) => entry?,
            // Nothing of the audit log was missed.
            None => u64::MAX,
        };
        parts.next().is_none().then_some(Self { at, revision, entry })
    }

    fn id(self) -> String {
        format!("{}-{}-{}", self.at, self.revision, self.entry)
    }
}

/// Somebody who follows events.
struct Follower {
    admin: Arc<Admin>,
    ended: watch::Receiver<Duration>,
    news: broadcast::Receiver<News>,
    entries: broadcast::Receiver<Arc<audit::Entry>>,
    views: watch::Receiver<Arc<View>>,
    /// What showed that they may.
    shown: (Peer, HeaderMap),
    /// By which they may.
    spec: Arc<Spec>,
    at: Place,
    /// The last notice of each service's rollout that they were told.
    told: HashMap<Name, (Name, u64)>,
    ready: VecDeque<Event>,
    /// `None`: they did not ask for them.
    pictures: Option<Pictures>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn new(
        admin: Arc<Admin>,
        ended: watch::Receiver<Duration>,
        shown: (Peer, HeaderMap),
        place: OwnedSemaphorePermit,
        since: Option<Place>,
    ) -> Self {
        // In this order: what happens in between is seen twice rather than not at all.
        let news = admin.handle.rollout_news();
        let (entries, entry) = admin.audit.follow();
        let mut views = admin.handle.views();
        let view = views.borrow_and_update().clone();
        let now = super::millis(Timestamp::now());
        let at = since.unwrap_or(Place { at: now, revision: view.revision, entry });
        // One of a state that was lost since.
        let at =
            Place { revision: at.revision.min(view.revision), entry: at.entry.min(entry), ..at };
        let mut follower = Self {
            spec: view.spec.clone(),
            admin,
            ended,
            news,
            entries,
            views,
            shown,
            at,
            told: HashMap::new(),
            // An id alone, to come back with if nothing happens.
            ready: VecDeque::from([Event::default().id(at.id())]),
            pictures: None,
            _place: place,
        };
        if since.is_some() {
            follower.replay(&view);
        }
        follower.views.mark_changed();
        follower
    }

    /// What happened to rollouts while they were away.
    fn replay(&mut self, view: &View) {
        let from = self.at.at;
        let mut missed: Vec<(&Rollout, &Notice)> = view
            .rollouts
            .values()
            .flat_map(|rollout| rollout.notices().iter().map(move |notice| (&**rollout, notice)))
            .filter(|(_, notice)| notice.at >= from)
            .collect();
        missed.sort_by_key(|(rollout, notice)| (notice.at, rollout.started(), notice.number));
        missed.into_iter().for_each(|(rollout, notice)| self.tell(rollout, notice));
        let last = self.at.entry;
        for entry in self.admin.audit.newest(usize::MAX, None).into_iter().rev() {
            if entry.id > last {
                self.tell_entry(entry);
            }
        }
    }

    /// `None`: it is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                _ = self.ended.changed() => return None,
                news = self.news.recv() => match news {
                    Ok(News { rollout, notice }) => self.tell(&rollout, &notice),
                    Err(RecvError::Lagged(missed)) => {
                        let data = serde_json::json!({ "missed": missed });
                        self.push("missed", &data);
                    }
                    Err(RecvError::Closed) => return None,
                },
                entry = self.entries.recv() => match entry {
                    Ok(entry) => self.tell_entry(entry),
                    Err(RecvError::Lagged(missed)) => {
                        let data = serde_json::json!({ "missed": missed });
                        self.push("missed", &data);
                    }
                    Err(RecvError::Closed) => return None,
                },
                picture = next(&mut self.pictures) => {
                    self.ready.push_back(Event::default().event("live").data(&*picture));
                }
                changed = self.views.changed() => {
                    changed.ok()?;
                    self.look().await?;
                }
            }
        }
    }

    fn tell(&mut self, rollout: &Rollout, notice: &Notice) {
        let told = self.told.get(rollout.service());
        if told.is_some_and(|(id, number)| id == rollout.id() && notice.number <= *number) {
            return;
        }
        self.told.insert(rollout.service().clone(), (rollout.id().clone(), notice.number));
        self.at.at = self.at.at.max(notice.at);
        self.push("rollout", &RolloutEvent::of(rollout, notice));
    }

    fn tell_entry(&mut self, entry: Arc<audit::Entry>) {
        // Those that came while what was missed was told.
        if entry.id <= self.at.entry {
            return;
        }
        self.at.entry = entry.id;
        if !entry.event.is_told_otherwise() {
            self.push("audit", &AuditEvent { name: entry.event, entry });
        }
    }

    /// At what is in force now. `None`: they may not look any more, or nobody knows what was changed.
    async fn look(&mut self) -> Option<()> {
        let view = self.views.borrow_and_update().clone();
        if !Arc::ptr_eq(&self.spec, &view.spec) {
            let (peer, headers) = &self.shown;
            let asked = (&Method::GET, PATH, headers);
            let failures = &self.admin.failures;
            access::admit(&view.spec.admin, failures, peer, asked, Instant::now()).ok()?;
            self.spec = view.spec.clone();
        }
        let new = view.revision.saturating_sub(self.at.revision);
        if new > 0 {
            let limit = u32::try_from(new).unwrap_or(MOST_REVISIONS).min(MOST_REVISIONS);
            let page = Page { before: Some(view.revision + 1), limit, service: None };
            let revisions = self.admin.handle.history().revisions(page).await.ok()?;
            let from = self.at.revision;
            for revision in revisions.into_iter().rev().filter(|it| it.number > from) {
                self.at.revision = revision.number;
                let revision = RevisionView::from(revision);
                let (schema, name) = (audit::SCHEMA, audit::Event::ChangeMade);
                self.push("revision", &RevisionEvent { schema, name, revision });
            }
            self.at.revision = view.revision;
        }
        Some(())
    }

    fn push(&mut self, kind: &str, data: &impl Serialize) {
        // What is told here has keys of text alone, so it can be written.
        if let Ok(event) = Event::default().event(kind).id(self.at.id()).json_data(data) {
            self.ready.push_back(event);
        }
    }
}

/// The next picture; who reads too slowly misses those in between.
async fn next(pictures: &mut Option<Pictures>) -> Arc<str> {
    if let Some(pictures) = pictures
        && pictures.changed().await.is_ok()
    {
        return pictures.borrow_and_update().clone();
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let place = Place { at: 1_700_000_000_500, revision: 7, entry: 9 };
        assert_eq!(Place::parse(&place.id()), Some(place));
        assert_eq!(Place::parse("1-2"), Some(Place { at: 1, revision: 2, entry: u64::MAX }));
        for bad in ["", "7", "a-b-c", "1-", "1-2-", "-1-2", "1-2-3-4"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
