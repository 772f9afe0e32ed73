//! Certificates that are ordered.

use super::{
    super::{
        keys,
        reader::{At, Field, Reader},
    },
    tls::authority,
};
use crate::spec::{Acme, AcmeChallenge, Listener, Name};
use std::collections::HashMap;

/// The issuer unless another one is named.
pub(in crate::config) const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `None` where there is none, or something was reported.
pub(super) fn acme(
    reader: &mut Reader<'_>,
    field: Field<keys::Acme>,
    listeners: &[At<Listener>],
) -> Option<Acme> {
    if let Field::Absent = field {
        unordered(reader, listeners);
    }
    let At { value: keys, node } = field.good()?;
    if let Field::Good(At { value: false, node }) = keys.terms_agreed {
        reader.problem(
            node,
            "nothing is ordered from an issuer whose terms are not agreed to",
            "read them, and write `terms_agreed: true`; or remove `acme`",
        );
    }
    let ca = match keys.ca {
        Field::Good(ca) => Some(authority(reader, ca)?),
        Field::Absent => None,
        Field::Bad(_) => return None,
    };
    let challenge = keys.challenge.or(AcmeChallenge::default());
    if !listeners.iter().any(|at| at.value.tls.as_ref().is_some_and(|tls| tls.acme)) {
        // They may be had first, and shown once they are there.
        reader.warn(
            node,
            "no listener shows the certificates that are ordered",
            "add `tls: { acme: true }` to the listener that shall",
        );
    }
    if challenge == AcmeChallenge::Http01 && listeners.iter().all(|at| at.value.tls.is_some()) {
        reader.problem(
            node,
            "`http-01` is answered in the clear, and every listener speaks TLS",
            "add a listener without `tls` that port 80 of the names leads to, or use `challenge: tls-alpn-01`",
        );
    }
    Some(Acme {
        directory: keys.directory.or(DIRECTORY.into()),
        ca,
        contacts: keys.contacts.or(Vec::new()),
        state: reader.directory.join(keys.state.value()?).into(),
        hosts: hosts(reader, keys.hosts),
        challenge,
        renew_before: keys.renew_before.value(),
    })
}

/// Listeners that wait for certificates which nobody orders.
fn unordered(reader: &mut Reader<'_>, listeners: &[At<Listener>]) {
    for listener in listeners {
        if listener.value.tls.as_ref().is_some_and(|tls| tls.acme) {
            reader.problem(
                listener.node,
                "this listener shows certificates that are ordered, and none are",
                "add `acme` to the file, such as \
                 `acme: { terms_agreed: true, state: acme, hosts: [shop.example.com] }`",
            );
        }
    }
}

fn hosts(reader: &mut Reader<'_>, field: Field<Vec<At<Vec<Name>>>>) -> Vec<Vec<Name>> {
    let mut firsts = HashMap::new();
    let mut all = Vec::new();
    for At { value, node } in field.or(Vec::new()) {
        for name in &value {
            // Twice in one list has been reported.
            if let Some(first) = firsts.insert(name.clone(), node)
                && first != node
            {
                let message = format!("`{name}` is in two certificates");
                let fix = format!("keep one; the first is on line {}", reader.line(first));
                reader.problem(node, message, fix);
            }
        }
        all.push(value);
    }
    all
}
