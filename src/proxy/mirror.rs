//! Copies of requests for another pool. A copy has a task of its own on the core of its request: the client never
//! waits for it and never learns of it. It takes no ticket, so that it counts neither towards limits and health nor
//! in drains: what is on its way to a backend that leaves is given up at once.

use super::{
    connection::ClientConnection,
    core::Core,
    decide::{Assignment, mirror_backend},
    fields::Lines,
    head::{Facts, Head},
    headers::{Added, Changes, to_backend},
    hyper::Course,
    note::Note,
    upstream::Upstream,
};
use crate::{
    live::{LiveBackend, MirrorPlace, Mirrored},
    routing::{self, MirrorPolicy},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, uri::PathAndQuery};
use rand::RngExt;
use std::{cell::RefCell, rc::Rc, sync::Arc};

const X_CROSSFADE_MIRROR: &str = "x-crossfade-mirror";

/// A core's connections for copies: requests have theirs to themselves.
#[derive(Default)]
pub(super) struct Copies(RefCell<Vec<Rc<Upstream>>>);

impl Copies {
    fn upstream(&self, core: &Core, backend: &Arc<LiveBackend>) -> Rc<Upstream> {
        let mut upstreams = self.0.borrow_mut();
        upstreams.retain(|upstream| !upstream.backend.is_closing());
        if let Some(known) = upstreams.iter().find(|it| Arc::ptr_eq(&it.backend, backend)) {
            return known.clone();
        }
        let upstream = Upstream::new(backend.clone());
        core.watch(&upstream);
        upstreams.push(upstream.clone());
        upstream
    }
}

/// A copy whose body is still coming. Dropping it gives it up.
pub(in crate::proxy) struct Copying {
    request: Request<Vec<u8>>,
    most: usize,
    course: Course,
    place: MirrorPlace,
}

/// What a copy is made of: a request that was decided.
pub(super) struct Original<'a, L> {
    pub(super) connection: &'a ClientConnection,
    pub(super) head: &'a Head<'a, L>,
    pub(super) facts: &'a Facts,
    pub(super) request_id: &'a [u8],
    pub(super) assignment: &'a Assignment,
    /// Of the original, of which it is told the same.
    pub(super) note: Option<&'a Note>,
}

impl<L: Lines> Original<'_, L> {
    /// Sends a copy of the request if it is one of those that are mirrored. Where there is a body its pieces are
    /// to be handed over as they come.
    pub(super) fn mirror(&self, mirror: &MirrorPolicy, has_body: bool) -> Option<Copying> {
        let core = &self.connection.core;
        let is_drawn = || core.dice.borrow_mut().random_range(0..100) < mirror.share_percent;
        if !mirror.takes(self.head.method) || self.facts.upgrades || !is_drawn() {
            return None;
        }
        let (pool, backend) = mirror_backend(core, self.assignment.service_slot, mirror.to)?;
        // It may be a request of that pool anyway.
        if Arc::ptr_eq(&pool, &self.assignment.ticket.flight.upstream.backend.pool) {
            return None;
        }
        if self.facts.framing.declared().is_some_and(|length| length > mirror.body_bytes.into()) {
            pool.mirrors.record(Mirrored::TooLarge);
            return None;
        }
        let place = backend.as_ref().and_then(|_| MirrorPlace::take(&pool, mirror.in_flight));
        let (Some(backend), Some(place)) = (backend, place) else {
            pool.mirrors.record(Mirrored::Dropped);
            return None;
        };
        let upstream = match backend.announces() {
            None => core.copies.upstream(core, &backend),
            Some(version) => self.connection.upstream(&backend, version),
        };
        let copying = Copying {
            request: self.request(&upstream)?,
            most: mirror.body_bytes as usize,
            course: Course {
                core: core.clone(),
                upstream,
                policy: self.assignment.policy.clone(),
                limits: self.connection.listener.spec.limits,
            },
            place,
        };
        if has_body {
            return Some(copying);
        }
        copying.finish();
        None
    }

    /// The request as a backend of the other pool gets it.
    fn request(&self, upstream: &Upstream) -> Option<Request<Vec<u8>>> {
        let Assignment { policy, withheld, .. } = self.assignment;
        let added = Added {
            client: &self.connection.client,
            request_id: self.request_id,
            backend: upstream.authority.as_bytes(),
            changes: Changes::of(policy, withheld.as_deref()),
            note: self.note,
        };
        let Head { path, query, .. } = *self.head;
        let target = routing::target(added.changes.rewrite, path, query);
        let mut fields = HeaderMap::new();
        to_backend(self.head, self.facts, &added, &mut fields);
        // Whoever answers is not listened to, and the body is there as a whole or not at all.
        for name in [header::EXPECT, header::TRAILER, header::TE, header::CONNECTION] {
            fields.remove(name);
        }
        fields.insert(X_CROSSFADE_MIRROR, HeaderValue::from_static("1"));
        let mut request = Request::new(Vec::new());
        *request.method_mut() = Method::from_bytes(self.head.method.as_bytes()).ok()?;
        *request.uri_mut() = Uri::from(PathAndQuery::try_from(target).ok()?);
        *request.headers_mut() = fields;
        Some(request)
    }
}

impl Copying {
    /// A piece of the body. False when it has become too large to go on.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        let body = self.request.body_mut();
        if body.len() + piece.len() > self.most {
            self.place.set(Mirrored::TooLarge);
            return false;
        }
        body.extend_from_slice(piece);
        true
    }

    /// All of the request is there.
    pub(super) fn finish(self) {
        let Self { request, course, mut place, .. } = self;
        place.set(Mirrored::Failed);
        let (mut head, body) = request.into_parts();
        if !body.is_empty() {
            head.headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let request = Request::from_parts(head, Bytes::from(body));
        tokio::task::spawn_local(async move {
            let mut changes = course.core.live.published.changes();
            let backend = &course.upstream.backend;
            let leaves =
                async { while !backend.is_closing() && changes.changed().await.is_ok() {} };
            tokio::select! {
                biased;
                () = leaves => {}
                () = course.send(request, |status| place.set(Mirrored::of_status(status))) => {}
            }
        });
    }
}

/// Hands a piece over to a copy, if there is one that takes it.
pub(in crate::proxy) fn copy_piece(copying: &mut Option<Box<Copying>>, piece: &[u8]) {
    if copying.as_mut().is_some_and(|copying| !copying.push(piece)) {
        *copying = None;
    }
}

/// The body is complete.
pub(in crate::proxy) fn copy_end(copying: &mut Option<Box<Copying>>) {
    if let Some(copying) = copying.take() {
        copying.finish();
    }
}
