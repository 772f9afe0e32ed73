use aws_lc_rs::hmac;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::{
    fmt::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-crossfade-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-crossfade-timestamp");

/// The headers that say who sends `body`, and when: now.
///
/// # Errors
/// When there is no key in `file`.
pub(super) async fn of_now(file: &Path, body: &[u8]) -> Result<HeaderMap, String> {
    let shown = file.display();
    let content = tokio::fs::read(file).await;
    let content = content.map_err(|why| format!("the key {shown} cannot be read: {why}"))?;
    let key = content.trim_ascii();
    if key.is_empty() {
        return Err(format!("there is no key in {shown}"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let signature = HeaderValue::from_str(&signature(key, now, body));
    let signature = signature.map_err(|error| error.to_string())?;
    Ok(HeaderMap::from_iter([(SIGNATURE, signature), (TIMESTAMP, HeaderValue::from(now))]))
}

/// HMAC-SHA256 (RFC 2104) of the time in seconds since 1970, a point and the body. The time is in it so that what
/// somebody has overheard is of no use later.
fn signature(key: &[u8], timestamp: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(format!("{timestamp}.").as_bytes());
    context.update(body);
    let mut text = "sha256=".to_owned();
    for byte in context.sign().as_ref() {
        // A text takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn as_others_compute_it() {
        assert_eq!(
            signature(b"secret", 1_700_000_000, b"{}"),
            "sha256=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
        );
        let (one, other) = (signature(b"a", 1, b"23"), signature(b"a", 12, b"3"));
        assert_ne!(one, other, "where the time ends counts");
    }

    #[tokio::test]
    async fn white_space_around_a_key_does_not_count_and_a_key_there_must_be() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let said = of_now(&file, b"").await.unwrap_err();
        assert!(said.contains("cannot be read"), "{said}");
        std::fs::write(&file, " \n").unwrap();
        assert!(of_now(&file, b"").await.unwrap_err().contains("there is no key"));
        std::fs::write(&file, " secret\n").unwrap();
        let headers = of_now(&file, b"{}").await.unwrap();
        let at: u64 = headers[TIMESTAMP].to_str().unwrap().parse().unwrap();
        assert_eq!(headers[SIGNATURE], signature(b"secret", at, b"{}"));
    }
}
