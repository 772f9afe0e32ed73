//! What a client may not tell a backend, because it comes from elsewhere than a limited pin is for.

use crate::{
    routing::{CompiledPin, is_same_field},
    spec::Name,
};

/// Header fields and cookies that stay behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Withheld {
    /// Lower case.
    headers: Vec<Name>,
    cookies: Vec<Name>,
}

impl Withheld {
    /// Adds what a pin reads that was denied.
    pub(super) fn add(&mut self, pin: &CompiledPin) {
        self.headers.extend(pin.matches.headers.iter().map(|field| field.name.clone()));
        self.cookies.extend(pin.matches.cookies.iter().map(|field| field.name.clone()));
    }

    /// A field of this name (in any case) stays behind.
    pub(super) fn has_header(&self, name: &[u8]) -> bool {
        self.headers.iter().any(|header| is_same_field(header.as_bytes(), name))
    }

    pub(super) fn has_cookies(&self) -> bool {
        !self.cookies.is_empty()
    }

    /// A `Cookie` line without the cookies that stay behind; `None` when nothing is left.
    pub(super) fn rest_of_cookies(&self, line: &[u8]) -> Option<Vec<u8>> {
        let is_kept = |pair: &&[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            !self.cookies.iter().any(|cookie| cookie.as_bytes() == name)
        };
        let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = pairs.filter(is_kept).collect();
        let rest = kept.join(&b"; "[..]);
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_taken_out_of_their_line() {
        let withheld = Withheld { headers: Vec::new(), cookies: vec!["beta".into()] };
        let rest = |line: &str| {
            let rest = withheld.rest_of_cookies(line.as_bytes());
            rest.map(|rest| String::from_utf8(rest).unwrap())
        };
        for (line, kept) in [
            ("a=1; beta=1; b=2", Some("a=1; b=2")),
            ("beta=1", None),
            ("beta", None),
            (" beta = 1;beta=2; a=\"beta=3\"", Some("a=\"beta=3\"")),
            ("Beta=1; betas=2", Some("Beta=1; betas=2")),
            ("", None),
        ] {
            assert_eq!(rest(line).as_deref(), kept, "{line}");
        }
    }
}
