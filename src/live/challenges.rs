use rustls::ServerConfig;
use std::{collections::HashMap, fmt, sync::Arc};

/// The paths under which names are proven by HTTP (RFC 8555 section 8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The longest token that is taken from an issuer of certificates.
const LONGEST_TOKEN: usize = 256;

/// How it is proven, as long as certificates are being ordered, that their names lead here.
#[derive(Default)]
pub struct Challenges {
    /// What is answered, by token.
    answers: HashMap<Box<str>, Arc<str>>,
    /// What is shown in handshakes (RFC 8737).
    handshakes: Option<Arc<ChallengeHandshakes>>,
}

/// The handshakes by which names are proven.
pub struct ChallengeHandshakes {
    pub config: Arc<ServerConfig>,
    /// In lower case.
    pub names: Vec<Box<str>>,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.handshakes.as_ref().map(|handshakes| &handshakes.names);
        f.debug_struct("Challenges")
            .field("tokens", &self.answers.keys())
            .field("names", &names)
            .finish()
    }
}

impl Challenges {
    /// By HTTP: what is answered to whom asks for each token. A token that no path can have (RFC 8555
    /// section 8.3 allows but base64url) is left out.
    pub fn by_http(answers: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_token = |token: &str| {
            (1..=LONGEST_TOKEN).contains(&token.len())
                && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let answers = answers.into_iter().filter(|(token, _)| is_token(token));
        let answers = answers.map(|(token, answer)| (token.into(), answer.into())).collect();
        Self { answers, handshakes: None }
    }

    pub fn by_tls(handshakes: ChallengeHandshakes) -> Self {
        Self { answers: HashMap::new(), handshakes: Some(Arc::new(handshakes)) }
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.handshakes.is_none()
    }

    /// What is answered to who asks for this path.
    pub fn answer(&self, path: &str) -> Option<&Arc<str>> {
        self.answers.get(path.strip_prefix(PREFIX)?)
    }

    pub fn handshakes(&self) -> Option<&Arc<ChallengeHandshakes>> {
        self.handshakes.as_ref()
    }

    /// A request for this path may be about one of them.
    #[inline]
    pub fn may_concern(path: &str) -> bool {
        path.starts_with(PREFIX)
    }
}

impl ChallengeHandshakes {
    /// The name that the client asks for is being proven.
    pub fn are_for(&self, name: Option<&str>) -> bool {
        name.is_some_and(|asked| self.names.iter().any(|name| name.eq_ignore_ascii_case(asked)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_pending_tokens_are_answered() {
        let pairs = [("tok-en_1", "answer"), ("../x", "no"), ("", "no"), ("a/b", "no")];
        let all = pairs.map(|(token, answer)| (token.to_owned(), answer.to_owned()));
        let challenges = Challenges::by_http(all);
        let answer = |path: &str| challenges.answer(path).map(|answer| answer.to_string());
        assert_eq!(answer("/.well-known/acme-challenge/tok-en_1").as_deref(), Some("answer"));
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../x",
            "/.well-known/acme-challenge/a/b",
            "/.well-known/acme-challenge/tok-en_1/",
            "/.well-known/acme-challenge/TOK-EN_1",
            "/tok-en_1",
            "",
        ] {
            assert_eq!(answer(path), None, "{path}");
        }
        assert!(Challenges::default().is_empty() && !challenges.is_empty());
    }
}
