//! The sockets of the listeners, and what they speak TLS with.

use crate::{
    live::{Bound, Certificates, LiveListener, LiveTls},
    net::{self, Inherited},
    spec::{AcmeChallenge, Certificate, Listener, Spec},
};
use std::{error::Error, io, sync::Arc};

/// The listeners of the next snapshot: those whose address stays keep their sockets, new ones take those that were
/// inherited or are bound. `issued`: the certificates that were ordered.
///
/// # Errors
/// A line for each address that cannot be bound; none of the new ones is then.
pub(super) fn bind(
    current: &[LiveListener],
    wanted: &Spec,
    issued: &[Certificate],
    cores: usize,
    inherited: &mut Inherited,
) -> Result<Vec<LiveListener>, Vec<String>> {
    let proves = wanted.acme.as_ref().is_some_and(|it| it.challenge == AcmeChallenge::Http01);
    let mut kept: Vec<&LiveListener> = current.iter().collect();
    let mut listeners = Vec::with_capacity(wanted.listeners.len());
    let mut problems = Vec::new();
    for spec in &wanted.listeners {
        // Each only once: port 0 may be listed several times.
        let same = kept.iter().position(|known| known.spec.address == spec.address);
        let before = same.map(|index| kept.remove(index));
        let bound = match before {
            Some(known) => Ok(known.bound.clone()),
            None => net::listen_or_inherit(spec.address, cores, inherited)
                .map(|(address, sockets)| Bound::new(address, sockets, cores)),
        };
        let bound = bound.map_err(|error| explain(spec, &error));
        let tls = tls(spec, issued, before)
            .map_err(|error| format!("the listener {} cannot speak TLS: {error}", spec.address));
        match (bound, tls) {
            (Ok(bound), Ok(tls)) => {
                listeners.push(LiveListener {
                    spec: spec.clone(),
                    engine: wanted.engine,
                    bound,
                    tls,
                    https_port: None,
                    steps_in: spec.redirect_https || proves,
                });
            }
            (bound, tls) => problems.extend(bound.err().into_iter().chain(tls.err())),
        }
    }
    let https = listeners.iter().find(|listener| listener.tls.is_some());
    let https_port = https.map(|listener| listener.bound.address.port());
    listeners.iter_mut().for_each(|listener| listener.https_port = https_port);
    if problems.is_empty() { Ok(listeners) } else { Err(problems) }
}

/// What was there before stays if nothing of it is to change; its sessions can be resumed in any case.
fn tls(
    spec: &Listener,
    issued: &[Certificate],
    before: Option<&LiveListener>,
) -> Result<Option<Arc<LiveTls>>, Box<dyn Error>> {
    let Some(wanted) = &spec.tls else { return Ok(None) };
    let before =
        before.and_then(|known| Some((known, known.spec.tls.as_ref()?, known.tls.as_ref()?)));
    let ordered = if wanted.acme { issued } else { &[] };
    let shown: Vec<Certificate> = wanted.certificates.iter().chain(ordered).cloned().collect();
    if let Some((known, tls, live)) = before
        && known.spec.protocols == spec.protocols
        && tls == wanted
        && tls.says_the_same(wanted)
        && are_the_same(live.certificates.all(), &shown)
    {
        return Ok(Some(live.clone()));
    }
    let certificates = Arc::new(Certificates::new(shown));
    let before = before.map(|(_, tls, live)| (tls, &*live.config));
    let config = net::server_config(wanted, spec.protocols, certificates.clone(), before)?;
    Ok(Some(Arc::new(LiveTls { config: Arc::new(config), certificates })))
}

fn are_the_same(some: &[Certificate], others: &[Certificate]) -> bool {
    some == others && some.iter().zip(others).all(|(one, other)| one.says_the_same(other))
}

fn explain(spec: &Listener, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop what listens there (a listener that was just removed may still drain) or choose \
             another address"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    };
    format!("cannot listen on {}: {error}{help}", spec.address)
}
