use crate::spec::{Authority, Name};
use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// In characters.
const LONGEST_AUTHOR: usize = 100;

/// The certificate of a client, which was found good.
#[derive(Debug)]
pub(in crate::admin) struct ClientCertificate {
    /// Who vouched for it then.
    pub(super) ca: Authority,
    /// The common name first, then the alternative ones.
    names: Vec<Name>,
    /// The first of the names, fit to be read by people.
    pub(in crate::admin) author: Name,
}

impl ClientCertificate {
    pub(in crate::admin) fn new(der: &[u8], ca: Authority) -> Self {
        let names = names(der);
        let author = match names.first() {
            Some(name) => plain(name),
            None => {
                let hash = digest(&SHA256, der);
                let hash = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
                format!("certificate:{}", hash.collect::<String>())
            }
        };
        Self { ca, names, author: author.into() }
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|of| **of == *name)
    }
}

fn names(der: &[u8]) -> Vec<Name> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<Name> = common.map(Name::from).collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                Some(Name::from(*name))
            }
            _ => None,
        }));
    }
    names.retain(|name| !name.is_empty());
    names
}

fn plain(name: &str) -> String {
    let readable = |c: char| if c.is_control() { '?' } else { c };
    name.chars().take(LONGEST_AUTHOR).map(readable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
    use std::path::Path;

    fn certificate(common: Option<&str>, uri: Option<&str>) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names =
            uri.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())).collect();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let ca = Authority::from_pem(Path::new("ca").into(), made.pem().as_bytes()).unwrap();
        ClientCertificate::new(made.der(), ca)
    }

    #[test]
    fn it_is_called_by_its_names() {
        let both = certificate(Some("deploy"), Some("spiffe://test/ci"));
        assert_eq!(&*both.author, "deploy");
        assert!(both.is_called("deploy") && both.is_called("spiffe://test/ci"));
        assert!(!both.is_called("Deploy") && !both.is_called("") && !both.is_called("ci"));
        let one = certificate(None, Some("spiffe://test/ci"));
        assert_eq!(&*one.author, "spiffe://test/ci");
        let none = certificate(None, None);
        assert!(
            none.author.starts_with("certificate:") && none.author.len() == 28,
            "{}",
            none.author
        );
        assert!(!none.is_called("") && !none.is_called(&none.author));
    }

    #[test]
    fn an_author_can_be_read_by_people() {
        let long = certificate(Some(&format!("a\u{1b}[31m\n{}", "é".repeat(200))), None);
        assert!(long.author.starts_with("a?[31m?é"), "{}", long.author);
        assert_eq!(long.author.chars().count(), LONGEST_AUTHOR);
        let garbage = ClientCertificate::new(b"garbage", long.ca.clone());
        assert!(garbage.author.starts_with("certificate:"));
    }
}
