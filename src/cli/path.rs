//! Paths of the admin API.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand in a segment as it is (RFC 3986 section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) const ADOPT: &str = "/v1/adopt";

pub(super) fn service(service: &str) -> String {
    format!("/v1/services/{}", encode(service))
}

pub(super) fn rollout(id: &str) -> String {
    format!("/v1/rollouts/{}", encode(id))
}

pub(super) fn pool(service: &str, pool: &str) -> String {
    format!("{}/pools/{}", self::service(service), encode(pool))
}

pub(super) fn backend(service: &str, pool: &str, address: &str) -> String {
    format!("{}/backends/{}", self::pool(service, pool), encode(address))
}

fn encode(segment: &str) -> impl std::fmt::Display {
    utf8_percent_encode(segment, UNRESERVED)
}

#[cfg(test)]
mod tests {
    #[test]
    fn segments_are_encoded() {
        let path = super::backend("a/b", "pool 1", "[::1]:80");
        assert_eq!(path, "/v1/services/a%2Fb/pools/pool%201/backends/%5B%3A%3A1%5D%3A80");
    }
}
