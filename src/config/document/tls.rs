use super::{Detail, Keys, text};
use crate::{
    config::keys::{ClientAuth, ClientAuthKind, TlsVersionKind},
    spec::{Certificate, ListenerTls, PoolTls, TlsVersion},
};
use serde_json::Value;
use std::path::Path;

pub(super) fn listener_tls(tls: &ListenerTls, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    if !tls.certificates.is_empty() {
        keys.set("certificates", certificates(&tls.certificates, detail));
    }
    keys.other("acme", &tls.acme, &false, |on| (*on).into());
    if let Some(auth) = &tls.client_auth {
        keys.set("client_ca", path(&auth.ca.file));
        keys.other("client_auth", &auth.required, &true, |required| {
            let word = if *required { ClientAuth::Required } else { ClientAuth::Optional };
            ClientAuthKind::word(&word).into()
        });
    }
    keys.other("min_version", &tls.min_version, &TlsVersion::default(), |version| {
        TlsVersionKind::word(version).into()
    });
    keys.other("resumption", &tls.resumption, &true, |on| (*on).into());
    keys.into_value()
}

pub(super) fn certificates(certificates: &[Certificate], detail: Detail) -> Value {
    certificates.iter().map(|it| certificate(it, detail)).collect::<Vec<_>>().into()
}

fn certificate(certificate: &Certificate, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    keys.set("cert", path(&certificate.cert));
    keys.set("key", path(&certificate.key));
    keys.into_value()
}

pub(super) fn pool_tls(tls: &PoolTls) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    if let Some(ca) = &tls.ca {
        keys.set("ca", path(&ca.file));
    }
    if let Some(name) = &tls.server_name {
        keys.set("server_name", text(name));
    }
    if let Some(identity) = &tls.identity {
        keys.set("cert", path(&identity.cert));
        keys.set("key", path(&identity.key));
    }
    keys.into_value()
}

pub(super) fn path(path: &Path) -> Value {
    text(&path.display().to_string())
}
