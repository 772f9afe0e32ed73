//! What every request passes on its way in, and every answer on its way out.

use super::{
    Admin,
    access::{self, Caller, Denied, Peer},
    api,
    audit::{Attempt, Entry, Event},
    guard,
    problem::Problem,
};
use axum::{
    extract::{Extension, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use std::{sync::Arc, time::Instant};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Of a path, in the audit log.
const LONGEST_PATH: usize = 500;

pub(super) async fn door(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let mut response = match admit(&admin, &peer, &request) {
        Ok(caller) => {
            let attempt = if changes(request.method()) {
                let entry = about(&request, &peer, &id, caller.as_ref());
                Attempt::new(Arc::clone(&admin.audit), entry)
            } else {
                Attempt::default()
            };
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            request.extensions_mut().insert(attempt.clone());
            let response = next.run(request).await;
            attempt.answered(&response);
            response
        }
        Err(refused) => {
            let entry = about(&request, &peer, &id, None);
            let entry = refused.complete(entry);
            admin.audit.record_denied(peer.source(), entry, Instant::now());
            refused.problem.into_response()
        }
    };
    protect(response.headers_mut());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn changes(method: &Method) -> bool {
    method != Method::GET && method != Method::HEAD
}

/// Why somebody is not let in.
struct Refused {
    problem: Problem,
    denied: Option<Denied>,
}

impl Refused {
    fn complete(&self, entry: Entry) -> Entry {
        let who = self.denied.as_ref().and_then(Denied::who);
        Entry {
            event: Event::AccessDenied,
            status: Some(self.problem.status()),
            reason: self.problem.refusal().reason.map(str::to_owned),
            author: who.map(|(author, ..)| author.to_string()),
            by: who.map(|(_, by, _)| by.as_str().to_owned()),
            role: who.and_then(|(.., role)| role).map(|role| role.as_str().to_owned()),
            ..entry
        }
    }
}

/// Who asks; `None` where everybody may.
fn admit(admin: &Admin, peer: &Peer, request: &Request) -> Result<Option<Caller>, Box<Refused>> {
    let view = admin.handle.view();
    let settings = &view.spec.admin;
    guard::check(request, peer, settings)
        .map_err(|problem| Box::new(Refused { problem, denied: None }))?;
    let asked = (request.method(), request.uri().path(), request.headers());
    access::admit(settings, &admin.failures, peer, asked, Instant::now())
        .map_err(|denied| Box::new(Refused { problem: (&denied).into(), denied: Some(denied) }))
}

/// What the audit log says of any request.
fn about(request: &Request, peer: &Peer, id: &str, caller: Option<&Caller>) -> Entry {
    let path = request.uri().path();
    let template = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    Entry {
        author: caller.map(|caller| caller.author.to_string()),
        by: caller.map(|caller| caller.by.as_str().to_owned()),
        role: caller.map(|caller| caller.role.as_str().to_owned()),
        from: Some(peer.to_string()),
        method: Some(request.method().as_str().chars().take(LONGEST_PATH).collect()),
        path: Some(path.chars().take(LONGEST_PATH).collect()),
        operation: template.and_then(|it| api::operation(request.method(), it)),
        service: template.and_then(|template| service(template, path)),
        request_id: Some(id.to_owned()),
        ..Entry::new(Event::ChangeUnanswered)
    }
}

/// The service that a path names.
fn service(template: &str, path: &str) -> Option<String> {
    let mut segments = template.split('/').zip(path.split('/'));
    let (_, segment) = segments.find(|(name, _)| *name == "{service}")?;
    let name = percent_decode_str(segment).decode_utf8_lossy();
    Some(name.chars().take(LONGEST_PATH).collect())
}

/// The one that the client has given, if it is a plain one; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    const LONGEST: usize = 128;
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=LONGEST).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    match given.filter(is_plain) {
        Some(id) => id.to_owned(),
        None => format!("{:032x}", rand::random::<u128>()),
    }
}

/// What browsers are told of any answer: to take it for what it says it is, keep nothing of it, and show it to no
/// other page. A page that is for browsers says for itself what it may load. A session of one, once there is any,
/// is a cookie with `SameSite=Strict`, `HttpOnly` and a path, checked beside the tokens in `access`.
fn protect(headers: &mut HeaderMap) {
    const ALWAYS: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service() {
        let weights = "/v1/services/{service}/weights";
        assert_eq!(service(weights, "/v1/services/my%20shop/weights").as_deref(), Some("my shop"));
        assert_eq!(service("/v1/config", "/v1/config"), None);
    }

    #[test]
    fn only_plain_request_ids_are_taken() {
        let id = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"a-1.b_2"), "a-1.b_2");
        for bad in [&b""[..], b"a b", b"\"x\"", &[b'x'; 129], b"\xff"] {
            let made = id(bad);
            assert_eq!(made.len(), 32, "{made}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
