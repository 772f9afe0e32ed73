use super::{Authority, Certificate, Name, Spec, Token};
use std::path::Path;

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// From files; at least one without `acme`. The first is shown to clients that ask for no name, or for one
    /// that none has.
    pub certificates: Vec<Certificate>,
    /// Those that are ordered are shown too, after these.
    pub acme: bool,
    /// `None`: clients are not asked for a certificate.
    pub client_auth: Option<ClientAuth>,
    pub min_version: TlsVersion,
    /// Clients may resume sessions.
    pub resumption: bool,
}

impl ListenerTls {
    pub fn new(certificates: Vec<Certificate>) -> Self {
        Self {
            certificates,
            acme: false,
            client_auth: None,
            min_version: TlsVersion::default(),
            resumption: true,
        }
    }
}

impl ListenerTls {
    /// The files of an equal one say the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        all_the_same(&self.certificates, &other.certificates, Certificate::says_the_same)
            && all_the_same(self.authority(), other.authority(), Authority::says_the_same)
    }

    fn authority(&self) -> Option<&Authority> {
        self.client_auth.as_ref().map(|auth| &auth.ca)
    }
}

/// Whose certificates clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    pub ca: Authority,
    /// A client without a certificate is refused.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    #[default]
    V12,
    V13,
}

/// How the backends of a pool are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolTls {
    /// Who vouches for them; `None`: whom the system trusts.
    pub ca: Option<Authority>,
    /// The name that they must prove, which is also asked for; `None`: the host of their address.
    pub server_name: Option<Name>,
    /// What is shown to backends that ask for it.
    pub identity: Option<Certificate>,
}

impl PoolTls {
    /// The files of an equal one say the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        all_the_same(&self.identity, &other.identity, Certificate::says_the_same)
            && all_the_same(&self.ca, &other.ca, Authority::says_the_same)
    }
}

fn all_the_same<T>(
    some: impl IntoIterator<Item = T>,
    others: impl IntoIterator<Item = T>,
    same: impl Fn(T, T) -> bool,
) -> bool {
    some.into_iter().zip(others).all(|(one, other)| same(one, other))
}

impl Spec {
    /// Takes what the same files say in `other`. That is no change of the spec: files that are renewed are
    /// still the same files.
    pub fn renew_from(&mut self, other: &Self) {
        let (certificates, authorities, tokens) = other.files();
        for mine in self.certificates_mut() {
            if let Some(theirs) = certificates.iter().find(|theirs| **theirs == mine) {
                *mine = (*theirs).clone();
            }
        }
        for mine in self.authorities_mut() {
            if let Some(theirs) = authorities.iter().find(|theirs| **theirs == mine) {
                *mine = (*theirs).clone();
            }
        }
        for mine in &mut self.admin.tokens {
            if let Some(theirs) = tokens.iter().find(|theirs| **theirs == mine) {
                *mine = (*theirs).clone();
            }
        }
    }

    /// An equal spec's files say something else than these.
    pub fn is_renewed(&self, other: &Self) -> bool {
        let (certificates, authorities, tokens) = self.files();
        let (others, other_authorities, other_tokens) = other.files();
        !(all_the_same(certificates, others, Certificate::says_the_same)
            && all_the_same(authorities, other_authorities, Authority::says_the_same)
            && all_the_same(tokens, other_tokens, |one, other| one.secret.is(&other.secret)))
    }

    /// The certificates, authorities and tokens that were not there when they were read.
    pub fn absent_files(&self) -> Vec<&Path> {
        let (certificates, authorities, tokens) = self.files();
        let tokens = tokens.into_iter().filter(|it| it.secret.is_absent());
        let certificates = certificates.into_iter().filter(|it| it.pair.is_absent());
        let authorities = authorities.into_iter().filter(|it| it.is_absent());
        let authorities = authorities.map(|it| &*it.file);
        certificates
            .map(|it| &*it.cert)
            .chain(authorities)
            .chain(tokens.map(|it| &*it.file))
            .collect()
    }

    fn files(&self) -> (Vec<&Certificate>, Vec<&Authority>, Vec<&Token>) {
        let (mut certificates, mut authorities) = (Vec::new(), Vec::new());
        let listeners = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        for tls in listeners.chain(&self.admin.tls) {
            certificates.extend(&tls.certificates);
            authorities.extend(tls.client_auth.iter().map(|auth| &auth.ca));
        }
        let pools = self.services.values().flat_map(|service| service.pools.values());
        for tls in pools.filter_map(|pool| pool.tls.as_ref()) {
            certificates.extend(&tls.identity);
            authorities.extend(&tls.ca);
        }
        authorities.extend(self.acme.iter().filter_map(|acme| acme.ca.as_ref()));
        (certificates, authorities, self.admin.tokens.iter().collect())
    }

    fn certificates_mut(&mut self) -> impl Iterator<Item = &mut Certificate> {
        let listeners = self.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut());
        let listeners = listeners.chain(&mut self.admin.tls);
        let pools = self.services.values_mut().flat_map(|service| service.pools.values_mut());
        let identities = pools.filter_map(|pool| pool.tls.as_mut()?.identity.as_mut());
        listeners.flat_map(|tls| &mut tls.certificates).chain(identities)
    }

    fn authorities_mut(&mut self) -> impl Iterator<Item = &mut Authority> {
        let listeners = self.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut());
        let of_clients = listeners
            .chain(&mut self.admin.tls)
            .filter_map(|tls| Some(&mut tls.client_auth.as_mut()?.ca));
        let pools = self.services.values_mut().flat_map(|service| service.pools.values_mut());
        let of_acme = self.acme.as_mut().and_then(|acme| acme.ca.as_mut());
        of_clients.chain(pools.filter_map(|pool| pool.tls.as_mut()?.ca.as_mut())).chain(of_acme)
    }
}
