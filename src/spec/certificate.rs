//! Certificates and keys, read from the bytes of their files (PEM, RFC 7468). What the files say may change
//! while their names stay: two of them are equal when they are from the same files.

use rustls::{
    InconsistentKeys, RootCertStore, SignatureAlgorithm, SignatureScheme,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::{CertifiedKey, Signer, SigningKey},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use std::{
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, OnceLock},
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, x509::X509Name,
};

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Certificate {
    pub cert: Arc<Path>,
    pub key: Arc<Path>,
    pub pair: Arc<KeyPair>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.cert, &self.key) == (&other.cert, &other.key)
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.cert.display())
    }
}

impl Certificate {
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.pair.certified.cert == other.pair.certified.cert
    }
}

/// What the files of a certificate say.
pub struct KeyPair {
    pub certified: Arc<CertifiedKey>,
    pub names: CertificateNames,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.names)
    }
}

/// Why files are of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    NoCertificate,
    /// A certificate, or the PEM around it, cannot be read.
    Malformed(String),
    NoKey,
    /// The key needs a passphrase.
    EncryptedKey,
    /// The key cannot be read, or is of a kind that is not supported.
    UnusableKey(String),
    /// The key is another certificate's.
    Mismatch,
}

impl KeyPair {
    /// # Errors
    /// When these are no certificate (first, then its intermediates) and its key.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = certificates(cert)?;
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        let (names, not_before, not_after) = {
            let (_, leaf) = X509Certificate::from_der(leaf).map_err(malformed)?;
            let validity = leaf.validity();
            let names = CertificateNames::of(&leaf);
            (names, validity.not_before.timestamp(), validity.not_after.timestamp())
        };
        let certified = CertifiedKey::from_der(chain, private_key(key)?, crypto_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch
            }
            rustls::Error::InvalidCertificate(error) => malformed(error),
            error => CertificateError::UnusableKey(error.to_string()),
        })?;
        Ok(Self { certified: Arc::new(certified), names, not_before, not_after })
    }

    /// In place of files that cannot be read any more. Nothing with it may be put in force.
    pub fn absent() -> Self {
        Self {
            certified: Arc::new(CertifiedKey::new(Vec::new(), Arc::new(NoKey))),
            names: CertificateNames::default(),
            not_before: 0,
            not_after: 0,
        }
    }

    pub fn is_absent(&self) -> bool {
        self.certified.cert.is_empty()
    }
}

/// Signs nothing.
#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

/// Who vouches for certificates.
#[derive(Clone)]
pub struct Authority {
    pub file: Arc<Path>,
    pub roots: Arc<RootCertStore>,
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for Authority {}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.file.display())
    }
}

impl Authority {
    /// # Errors
    /// When there is no certificate, or one that cannot be read.
    pub fn from_pem(file: Arc<Path>, pem: &[u8]) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            roots.add(certificate).map_err(malformed)?;
        }
        if roots.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        Ok(Self { file, roots: Arc::new(roots) })
    }

    pub fn says_the_same(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }

    /// In place of a file that cannot be read any more. Nothing with it may be put in force.
    pub fn absent(file: Arc<Path>) -> Self {
        Self { file, roots: Arc::new(RootCertStore::empty()) }
    }

    pub fn is_absent(&self) -> bool {
        self.roots.is_empty()
    }
}

/// The one provider of cryptography.
pub fn crypto_provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(malformed)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(pem) => CertificateError::EncryptedKey,
        pem::Error::NoItemsFound => CertificateError::NoKey,
        _ if is_encrypted(pem) => CertificateError::EncryptedKey,
        error => CertificateError::UnusableKey(error.to_string()),
    })
}

/// RFC 7468 section 11, and the older form of RFC 1421.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |mark: &[u8]| pem.windows(mark.len()).any(|window| window == mark);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn malformed(error: impl fmt::Display) -> CertificateError {
    CertificateError::Malformed(error.to_string())
}

/// Whom a certificate is for, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    pub exact: Vec<Box<str>>,
    /// `*.example.com`, kept without `*.`: any one label before `example.com`.
    pub wildcards: Vec<Box<str>>,
    pub addresses: Vec<IpAddr>,
}

impl CertificateNames {
    /// Of the alternative names; a certificate without any is for its common name, as it was before
    /// RFC 6125.
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
            for name in &alternatives.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.add(name),
                    GeneralName::IPAddress(octets) => names.addresses.extend(address(octets)),
                    _ => {}
                }
            }
        }
        if names.is_empty()
            && let Some(name) = common_name(certificate.subject())
        {
            names.add(name);
        }
        names
    }

    fn add(&mut self, name: &str) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(rest) if !rest.is_empty() => self.wildcards.push(rest.into()),
            Some(_) => {}
            None => match name.parse() {
                Ok(address) => self.addresses.push(address),
                Err(_) if !name.is_empty() => self.exact.push(name.into()),
                Err(_) => {}
            },
        }
    }

    /// As they are written: exact ones, those with `*.`, addresses.
    pub fn list(&self) -> impl Iterator<Item = String> {
        let exact = self.exact.iter().map(ToString::to_string);
        let wildcards = self.wildcards.iter().map(|rest| format!("*.{rest}"));
        exact.chain(wildcards).chain(self.addresses.iter().map(ToString::to_string))
    }

    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    /// The certificate is for `host`, which has no port (RFC 9525 section 6): a name in any case, an address,
    /// an IPv6 address also in brackets.
    pub fn cover(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let is = |name: &str| name.eq_ignore_ascii_case(host);
        if self.exact.iter().any(|name| is(name)) {
            return true;
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        if let Some(parent) = parent
            && self.wildcards.iter().any(|rest| rest.eq_ignore_ascii_case(parent))
        {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        !self.addresses.is_empty()
            && bare.parse().is_ok_and(|address| self.addresses.contains(&address))
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list().collect::<Vec<_>>().join(", "))
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

fn common_name<'a>(subject: &'a X509Name<'_>) -> Option<&'a str> {
    subject.iter_common_name().next()?.as_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair as RcgenKey};

    fn made(names: &[&str], common_name: &str) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = RcgenKey::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn read(cert: &str, key: &str) -> Result<KeyPair, CertificateError> {
        KeyPair::from_pem(cert.as_bytes(), key.as_bytes())
    }

    #[test]
    fn names_are_those_of_the_alternative_names() {
        let (cert, key) = made(&["Shop.example.com", "*.shop.example.com", "192.0.2.7"], "other");
        let names = read(&cert, &key).unwrap().names;
        for host in
            ["shop.example.com", "SHOP.example.COM.", "a.shop.example.com", "A.Shop.Example.com"]
        {
            assert!(names.cover(host), "{host}");
        }
        assert!(names.cover("192.0.2.7"));
        for host in
            ["example.com", "a.b.shop.example.com", ".shop.example.com.x", "other", "", "192.0.2.8"]
        {
            assert!(!names.cover(host), "{host}");
        }
        assert_eq!(names.to_string(), "shop.example.com, *.shop.example.com, 192.0.2.7");
    }

    #[test]
    fn a_certificate_without_alternative_names_is_for_its_common_name() {
        let (cert, key) = made(&[], "localhost");
        let names = read(&cert, &key).unwrap().names;
        assert!(names.cover("localhost") && !names.cover("example.com"));
    }

    #[test]
    fn addresses_are_compared_as_such() {
        let (cert, key) = made(&["2001:db8::1"], "x");
        let names = read(&cert, &key).unwrap().names;
        assert!(names.cover("[2001:DB8:0::1]") && names.cover("2001:db8::1"));
        assert!(!names.cover("[2001:db8::2]"));
    }

    #[test]
    fn what_is_wrong_with_files() {
        let (cert, key) = made(&["a.example"], "a");
        let (_, other) = made(&["b.example"], "b");
        let wrong = |cert: &str, key: &str| read(cert, key).err().unwrap();
        assert_eq!(wrong("", &key), CertificateError::NoCertificate);
        assert_eq!(wrong(&key, &key), CertificateError::NoCertificate);
        assert_eq!(wrong(&cert, ""), CertificateError::NoKey);
        assert_eq!(wrong(&cert, &cert), CertificateError::NoKey);
        assert_eq!(wrong(&cert, &other), CertificateError::Mismatch);
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(wrong(&cert, &encrypted), CertificateError::EncryptedKey);
        let cut = &cert[..cert.len() / 2];
        assert!(matches!(wrong(cut, &key), CertificateError::Malformed(_)));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(wrong(junk, &key), CertificateError::Malformed(_)));
        let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(wrong(&cert, junk), CertificateError::UnusableKey(_)));
    }

    #[test]
    fn an_authority_has_a_certificate() {
        let file: Arc<Path> = Path::new("ca.pem").into();
        let (cert, key) = made(&["a.example"], "a");
        let ca = Authority::from_pem(file.clone(), cert.as_bytes()).unwrap();
        assert_eq!(ca.roots.len(), 1);
        let none = Authority::from_pem(file, key.as_bytes()).err();
        assert_eq!(none, Some(CertificateError::NoCertificate));
    }

    #[test]
    fn files_are_equal_by_name_and_tell_when_they_are_renewed() {
        let certificate = |(cert, key): (String, String)| Certificate {
            cert: Path::new("a.crt").into(),
            key: Path::new("a.key").into(),
            pair: Arc::new(read(&cert, &key).unwrap()),
        };
        let (old, new) = (certificate(made(&["a"], "a")), certificate(made(&["a"], "a")));
        assert!(old == new && !old.says_the_same(&new) && old.says_the_same(&old.clone()));
    }
}
