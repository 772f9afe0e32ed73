//! One look at all that is shown.

use crate::cli::{
    Client, Failure, path,
    status::{Status, read},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Revisions that are asked for.
const REVISIONS: usize = 20;

/// What a look has found.
pub(super) struct Picture {
    pub(super) status: Status,
    pub(super) drains: Vec<Drain>,
    /// As the API tells them, with all that is known of them.
    pub(super) rollouts: Vec<Value>,
    /// The newest first.
    pub(super) happened: Vec<Happened>,
}

/// A backend on its way out.
#[derive(Deserialize)]
pub(super) struct Drain {
    id: String,
    service: String,
    pool: String,
    backend: String,
    deadline: String,
    in_flight: Open,
    cut: u64,
}

#[derive(Clone, Copy, Deserialize)]
struct Open {
    request: u64,
    stream: u64,
    tunnel: u64,
}

impl Drain {
    pub(super) fn in_flight(&self) -> u64 {
        let Open { request, stream, tunnel } = self.in_flight;
        request + stream + tunnel
    }

    pub(super) fn line(&self) -> String {
        let Self { id, service, pool, backend, deadline, in_flight, cut } = self;
        let Open { request, stream, tunnel } = in_flight;
        format!(
            "{id} {service}/{pool} {backend}: {request} requests, {stream} streams, {tunnel} tunnels, \
             until {}, {cut} cut",
            clock(deadline)
        )
    }
}

/// A change, or what happened to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    /// RFC 3339.
    at: String,
    text: String,
}

impl Happened {
    pub(super) fn line(&self) -> String {
        format!("{} {}", clock(&self.at), self.text)
    }
}

/// The time of day of what RFC 3339 writes.
fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

pub(super) struct Looker<'a> {
    client: &'a Client,
    /// The last changes, and the revision that they were asked at.
    revisions: Option<(u64, Vec<Value>)>,
}

impl<'a> Looker<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, revisions: None }
    }

    pub(super) fn patience(&self) -> Option<Duration> {
        self.client.patience()
    }

    /// With the rollout of `service`, or of the first one.
    pub(super) async fn look(&mut self, service: Option<&str>) -> Result<Picture, Failure> {
        let status: Status = read(self.client.get("/v1/status").await?)?;
        let found = status.services.iter().find(|it| Some(&*it.name) == service);
        let shown = found.or(status.services.first()).filter(|it| it.rollout.is_some());
        let shown: Vec<String> = shown.map(|it| it.name.clone()).into_iter().collect();
        self.gather(status, &shown).await
    }

    /// With all rollouts that are not over; of `service` alone if there is one.
    pub(super) async fn whole(&mut self, service: Option<&str>) -> Result<Picture, Failure> {
        let mut status: Status = read(self.client.get("/v1/status").await?)?;
        if let Some(service) = service {
            status.services.retain(|it| it.name == service);
            if status.services.is_empty() {
                // The API says which there are.
                self.client.get(&path::service(service)).await?;
            }
        }
        let is_running = |it: &&crate::cli::status::Service| {
            it.rollout.as_ref().is_some_and(|rollout| rollout.ended.is_none())
        };
        let shown = status.services.iter().filter(is_running);
        let shown: Vec<String> = shown.map(|it| it.name.clone()).collect();
        let mut picture = self.gather(status, &shown).await?;
        if let Some(service) = service {
            picture.drains.retain(|drain| drain.service == service);
        }
        Ok(picture)
    }

    /// What the API says, in its own words.
    pub(super) async fn answers(&mut self, service: Option<&str>) -> Result<Value, Failure> {
        let place = service.map_or_else(|| "/v1/status".to_owned(), path::service);
        let about = if service.is_some() { "service" } else { "status" };
        let status = self.client.get(&place).await?;
        let drains = self.client.get("/v1/drains").await?;
        let mut query = vec![("limit", REVISIONS.to_string())];
        query.extend(service.map(|service| ("service", service.to_owned())));
        let revisions = self.client.ask("/v1/revisions", &query).await?;
        Ok(json!({ about: status, "drains": drains, "revisions": revisions }))
    }

    async fn gather(&mut self, status: Status, services: &[String]) -> Result<Picture, Failure> {
        let drains = read(self.client.get("/v1/drains").await?)?;
        let mut rollouts = Vec::with_capacity(services.len());
        for service in services {
            rollouts.push(self.client.get(&format!("{}/rollout", path::service(service))).await?);
        }
        if self.revisions.as_ref().is_none_or(|(at, _)| *at != status.revision) {
            let query = [("limit", REVISIONS.to_string())];
            let revisions = self.client.ask("/v1/revisions", &query).await?;
            let list = revisions.as_array().cloned().unwrap_or_default();
            self.revisions = Some((status.revision, list));
        }
        let revisions = self.revisions.as_ref().map_or(&[][..], |(_, list)| list);
        let happened = happened(revisions, &rollouts);
        Ok(Picture { status, drains, rollouts, happened })
    }
}

/// The newest first. What a rollout tells itself need not be told by its revisions.
fn happened(revisions: &[Value], rollouts: &[Value]) -> Vec<Happened> {
    let is_told = |revision: &&Value| {
        revision["rollout"].is_string() && rollouts.iter().any(|it| it["id"] == revision["rollout"])
    };
    let mut happened: Vec<Happened> =
        revisions.iter().filter(|it| !is_told(it)).map(changed).collect();
    for rollout in rollouts {
        let notices = rollout["notices"].as_array().map(Vec::as_slice).unwrap_or_default();
        happened.extend(notices.iter().map(|notice| noticed(rollout, notice)));
    }
    // Texts of one form and zone, so that their order is that of time.
    happened.sort_by(|one, other| other.at.cmp(&one.at));
    happened
}

fn changed(revision: &Value) -> Happened {
    let text = |key: &str| revision[key].as_str().unwrap_or_default();
    let changed = revision["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut what = format!("revision {} by {}", revision["revision"], text("author"));
    if let Some(cause) = revision["cause"].as_str() {
        what.push_str(&format!(": {cause}"));
    }
    if let Some(first) = changed.first() {
        let path = first["path"].as_str().unwrap_or_default();
        what.push_str(&format!(" ({path}"));
        if changed.len() > 1 {
            what.push_str(&format!(" and {} more", changed.len() - 1));
        }
        what.push(')');
    }
    Happened { at: text("at").to_owned(), text: what }
}

fn noticed(rollout: &Value, notice: &Value) -> Happened {
    let at = notice["at"].as_str().unwrap_or_default().to_owned();
    let line = crate::cli::rollout::notice(rollout, notice);
    // It begins with the time.
    let text = line.trim_end().strip_prefix(&at).unwrap_or(&line).trim_start().to_owned();
    Happened { at, text }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `status` and the others as the API tells them.
    pub(in crate::cli::top) fn picture(
        status: &Value,
        drains: &Value,
        rollouts: Vec<Value>,
        revisions: &[Value],
    ) -> Picture {
        let happened = happened(revisions, &rollouts);
        let status = serde_json::from_value(status.clone()).unwrap();
        let drains = serde_json::from_value(drains.clone()).unwrap();
        Picture { status, drains, rollouts, happened }
    }

    #[test]
    fn what_happened_is_told_once_and_the_newest_first() {
        let revision = |number: u64, at: &str, rollout: Option<&str>| {
            json!({ "revision": number, "at": at, "author": "ci", "source": "api", "cause": "why",
                "rollout": rollout, "changed": [{"path": "a"}, {"path": "b"}] })
        };
        let revisions = [
            revision(3, "2026-01-02T03:04:09Z", Some("r-1")),
            revision(2, "2026-01-02T03:04:07Z", Some("r-0")),
            revision(1, "2026-01-02T03:04:05Z", None),
        ];
        let rollout = json!({ "id": "r-1", "service": "shop", "to": "green", "steps": 2, "notices": [
            { "number": 1, "at": "2026-01-02T03:04:08Z", "event": "started", "step": 0, "share": 0.0,
                "by": null, "why": null },
            { "number": 2, "at": "2026-01-02T03:04:10Z", "event": "paused", "step": 1, "share": 0.05,
                "by": {"author": "ann", "cause": null}, "why": {"text": "lunch"} }] });
        let lines: Vec<String> =
            happened(&revisions, &[rollout]).iter().map(Happened::line).collect();
        assert_eq!(
            lines,
            [
                "03:04:10 shop: paused, step 1 of 2, 5.0% on green, by ann: lunch",
                "03:04:08 shop: started, step 0 of 2, 0% on green",
                "03:04:07 revision 2 by ci: why (a and 1 more)",
                "03:04:05 revision 1 by ci: why (a and 1 more)",
            ]
        );
    }
}
