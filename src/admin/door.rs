//! What every request passes on its way in, and every answer on its way out.

use super::{
    Admin,
    access::{self, Peer},
    guard,
    problem::Problem,
};
use axum::{
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Instant};

pub(super) async fn door(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match admit(&admin, &peer, &mut request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    protect(response.headers_mut());
    response
}

/// Lets in who may ask; the handlers find who it is beside the request.
fn admit(admin: &Admin, peer: &Peer, request: &mut Request) -> Result<(), Problem> {
    let view = admin.handle.view();
    let settings = &view.spec.admin;
    guard::check(request, peer, settings)?;
    let asked = (request.method(), request.uri().path(), request.headers());
    let admitted = access::admit(settings, &admin.failures, peer, asked, Instant::now());
    let caller = admitted.map_err(|denied| {
        tracing::debug!(from = %peer, reason = denied.reason(), "a request to the admin API was refused");
        Problem::from(&denied)
    })?;
    if let Some(caller) = caller {
        tracing::debug!(from = %peer, author = %caller.author, by = ?caller.by, "somebody asks the admin API");
        request.extensions_mut().insert(caller);
    }
    Ok(())
}

/// What browsers are told of any answer: to take it for what it says it is, keep nothing of it, and show it to no
/// other page.
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
