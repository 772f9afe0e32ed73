//! A spec as text that outlives the process: written here, and read by this or a later version.

use super::{Surroundings, document, parse};
use crate::spec::Spec;
use std::path::Path;

/// Named where something of such a text is wrong.
const NAME: &str = "kept state";

/// The text from which [`from_stored`] makes an equal spec.
///
/// # Errors
/// When it would not: every reason.
pub fn to_stored(spec: &Spec) -> Result<String, Vec<String>> {
    let text = document(spec).to_string();
    // Certificates are compared by the names of their files, so these need not be read.
    let nowhere = Surroundings { file: |_| Err(String::new()), ..Surroundings::of_state() };
    match read(&text, nowhere)? {
        read if read == *spec => Ok(text),
        read => {
            let differs = super::changes(spec, &read).into_iter().map(|change| change.path);
            Err(differs.map(|path| format!("{path} would not be read as it is")).collect())
        }
    }
}

/// Certificates that cannot be read are [absent](crate::spec::KeyPair::absent).
///
/// # Errors
/// When the text is not of this or an earlier version: every reason.
pub fn from_stored(text: &str) -> Result<Spec, Vec<String>> {
    read(text, Surroundings::of_state())
}

fn read(text: &str, surroundings: Surroundings) -> Result<Spec, Vec<String>> {
    let outcome = parse(text, Path::new(NAME), surroundings);
    outcome.spec.ok_or_else(|| outcome.errors.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::tests::{FULL, parsed},
        spec::Weight,
    };

    #[test]
    fn what_the_api_leaves_comes_back() {
        let mut spec = parsed(FULL);
        spec.services[0].pools[0].backends.clear();
        spec.services[0].pools[1].backends[0].weight = Weight::ZERO;
        spec.services[0].pools[1].drained = true;
        let text = to_stored(&spec).unwrap();
        let read = from_stored(&text).unwrap();
        assert_eq!(read, spec);
        let tls = read.listeners.iter().find_map(|listener| listener.tls.as_ref()).unwrap();
        assert!(tls.certificates.iter().all(|certificate| certificate.pair.is_absent()));
        assert!(tls.client_auth.as_ref().unwrap().ca.is_absent());
    }

    #[test]
    fn what_would_not_come_back_is_not_written() {
        let mut spec = parsed(FULL);
        spec.resolver.min_ttl = spec.resolver.max_ttl * 2;
        let reasons = to_stored(&spec).unwrap_err();
        assert!(reasons[0].contains("min_ttl"), "{reasons:?}");
        assert!(from_stored("{}").is_err() && from_stored("[").is_err());
    }
}
