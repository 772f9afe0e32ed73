//! What a TLS handshake has told of a client.

use crate::{live::SameName, routing::Host};
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt::Write;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer,
    x509::X509Name,
};

/// The longest `x-forwarded-client-cert`: a longer one has the hash alone.
const LONGEST_IDENTITY: usize = 8 << 10;

pub(super) struct Secured {
    /// The certificates for the name that it asked for, if it did.
    asked: Option<SameName>,
    /// Who it is, as `x-forwarded-client-cert` says it.
    pub(super) identity: Option<Box<str>>,
}

impl Secured {
    /// `certificate`: the one that it showed, and that was found good.
    pub(super) fn new(asked: Option<SameName>, certificate: Option<&[u8]>) -> Self {
        Self { asked, identity: certificate.map(|der| identity(der).into()) }
    }

    /// What was asked for by TLS is also for this `host` (RFC 9110 section 7.4). Without a name nothing was
    /// asked for.
    pub(super) fn is_for(&self, host: Option<&Host<'_>>) -> bool {
        let (Some(asked), Some(host)) = (&self.asked, host) else { return true };
        let host = std::str::from_utf8(host.as_bytes());
        host.is_ok_and(|host| asked.iter().any(|pair| pair.names.cover(host)))
    }
}

/// The certificate in the form of Envoy's field: elements `Key=value`, which `;` separates. What could be
/// taken for a separator is encoded.
fn identity(der: &[u8]) -> String {
    let mut hash = String::from("Hash=");
    for byte in digest(&SHA256, der).as_ref() {
        append(&mut hash, format_args!("{byte:02x}"));
    }
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return hash };
    let mut identity = format!("{hash};Subject=\"{}\"", distinguished_name(certificate.subject()));
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => append(&mut identity, format_args!(";URI={}", plain(uri))),
                GeneralName::DNSName(name) => {
                    append(&mut identity, format_args!(";DNS={}", plain(name)));
                }
                _ => {}
            }
        }
    }
    if identity.len() > LONGEST_IDENTITY { hash } else { identity }
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a string cannot fail");
}

/// RFC 4514, the most specific part first. Everything but plain text as a hexadecimal pair, so also the quotes
/// that would end the element.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter().collect();
    let mut text = String::new();
    for (place, part) in parts.into_iter().rev().enumerate() {
        for (number, attribute) in part.iter().enumerate() {
            let separator = match (place, number) {
                (0, 0) => "",
                (_, 0) => ",",
                _ => "+",
            };
            text.push_str(separator);
            let oid = attribute.attr_type();
            match oid2abbrev(oid, oid_registry()) {
                Ok(abbreviation) => text.push_str(abbreviation),
                Err(_) => text.push_str(&oid.to_id_string()),
            }
            text.push('=');
            for byte in attribute.attr_value().data {
                match byte {
                    b' ' | b'-' | b'.' | b'/' | b':' | b'@' | b'_' | b'(' | b')' | b'*' | b'\'' => {
                        text.push(char::from(*byte));
                    }
                    _ if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
                    _ => append(&mut text, format_args!("\\{byte:02X}")),
                }
            }
        }
    }
    text
}

/// What is not of a plain name or URI, or would end it, as a percent-encoded byte.
fn plain(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !b"\"\\,;=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            append(&mut text, format_args!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn client(common_name: &str, names: Vec<SanType>) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        identity(certificate.der())
    }

    #[test]
    fn a_client_is_told_as_envoy_tells_it() {
        let names = vec![
            SanType::URI("spiffe://shop/cart".try_into().unwrap()),
            SanType::DnsName("cart.shop".try_into().unwrap()),
            SanType::DnsName("cart".try_into().unwrap()),
        ];
        let told = client("cart 1", names);
        let (hash, rest) = told.split_once(';').unwrap();
        assert!(hash.len() == 69 && hash.starts_with("Hash="), "{hash}");
        assert_eq!(
            rest,
            "Subject=\"CN=cart 1,O=Shop,C=DE\";URI=spiffe://shop/cart;DNS=cart.shop;DNS=cart"
        );
    }

    #[test]
    fn no_name_can_make_up_elements() {
        let names = vec![SanType::URI("a;URI=spiffe://admin,\"\\".try_into().unwrap())];
        let told = client("x\";URI=a,\r\n\u{e9}\\", names);
        assert!(
            told.ends_with(
                "Subject=\"CN=x\\22\\3BURI\\3Da\\2C\\0D\\0A\\C3\\A9\\5C,O=Shop,C=DE\";URI=a%3BURI%3Dspiffe://admin%2C%22%5C"
            ),
            "{told}"
        );
        assert_eq!(told.matches(";URI=").count(), 1);
        assert_eq!(client(&"x".repeat(9000), Vec::new()).len(), 69, "the hash alone");
    }
}
