//! What the two processes say to each other, in a form that both know whichever of them is newer: the file's keys.

use crate::{
    config,
    control::{Estate, Held, Open},
    rollout::Rollout,
    spec::{Name, Spec},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc};

/// Of what is said here. A new process that does not know it refuses to take over.
pub(super) const PROTOCOL: u32 = 2;

/// What is there to be taken over. Its descriptors come behind it: the sockets of the listeners in this order, that
/// of the admin API, and where the log goes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) protocol: u32,
    pub(super) listeners: Vec<OfferedListener>,
    /// The admin API's address as it is configured.
    pub(super) admin: String,
    pub(super) estate: Document,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OfferedListener {
    pub(super) configured: SocketAddr,
    pub(super) bound: SocketAddr,
    pub(super) sockets: usize,
}

impl Offer {
    pub(super) fn descriptors(&self) -> usize {
        let sockets = self.listeners.iter().map(|listener| listener.sockets);
        sockets.fold(2, usize::saturating_add)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromOld {
    /// Nothing changes here any more.
    Go(Legacy),
    /// What was changed is in force here too.
    Followed,
    /// Is in flight here, and in the processes before this one; nothing: that cannot be said now.
    Open(Option<Vec<Open>>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Legacy {
    pub(super) in_force: Document,
    /// What the admin side leaves, in its own words.
    pub(super) admin: Value,
    /// What was kept of changes in memory alone comes behind it.
    pub(super) has_history: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromNew {
    Ready(Readiness),
    /// It accepts.
    Serving,
    /// This is in force from now on.
    Changed(Document),
    /// What is in flight there?
    Open,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Readiness {
    pub(super) version: String,
    /// Where the listeners that were taken over listen.
    pub(super) listeners: Vec<SocketAddr>,
    /// The admin API's socket was taken over.
    pub(super) admin: bool,
}

/// An estate in the file's keys.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document {
    revision: u64,
    in_force: Value,
    file_base: Option<Value>,
    salts: Vec<(String, String)>,
    #[serde(default)]
    holds: Vec<HeldService>,
    #[serde(default)]
    rollouts: Vec<Rollout>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeldService {
    service: String,
    /// RFC 3339.
    until: String,
    author: String,
    cause: Option<String>,
}

impl From<&Held> for HeldService {
    fn from(Held { service, until, author, cause }: &Held) -> Self {
        Self {
            service: service.to_string(),
            until: until.to_string(),
            author: author.to_string(),
            cause: cause.clone(),
        }
    }
}

impl TryFrom<HeldService> for Held {
    type Error = String;

    fn try_from(held: HeldService) -> Result<Self, String> {
        let until = held.until.parse::<Timestamp>().map_err(|error| error.to_string())?;
        let (service, author) = (held.service.into(), held.author.into());
        Ok(Self { service, until, author, cause: held.cause })
    }
}

impl From<&Estate> for Document {
    fn from(estate: &Estate) -> Self {
        let salts = estate.salts.iter();
        Self {
            revision: estate.revision,
            in_force: config::document(&estate.spec),
            file_base: estate.file_base.as_deref().map(config::document),
            salts: salts.map(|(service, salt)| (service.to_string(), salt.to_string())).collect(),
            holds: estate.holds.iter().map(HeldService::from).collect(),
            rollouts: estate.rollouts.clone(),
        }
    }
}

impl TryFrom<Document> for Estate {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        let salts = document.salts.iter();
        Ok(Self {
            revision: document.revision,
            spec: read(&document.in_force, "what is in force")?,
            file_base: document
                .file_base
                .map(|base| read(&base, "the file as it was last loaded"))
                .transpose()?,
            salts: salts.map(|(name, salt)| (Name::from(&**name), Name::from(&**salt))).collect(),
            holds: document.holds.into_iter().map(Held::try_from).collect::<Result<_, _>>()?,
            rollouts: document.rollouts,
        })
    }
}

fn read(document: &Value, what: &str) -> Result<Arc<Spec>, String> {
    // Certificates that are missing may be named otherwise in the file: that is seen later.
    let read = config::from_stored(&document.to_string()).map(Arc::new);
    read.map_err(|errors| format!("{what} cannot be read by this version: {}", errors.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;
    use std::path::Path;

    #[test]
    fn an_estate_comes_back() {
        let text = "{ listeners: [{ address: '127.0.0.1:1' }], threads: 2, services: { s: { pools: { \
            p: { version: '$${x}', backends: [{ address: 'a:1', drained: true }, 'b:1'] } } } } }";
        let read = |text: &str| {
            let outcome = config::parse(text, Path::new(""), Surroundings::of_clients());
            Arc::new(outcome.spec.expect("a spec"))
        };
        let spec = read(text);
        let estate = Estate {
            revision: 7,
            file_base: Some(read(&text.replace("drained: true", "drained: false"))),
            spec,
            salts: [("s".into(), "s:v1,v2".into())].into_iter().collect(),
            holds: vec![Held {
                service: "s".into(),
                until: Timestamp::now(),
                author: "ci".into(),
                cause: Some("restart".into()),
            }],
            rollouts: Vec::new(),
        };
        let sent = serde_json::to_vec(&Document::from(&estate)).unwrap();
        let received: Document = serde_json::from_slice(&sent).unwrap();
        assert_eq!(Estate::try_from(received).unwrap(), estate);

        let mut sent = Document::from(&estate);
        sent.in_force["services"]["s"]["new"] = true.into();
        let error = Estate::try_from(sent).unwrap_err();
        assert!(error.starts_with("what is in force cannot be read by this version: "), "{error}");
    }
}
