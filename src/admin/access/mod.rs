//! Who asks, and whether they may.

mod buckets;
mod certificate;
mod peer;

pub(super) use buckets::Buckets;
pub(super) use certificate::ClientCertificate;
pub(super) use peer::{Peer, Source, UnixPeer};

use super::{dashboard, problem::Problem};
use crate::spec::{self, Name, Role, Secret, UnixWho};
use axum::http::{HeaderMap, Method, header};
use std::time::{Duration, Instant};

/// Who makes the changes of those who need not say who they are.
const NOBODY: &str = "api";

/// Wrong tokens of one source at once.
pub(super) const WRONG_BURST: u32 = 20;

/// After this long one more is forgiven.
pub(super) const WRONG_EACH: Duration = Duration::from_secs(1);

/// Wrong tokens, by who has shown them.
pub(super) type Failures = Buckets<Source>;

/// Who asks, as far as it is known, and what they may.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) author: Name,
    pub(super) role: Role,
    pub(super) by: By,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// It is not: whoever reaches the address may ask.
    Address,
    Token,
    Certificate,
    /// The system says whose process is at the other end of a unix socket.
    Unix,
}

impl Default for Caller {
    fn default() -> Self {
        Self { author: NOBODY.into(), role: Role::Approver, by: By::Address }
    }
}

impl By {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Unix => "unix",
        }
    }
}

/// Why somebody may not.
#[derive(Debug)]
pub(super) enum Denied {
    /// They did not show what it takes.
    Unknown,
    /// What they showed is good for nothing.
    Wrong,
    /// Too many before were wrong.
    Limited(Duration),
    /// Somebody without any role, which this key could give.
    Stranger(Name, By, &'static str),
    /// Somebody who may less.
    Role(Caller),
}

/// Who asks; `None` where everybody may.
///
/// # Errors
/// When they may not.
pub(super) fn admit(
    settings: &spec::Admin,
    failures: &Failures,
    peer: &Peer,
    (method, path, headers): (&Method, &str, &HeaderMap),
    now: Instant,
) -> Result<Option<Caller>, Denied> {
    let Some(needed) = needed(settings, method, path) else { return Ok(None) };
    let caller = match bearer(headers) {
        Some(shown) => {
            let source = peer.source();
            if let Some(wait) = failures.wait(source, now) {
                return Err(Denied::Limited(wait));
            }
            let caller = shown.and_then(|token| by_token(settings, token));
            caller.ok_or_else(|| {
                failures.count(source, now);
                Denied::Wrong
            })?
        }
        None => by_peer(settings, peer)?,
    };
    if caller.role < needed {
        return Err(Denied::Role(caller));
    }
    Ok(Some(caller))
}

/// What a request takes; `None`: nothing.
fn needed(settings: &spec::Admin, method: &Method, path: &str) -> Option<Role> {
    let looks = method == Method::GET || method == Method::HEAD;
    match path {
        "/healthz" | "/readyz" => None,
        "/metrics" if settings.public_metrics => None,
        _ if looks && dashboard::is_asset(path) => None,
        _ if looks => Some(Role::Viewer),
        _ => Some(Role::Operator),
    }
}

/// What is shown as a token (RFC 6750 section 2.1). `Some(None)`: something else than one token is.
fn bearer(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let first = shown.next()?.as_bytes();
    if shown.next().is_some() {
        return Some(None);
    }
    let (scheme, token) = first.split_at_checked(7).unwrap_or((first, b""));
    Some(scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii()))
}

fn by_token(settings: &spec::Admin, shown: &[u8]) -> Option<Caller> {
    let shown = Secret::of(shown);
    // All of them, so that the time does not tell which one it is.
    let known = settings
        .tokens
        .iter()
        .fold(None, |found, token| if token.secret.is(&shown) { Some(token) } else { found })?;
    Some(Caller { author: known.name.clone(), role: known.role, by: By::Token })
}

fn by_peer(settings: &spec::Admin, peer: &Peer) -> Result<Caller, Denied> {
    match peer {
        Peer::Unix(peer) => {
            let role = unix_role(settings, peer);
            let role = role
                .ok_or_else(|| Denied::Stranger(peer.user.clone(), By::Unix, "admin.unix_roles"))?;
            Ok(Caller { author: peer.user.clone(), role, by: By::Unix })
        }
        Peer::Tcp { certificate, .. } => match valid(settings, certificate.as_deref()) {
            Some(certificate) => by_certificate(settings, certificate),
            None if settings.is_guarded() => Err(Denied::Unknown),
            None => Ok(Caller::default()),
        },
    }
}

/// The certificate, if who vouched for it when the connection began still would.
fn valid<'a>(
    settings: &spec::Admin,
    certificate: Option<&'a ClientCertificate>,
) -> Option<&'a ClientCertificate> {
    let (certificate, ca) = (certificate?, settings.client_ca()?);
    (certificate.ca == *ca && certificate.ca.says_the_same(ca)).then_some(certificate)
}

fn by_certificate(
    settings: &spec::Admin,
    certificate: &ClientCertificate,
) -> Result<Caller, Denied> {
    let author = certificate.author.clone();
    let fits = |name: &Option<Name>| name.as_ref().is_none_or(|name| certificate.is_called(name));
    match settings.client_roles.iter().find(|entry| fits(&entry.name)) {
        Some(entry) => Ok(Caller { author, role: entry.role, by: By::Certificate }),
        None => Err(Denied::Stranger(author, By::Certificate, "admin.client_roles")),
    }
}

fn unix_role(settings: &spec::Admin, peer: &UnixPeer) -> Option<Role> {
    if peer.is_master || settings.unix_roles.is_empty() {
        return Some(Role::Approver);
    }
    let fits = |who: &UnixWho| match who {
        UnixWho::Anybody => true,
        UnixWho::User(user) => peer.is_called(user),
        UnixWho::Group(group) => peer.is_in(group),
    };
    settings.unix_roles.iter().find(|entry| fits(&entry.who)).map(|entry| entry.role)
}

impl Denied {
    /// Who it was, if that is known.
    pub(super) fn who(&self) -> Option<(&Name, By, Option<Role>)> {
        match self {
            Self::Unknown | Self::Wrong | Self::Limited(_) => None,
            Self::Stranger(who, by, _) => Some((who, *by, None)),
            Self::Role(caller) => Some((&caller.author, caller.by, Some(caller.role))),
        }
    }
}

impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::Unknown => Self::unknown(
                "send `Authorization: Bearer TOKEN` with one of admin.tokens, or show a client certificate \
                     where admin.client_ca is set",
            ),
            Denied::Wrong => {
                Self::wrong_token("the token is not one of admin.tokens; it may have been replaced")
            }
            Denied::Limited(wait) => Self::limited(*wait),
            Denied::Stranger(who, _, key) => {
                Self::forbidden(format!("{who} has no role here; roles are given by {key}"))
            }
            Denied::Role(caller) => Self::forbidden(format!(
                "{} has the role {}; this needs the role {}",
                caller.author,
                caller.role.as_str(),
                Role::Operator.as_str()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Token, UnixRole};
    use axum::http::HeaderValue;
    use std::path::Path;

    const GOOD: &str = "a-good-token-0123";
    const CI: &str = "another-good-token";
    const ANN: &str = "a-third-good-token";

    fn settings() -> spec::Admin {
        let token = |name: &str, secret: &str, role| Token {
            name: name.into(),
            file: Path::new(name).into(),
            role,
            secret: Secret::of(secret.as_bytes()),
        };
        let tokens = vec![
            token("eye", GOOD, Role::Viewer),
            token("ci", CI, Role::Operator),
            token("ann", ANN, Role::Approver),
        ];
        spec::Admin { tokens, ..spec::Admin::default() }
    }

    fn tcp() -> Peer {
        let local = "127.0.0.1:1".parse().unwrap();
        Peer::Tcp { local, remote: "10.0.0.1:2".parse().unwrap(), certificate: None }
    }

    fn unix(user: &str, uid: u32, groups: &[&str]) -> Peer {
        let groups = groups.iter().map(|&group| group.into()).collect();
        Peer::Unix(
            UnixPeer { uid, pid: None, user: user.into(), groups, is_master: uid == 0 }.into(),
        )
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn why(denied: &Denied) -> &'static str {
        match denied {
            Denied::Unknown => "no_token",
            Denied::Wrong => "wrong_token",
            Denied::Limited(_) => "limited",
            Denied::Stranger(..) => "no_role",
            Denied::Role(_) => "wrong_role",
        }
    }

    /// The author, or why not.
    fn ask(
        settings: &spec::Admin,
        peer: &Peer,
        method: Method,
        path: &str,
        shown: &[&str],
    ) -> Result<String, &'static str> {
        let failures = Failures::new(WRONG_BURST, WRONG_EACH);
        let asked = (&method, path, &headers(shown));
        match admit(settings, &failures, peer, asked, Instant::now()) {
            Ok(caller) => Ok(caller.map_or("anybody".into(), |caller| caller.author.to_string())),
            Err(denied) => Err(why(&denied)),
        }
    }

    #[test]
    fn a_token_says_who_and_what() {
        let (settings, peer) = (settings(), tcp());
        let get = |shown: &[&str]| ask(&settings, &peer, Method::GET, "/v1/status", shown);
        let put = |shown: &[&str]| ask(&settings, &peer, Method::PUT, "/v1/config", shown);
        let (eye, ci) = (format!("Bearer {GOOD}"), format!("bEARER   {CI} "));
        assert_eq!(get(&[&eye]), Ok("eye".into()));
        assert_eq!(get(&[&ci]), Ok("ci".into()));
        assert_eq!(put(&[&ci]), Ok("ci".into()));
        assert_eq!(put(&[&eye]), Err("wrong_role"));
        assert_eq!(put(&[&format!("Bearer {ANN}")]), Ok("ann".into()), "operators may no more");
        assert_eq!(get(&[]), Err("no_token"));
        for wrong in [
            "Bearer",
            "Bearer ",
            "",
            "Basic YTpi",
            GOOD,
            "Bearer a-good-token-012",
            "Bearer x",
            "Token a-good-token-0123",
            "Bearer a-good-token-0123,a-good-token-0123",
        ] {
            assert_eq!(get(&[wrong]), Err("wrong_token"), "{wrong}");
        }
        assert_eq!(get(&[&eye, &eye]), Err("wrong_token"), "one is enough");
    }

    #[test]
    fn some_things_are_for_anybody() {
        let mut settings = settings();
        for path in ["/healthz", "/readyz"] {
            let asked = ask(&settings, &tcp(), Method::GET, path, &["Bearer wrong"]);
            assert_eq!(asked, Ok("anybody".into()), "{path}");
        }
        let metrics = |settings: &spec::Admin| ask(settings, &tcp(), Method::GET, "/metrics", &[]);
        assert_eq!(metrics(&settings), Err("no_token"));
        settings.public_metrics = true;
        assert_eq!(metrics(&settings), Ok("anybody".into()));
        for path in ["/", "/assets/app.js", "/assets/none"] {
            assert_eq!(ask(&settings, &tcp(), Method::GET, path, &[]), Ok("anybody".into()));
            assert_eq!(ask(&settings, &tcp(), Method::POST, path, &[]), Err("no_token"), "{path}");
        }
        for path in [
            "/healthz/",
            "//healthz",
            "/v1/healthz",
            "/metrics/",
            "//",
            "/assets",
            "/assets/",
            "/assets/../v1/config",
            "/assets/a/b",
            "/v1/me",
            "/v1/events",
        ] {
            let asked = ask(&settings, &tcp(), Method::GET, path, &[]);
            assert_eq!(asked, Err("no_token"), "{path}");
        }
    }

    #[test]
    fn without_tokens_the_address_is_enough_but_a_wrong_token_is_wrong() {
        let open = spec::Admin::default();
        let put = |shown: &[&str]| ask(&open, &tcp(), Method::PUT, "/v1/config", shown);
        assert_eq!(put(&[]), Ok("api".into()));
        assert_eq!(put(&["Bearer a-good-token-0123"]), Err("wrong_token"));
    }

    #[test]
    fn users_of_a_unix_socket_have_roles() {
        let mut settings = spec::Admin::default();
        let put = |settings: &spec::Admin, peer: &Peer| {
            ask(settings, peer, Method::PUT, "/v1/config", &[])
        };
        let (deploy, eve) = (unix("deploy", 1000, &["deploy", "ops"]), unix("eve", 1001, &["eve"]));
        assert_eq!(put(&settings, &eve), Ok("eve".into()), "whoever can open it may");
        let role = |who, role| UnixRole { who, role };
        settings.unix_roles = vec![
            role(UnixWho::User("1001".into()), Role::Viewer),
            role(UnixWho::Group("ops".into()), Role::Operator),
        ];
        assert_eq!(put(&settings, &eve), Err("wrong_role"));
        assert_eq!(put(&settings, &deploy), Ok("deploy".into()));
        assert_eq!(put(&settings, &unix("bob", 1002, &["users"])), Err("no_role"));
        assert_eq!(put(&settings, &unix("root", 0, &[])), Ok("root".into()));
        settings.unix_roles = vec![role(UnixWho::Anybody, Role::Viewer)];
        assert_eq!(put(&settings, &deploy), Err("wrong_role"), "the first that fits decides");
        let with_token = |shown| ask(&self::settings(), &eve, Method::PUT, "/v1/config", &[shown]);
        assert_eq!(with_token("Bearer another-good-token"), Ok("ci".into()));
        assert_eq!(with_token("Bearer nonsense"), Err("wrong_token"), "it is not ignored");
    }

    #[test]
    fn whoever_is_asked_for_nothing_may_approve_and_others_by_their_role() {
        let role = |settings: &spec::Admin, peer: &Peer, shown: &[&str]| {
            let failures = Failures::new(WRONG_BURST, WRONG_EACH);
            let asked = (&Method::GET, "/v1/status", &headers(shown));
            admit(settings, &failures, peer, asked, Instant::now()).unwrap().unwrap().role
        };
        let open = spec::Admin::default();
        assert_eq!(role(&open, &tcp(), &[]), Role::Approver);
        assert_eq!(role(&open, &unix("eve", 1001, &[]), &[]), Role::Approver);
        let guarded = settings();
        assert_eq!(role(&guarded, &tcp(), &[&format!("Bearer {CI}")]), Role::Operator);
        assert_eq!(role(&guarded, &tcp(), &[&format!("Bearer {ANN}")]), Role::Approver);
        let unix_roles = vec![UnixRole { who: UnixWho::Anybody, role: Role::Operator }];
        let socket = spec::Admin { unix_roles, ..open };
        assert_eq!(role(&socket, &unix("eve", 1001, &[]), &[]), Role::Operator);
        assert_eq!(role(&socket, &unix("root", 0, &[]), &[]), Role::Approver);
    }

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let (settings, failures, now) =
            (settings(), Failures::new(WRONG_BURST, WRONG_EACH), Instant::now());
        let ask = |peer: &Peer, shown: &str, now| {
            let asked = (&Method::GET, "/v1/status", &headers(&[shown]));
            admit(&settings, &failures, peer, asked, now).map(drop).map_err(|it| why(&it))
        };
        let good = format!("Bearer {GOOD}");
        for _ in 0..WRONG_BURST {
            assert_eq!(ask(&tcp(), "Bearer guess", now), Err("wrong_token"));
        }
        assert_eq!(ask(&tcp(), "Bearer guess", now), Err("limited"));
        assert_eq!(ask(&tcp(), &good, now), Err("limited"), "nor is it told that this is right");
        let local = "127.0.0.1:1".parse().unwrap();
        let elsewhere =
            Peer::Tcp { local, remote: "10.0.0.2:2".parse().unwrap(), certificate: None };
        assert_eq!(ask(&elsewhere, &good, now), Ok(()));
        assert_eq!(ask(&tcp(), &good, now + WRONG_EACH), Ok(()));
    }
}
