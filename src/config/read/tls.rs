//! Certificates, keys and authorities: their files are read here, so that whatever is wrong with them is told
//! at the place that names them.

use super::super::{
    keys::{self, ClientAuth as ClientAuthKey},
    problem::quote,
    reader::{At, Field, Reader},
};
use crate::spec::{
    Authority, Certificate, CertificateError, ClientAuth, KeyPair, ListenerTls, PoolTls,
};
use jiff::Timestamp;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

/// `None` only if something was reported.
pub(super) fn listener_tls(
    reader: &mut Reader<'_>,
    at: At<keys::ListenerTls>,
) -> Option<ListenerTls> {
    let keys = at.value;
    let acme = keys.acme.or(false);
    if let Field::Absent = keys.certificates
        && !acme
        && !reader.is_misspelt(at.node, "certificates")
        && !reader.is_misspelt(at.node, "acme")
    {
        reader.key_problem(
            reader.place(at.node),
            at.node,
            "certificates",
            "the key `certificates` is missing",
            "add it, such as `certificates: [{ cert: shop.crt, key: shop.key }]`, or `acme: true` where \
             certificates are ordered",
        );
    }
    let certificates = certificates(reader, keys.certificates.or(Vec::new()));
    if let (Some(place), None) = (keys.client_auth.node(), keys.client_ca.node())
        && !reader.is_misspelt(at.node, "client_ca")
    {
        reader.problem(
            place,
            "`client_auth` says how clients prove who they are, and nobody vouches for them",
            "add `client_ca`, or remove `client_auth`",
        );
    }
    let required = keys.client_auth.or(ClientAuthKey::Required) == ClientAuthKey::Required;
    let client_auth = match keys.client_ca {
        Field::Good(ca) => Some(ClientAuth { ca: authority(reader, ca)?, required }),
        Field::Absent => None,
        Field::Bad(_) => return None,
    };
    let mut tls = ListenerTls::new(certificates);
    tls.client_auth = client_auth;
    tls.acme = acme;
    tls.min_version = keys.min_version.or(tls.min_version);
    tls.resumption = keys.resumption.or(tls.resumption);
    (tls.acme || !tls.certificates.is_empty()).then_some(tls)
}

/// Those that are good.
pub(super) fn certificates(
    reader: &mut Reader<'_>,
    sections: Vec<At<keys::CertificateSection>>,
) -> Vec<Certificate> {
    let mut certificates = Vec::new();
    for At { value, .. } in sections {
        let (Field::Good(cert), Field::Good(key)) = (value.cert, value.key) else { continue };
        certificates.extend(certificate(reader, cert, key));
    }
    certificates
}

/// `None` only if something was reported.
pub(super) fn pool_tls(reader: &mut Reader<'_>, at: At<keys::PoolTls>) -> Option<PoolTls> {
    let keys = at.value;
    let ca = match keys.ca {
        Field::Good(ca) => Some(authority(reader, ca)?),
        Field::Absent => None,
        Field::Bad(_) => return None,
    };
    let (cert_place, key_place) = (keys.cert.node(), keys.key.node());
    let identity = match (keys.cert, keys.key) {
        (Field::Good(cert), Field::Good(key)) => Some(certificate(reader, cert, key)?),
        _ => None,
    };
    let misspelt = |key| reader.is_misspelt(at.node, key);
    match (cert_place, key_place) {
        (Some(place), None) if !misspelt("key") => {
            reader.problem(place, "a certificate without its key", "add `key`, or remove `cert`");
        }
        (None, Some(place)) if !misspelt("cert") => {
            reader.problem(place, "a key without its certificate", "add `cert`, or remove `key`");
        }
        _ => {}
    }
    Some(PoolTls { ca, server_name: keys.server_name.value().map(Into::into), identity })
}

fn certificate(
    reader: &mut Reader<'_>,
    cert: At<PathBuf>,
    key: At<PathBuf>,
) -> Option<Certificate> {
    if reader.surroundings.own {
        return Some(own_certificate(reader, &cert.value, &key.value));
    }
    let certificate = file(reader, &cert, "certificate");
    let private_key = file(reader, &key, "key");
    let ((cert_path, certificate), (key_path, private_key)) = (certificate?, private_key?);
    match KeyPair::from_pem(&certificate, &private_key) {
        Ok(pair) => {
            warn_of_dates(reader, &cert, &pair);
            Some(Certificate { cert: cert_path, key: key_path, pair: Arc::new(pair) })
        }
        Err(error) => {
            let concerns_cert =
                matches!(error, CertificateError::NoCertificate | CertificateError::Malformed(_));
            explain(reader, if concerns_cert { &cert } else { &key }, &error);
            None
        }
    }
}

/// Of what was in force once: the files may have changed since, or be gone.
fn own_certificate(reader: &mut Reader<'_>, cert: &Path, key: &Path) -> Certificate {
    let ((cert, certificate), (key, private_key)) = (reader.file(cert), reader.file(key));
    let pair = match (certificate, private_key) {
        (Ok(certificate), Ok(private_key)) => KeyPair::from_pem(&certificate, &private_key).ok(),
        _ => None,
    };
    let pair = Arc::new(pair.unwrap_or_else(KeyPair::absent));
    Certificate { cert: cert.into(), key: key.into(), pair }
}

pub(super) fn authority(reader: &mut Reader<'_>, ca: At<PathBuf>) -> Option<Authority> {
    if reader.surroundings.own {
        let (path, content) = reader.file(&ca.value);
        let path: Arc<Path> = path.into();
        let read = content.ok().and_then(|pem| Authority::from_pem(path.clone(), &pem).ok());
        return Some(read.unwrap_or_else(|| Authority::absent(path)));
    }
    let (path, pem) = file(reader, &ca, "file of authorities")?;
    Authority::from_pem(path, &pem).map_err(|error| explain(reader, &ca, &error)).ok()
}

/// Where the file is, and what is in it.
pub(super) fn file(
    reader: &mut Reader<'_>,
    at: &At<PathBuf>,
    what: &str,
) -> Option<(Arc<Path>, Vec<u8>)> {
    let (path, content) = reader.file(&at.value);
    match content {
        Ok(content) => Some((path.into(), content)),
        Err(why) => {
            let message = format!("the {what} {} cannot be read: {why}", shown(&path));
            reader.problem(at.node, message, "check the path and who may read it");
            None
        }
    }
}

fn shown(path: &Path) -> String {
    quote(&path.display().to_string())
}

fn explain(reader: &mut Reader<'_>, at: &At<PathBuf>, error: &CertificateError) {
    let name = shown(&at.value);
    let (message, fix) = match error {
        CertificateError::NoCertificate => (
            format!("there is no certificate in {name}"),
            "name a PEM file: the certificate first, then its intermediates",
        ),
        CertificateError::Malformed(why) => (
            format!("a certificate in {name} cannot be read: {}", quote(why)),
            "name a PEM file with whole X.509 certificates",
        ),
        CertificateError::NoKey => (
            format!("there is no private key in {name}"),
            "name a PEM file with the private key (PKCS #8, PKCS #1 or SEC1)",
        ),
        CertificateError::EncryptedKey => (
            format!("the key in {name} is encrypted"),
            "decrypt it (`openssl pkey -in KEY -out PLAIN`) and let only this process read it",
        ),
        CertificateError::UnusableKey(why) => (
            format!("the key in {name} cannot be used: {}", quote(why)),
            "use an ECDSA (P-256, P-384, P-521), Ed25519 or RSA key (2048 bits or more)",
        ),
        CertificateError::Mismatch => (
            format!("the key in {name} is not the certificate's"),
            "name the key that the certificate was issued for; the certificate comes first in its file",
        ),
    };
    reader.problem(at.node, message, fix);
}

/// It may be wanted all the same: for a test, or because the clock is wrong.
fn warn_of_dates(reader: &mut Reader<'_>, cert: &At<PathBuf>, pair: &KeyPair) {
    let now = reader.surroundings.now;
    let now = now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let day = |seconds| {
        Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |at| at.to_string())
    };
    let name = shown(&cert.value);
    if pair.not_after < now {
        let message = format!("the certificate {name} expired at {}", day(pair.not_after));
        reader.warn(cert.node, message, "renew it: clients refuse it");
    } else if pair.not_before > now {
        let message =
            format!("the certificate {name} is not valid before {}", day(pair.not_before));
        reader.warn(cert.node, message, "check the clock of this machine, or wait");
    }
}
