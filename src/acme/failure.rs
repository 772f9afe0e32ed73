use instant_acme::Error;
use std::{
    fmt, io,
    time::{Duration, Instant},
};

/// Why there is no certificate.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) blame: Blame,
    pub(super) why: String,
    /// The issuer does not know the account (any more).
    pub(super) account_is_gone: bool,
    /// It asked for this pause.
    pub(super) asked: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The issuer could not be asked, or something failed here.
    Unreached,
    /// It has said no: trying again counts against its limits.
    Refused,
}

/// The longest reason that is shown: it comes from outside.
const LONGEST: usize = 1000;

impl Failure {
    pub(super) fn here(why: impl fmt::Display) -> Self {
        Self::new(Blame::Unreached, why)
    }

    pub(super) fn refused(why: impl fmt::Display) -> Self {
        Self::new(Blame::Refused, why)
    }

    fn new(blame: Blame, why: impl fmt::Display) -> Self {
        Self { blame, why: plain(&why.to_string()), account_is_gone: false, asked: None }
    }

    pub(super) fn of_store(error: &io::Error) -> Self {
        Self::here(format_args!("the folder `acme.state` cannot be used: {error}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let problem = match error {
            Error::Api(problem) => problem,
            Error::Timeout(Some(at)) => {
                let asked = Some(at.saturating_duration_since(Instant::now()));
                return Self { asked, ..Self::here(error) };
            }
            error => return Self::here(error),
        };
        let is = |kind: &str| {
            problem.r#type.as_deref().and_then(|it| it.strip_prefix("urn:ietf:params:acme:error:"))
                == Some(kind)
        };
        let account_is_gone = is("accountDoesNotExist");
        // Trouble of its own, or a nonce that was too old three times.
        let blame = match is("serverInternal") || is("badNonce") {
            true => Blame::Unreached,
            false => Blame::Refused,
        };
        Self { account_is_gone, ..Self::new(blame, problem) }
    }
}

/// On one line, and not endless.
fn plain(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use instant_acme::Problem;

    fn problem(kind: &str, detail: &str) -> Failure {
        let kind = Some(format!("urn:ietf:params:acme:error:{kind}"));
        let detail = Some(detail.to_owned());
        let problem = Problem { r#type: kind, detail, status: None, subproblems: Vec::new() };
        Error::Api(problem).into()
    }

    #[test]
    fn who_is_to_blame() {
        assert_eq!(Failure::from(Error::Str("x")).blame, Blame::Unreached);
        assert_eq!(problem("serverInternal", "x").blame, Blame::Unreached);
        assert_eq!(problem("rateLimited", "x").blame, Blame::Refused);
        assert!(problem("accountDoesNotExist", "x").account_is_gone);
        assert!(!problem("malformed", "x").account_is_gone);
    }

    #[test]
    fn reasons_are_one_line_and_not_endless() {
        let failure = problem("malformed", &format!("a\r\n\x1b[2J{}", "é".repeat(5000)));
        assert!(failure.why.contains("a   [2J"), "{}", failure.why);
        assert!(!failure.why.chars().any(char::is_control));
        assert!(failure.why.chars().count() <= LONGEST);
    }
}
