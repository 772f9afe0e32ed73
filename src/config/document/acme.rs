use super::{Detail, Keys, text, tls::path};
use crate::{
    config::{keys::ChallengeKind, read::DIRECTORY, scalar::format_duration},
    spec::{Acme, AcmeChallenge, Name},
};
use serde_json::Value;

pub(super) fn acme(acme: &Acme, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    keys.other("directory", &*acme.directory, DIRECTORY, text);
    // The reader asks for it, and the spec does not keep it.
    keys.set("terms_agreed", true);
    keys.other("contacts", &*acme.contacts, &[], |contacts| {
        contacts.iter().map(|it| text(it)).collect::<Vec<_>>().into()
    });
    keys.set("state", path(&acme.state));
    keys.set("hosts", acme.hosts.iter().map(|names| hosts(names)).collect::<Vec<_>>());
    keys.other("challenge", &acme.challenge, &AcmeChallenge::default(), |challenge| {
        ChallengeKind::word(challenge).into()
    });
    if let Some(before) = acme.renew_before {
        keys.set("renew_before", format_duration(before));
    }
    if let Some(ca) = &acme.ca {
        keys.set("ca", path(&ca.file));
    }
    keys.into_value()
}

fn hosts(names: &[Name]) -> Value {
    match names {
        [one] => text(one),
        several => several.iter().map(|name| text(name)).collect::<Vec<_>>().into(),
    }
}
