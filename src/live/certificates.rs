use crate::spec::{Certificate, KeyPair};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{collections::HashMap, sync::Arc};

/// Certificates for one name, one for each kind of key that there is.
pub type SameName = Arc<[Arc<KeyPair>]>;

/// The certificates of a listener, by the names that they are for.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Certificate>,
    exact: HashMap<Box<str>, SameName>,
    /// Without `*.`.
    wildcards: HashMap<Box<str>, SameName>,
    /// The first, and others for the same names.
    first: SameName,
}

impl Certificates {
    pub fn new(certificates: Vec<Certificate>) -> Self {
        let pairs = || certificates.iter().map(|certificate| &certificate.pair);
        let exact = pairs().flat_map(|pair| pair.names.exact.iter().map(move |it| (it, pair)));
        let wildcards =
            pairs().flat_map(|pair| pair.names.wildcards.iter().map(move |it| (it, pair)));
        let first = pairs().next().map(|pair| &pair.names);
        let alike = pairs().filter(|pair| Some(&pair.names) == first);
        let (exact, wildcards) = (by_name(exact), by_name(wildcards));
        let first = alike.cloned().collect();
        Self { exact, wildcards, first, all: certificates }
    }

    /// Those from files in the order of the configuration, then those that were ordered.
    pub fn all(&self) -> &[Certificate] {
        &self.all
    }

    /// Those for the name that a client asks for: of the name itself before those of a wildcard; the first
    /// when there are none, or it asks for none. Empty where there is no certificate at all.
    pub fn of(&self, name: Option<&str>) -> &SameName {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let parent = || name.split_once('.').map(|(_, parent)| parent);
            self.exact.get(&*name).or_else(|| self.wildcards.get(parent()?))
        });
        found.unwrap_or(&self.first)
    }
}

fn by_name<'a>(
    all: impl Iterator<Item = (&'a Box<str>, &'a Arc<KeyPair>)>,
) -> HashMap<Box<str>, SameName> {
    let mut groups: HashMap<Box<str>, Vec<Arc<KeyPair>>> = HashMap::new();
    for (name, pair) in all {
        groups.entry(name.clone()).or_default().push(pair.clone());
    }
    groups.into_iter().map(|(name, pairs)| (name, pairs.into())).collect()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.of(hello.server_name());
        let schemes = hello.signature_schemes();
        let fits = |pair: &&Arc<KeyPair>| pair.certified.key.choose_scheme(schemes).is_some();
        let pair = pairs.iter().find(fits).or(pairs.first())?;
        Some(pair.certified.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        let pair = KeyPair::from_pem(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let path = Path::new("x");
        Certificate { cert: path.into(), key: path.into(), pair: Arc::new(pair) }
    }

    #[test]
    fn the_name_decides() {
        let all = [
            certificate(&["first.example"]),
            certificate(&["*.shop.example", "shop.example"]),
            certificate(&["a.shop.example"]),
            certificate(&["a.shop.example"]),
        ];
        let certificates = Certificates::new(all.to_vec());
        let found = |name: Option<&str>| {
            let found = certificates.of(name);
            let place = |pair: &Arc<KeyPair>| {
                all.iter().position(|certificate| Arc::ptr_eq(&certificate.pair, pair)).unwrap()
            };
            found.iter().map(place).collect::<Vec<_>>()
        };
        for (name, places) in [
            (None, &[0][..]),
            (Some("unknown.example"), &[0]),
            (Some("first.example"), &[0]),
            (Some("Shop.Example"), &[1]),
            (Some("b.shop.example"), &[1]),
            (Some("a.shop.example"), &[2, 3]),
            (Some("x.a.shop.example"), &[0]),
            (Some(""), &[0]),
        ] {
            assert_eq!(found(name), places, "{name:?}");
        }
    }
}
