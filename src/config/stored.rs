//! A spec as text that outlives the process: written here, and read by this or a later version.

use super::{Surroundings, changes::without_common, document, parse};
use crate::spec::Spec;
use std::path::Path;

/// Named where something of such a text is wrong.
const NAME: &str = "kept state";

/// Of a longer text all is read, since there are limits to what is.
const MOST_BYTES_IN_PART: usize = 4 << 20;

/// The text from which [`from_stored`] makes an equal spec. Of what is the same in `before`, which was written in
/// this way, that is known.
///
/// # Errors
/// When it would not: every reason.
pub fn to_stored(spec: &Spec, before: Option<&Spec>) -> Result<String, Vec<String>> {
    let text = document(spec).to_string();
    let is_known = text.len() <= MOST_BYTES_IN_PART
        && before.is_some_and(|before| comes_back_in_part(spec, before));
    if !is_known {
        comes_back(spec, &text)?;
    }
    Ok(text)
}

/// # Errors
/// When the text would be read as something else: every reason.
fn comes_back(spec: &Spec, text: &str) -> Result<(), Vec<String>> {
    let read = read(text, nowhere())?;
    if read == *spec {
        return Ok(());
    }
    let differs = super::changes(spec, &read).into_iter().map(|change| change.path);
    Err(differs.map(|path| format!("{path} would not be read as it is")).collect())
}

/// Most changes are of one service among many. What a service says is read for itself, so the others need not be
/// read again; routes name services, so they must be the same. `false`: it is not known.
fn comes_back_in_part(spec: &Spec, before: &Spec) -> bool {
    if spec.routes != before.routes {
        return false;
    }
    let mut part = without_common(spec, before);
    let Ok(mut read) = read(&document(&part).to_string(), nowhere()) else { return false };
    // One that leads everywhere is made up where there is none.
    part.routes.clear();
    read.routes.clear();
    read == part
}

/// Certificates are compared by the names of their files, so these need not be read.
fn nowhere() -> Surroundings {
    Surroundings { file: |_| Err(String::new()), ..Surroundings::of_state() }
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
        let text = to_stored(&spec, None).unwrap();
        let read = from_stored(&text).unwrap();
        assert_eq!(read, spec);
        let tls = read.listeners.iter().find_map(|listener| listener.tls.as_ref()).unwrap();
        assert!(tls.certificates.iter().all(|certificate| certificate.pair.is_absent()));
        assert!(tls.client_auth.as_ref().unwrap().ca.is_absent());
    }

    #[test]
    fn what_is_the_same_is_not_read_again() {
        let before = parsed(FULL);
        let mut spec = before.clone();
        spec.services[0].pools[0].weight = Weight::new(77).unwrap();
        assert!(comes_back_in_part(&spec, &before));
        assert_eq!(to_stored(&spec, Some(&before)), to_stored(&spec, None));
        // What has changed is read, be it in a service or beside them.
        spec.resolver.min_ttl = spec.resolver.max_ttl * 2;
        assert!(to_stored(&spec, Some(&before)).is_err());
        let mut spec = before.clone();
        spec.services[0].pools[0].version = "".into();
        assert_eq!(to_stored(&spec, Some(&before)).is_err(), to_stored(&spec, None).is_err());
        assert!(to_stored(&spec, Some(&before)).is_err());
        // Routes name services.
        let mut spec = before.clone();
        spec.routes.pop();
        assert!(!comes_back_in_part(&spec, &before));
    }

    #[test]
    fn what_would_not_come_back_is_not_written() {
        let mut spec = parsed(FULL);
        spec.resolver.min_ttl = spec.resolver.max_ttl * 2;
        let reasons = to_stored(&spec, None).unwrap_err();
        assert!(reasons[0].contains("min_ttl"), "{reasons:?}");
        assert!(from_stored("{}").is_err() && from_stored("[").is_err());
    }
}
