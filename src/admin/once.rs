//! `Idempotency-Key`: who repeats a POST because the answer got lost must not make the change twice.

use super::{
    body::{LIMIT, gather},
    problem::Problem,
};
use crate::control::Once;
use aws_lc_rs::digest::{Context, SHA256};
use axum::{body::Body, extract::Request, http::Method, middleware::Next, response::Response};

const FIELD: &str = "idempotency-key";

/// Longest key, in bytes.
const LONGEST: usize = 255;

/// Reads the key, and the body to tell what it stands for.
pub(super) async fn once(request: Request, next: Next) -> Result<Response, Problem> {
    if request.method() != Method::POST || !request.headers().contains_key(FIELD) {
        return Ok(next.run(request).await);
    }
    let (mut head, body) = request.into_parts();
    let mut fields = head.headers.get_all(FIELD).iter();
    let key = match (fields.next().map(|field| field.to_str()), fields.next()) {
        (Some(Ok(text)), None) => key_of(text),
        _ => None,
    };
    let key = key.ok_or_else(|| {
        Problem::malformed(format!(
            "Idempotency-Key takes one key of 1 to {LONGEST} letters, digits and signs, such as a UUID"
        ))
    })?;
    let bytes = gather(body, LIMIT).await?;
    let mut digest = Context::new(&SHA256);
    for part in [head.uri.path().as_bytes(), head.uri.query().unwrap_or("").as_bytes(), &bytes] {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let fingerprint = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    head.extensions.insert(Once { key, fingerprint });
    Ok(next.run(Request::from_parts(head, Body::from(bytes))).await)
}

/// In quotes, as a string of RFC 9651, or without.
fn key_of(text: &str) -> Option<String> {
    let text = text.trim();
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let fits = (1..=LONGEST).contains(&inner.len()) && inner.bytes().all(good);
    fits.then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::key_of;

    #[test]
    fn keys() {
        assert_eq!(key_of("\"8e03978e\"").as_deref(), Some("8e03978e"));
        assert_eq!(key_of(" a-b:c ").as_deref(), Some("a-b:c"));
        let (longest, longer) = ("x".repeat(255), "x".repeat(256));
        assert_eq!(key_of(&longest), Some(longest.clone()));
        for bad in ["", "\"\"", "a b", "\"a", "a\\", "é", &longer] {
            assert_eq!(key_of(bad), None, "{bad}");
        }
    }
}
