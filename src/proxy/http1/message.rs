//! Heads between bytes and the views that decisions take.

use super::scan::{Line, RequestScan};
use crate::{
    live::{METHODS, Reason, method_index},
    proxy::{
        fields::{Known, Lines},
        framing::Length,
        head::{Head, Version},
        headers::Sink,
    },
    routing::{Fields, PathRewrite},
};

/// The field lines of a scanned head, within its bytes.
#[derive(Clone, Copy)]
pub(super) struct Scanned<'a> {
    pub(super) lines: &'a [Line],
    pub(super) bytes: &'a [u8],
}

impl Fields for Scanned<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let is_named =
            |line: &&Line| line.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(is_named).map(|line| line.value.of(self.bytes))
    }
}

impl Lines for Scanned<'_> {
    fn lines(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.lines
            .iter()
            .map(|line| (line.known, line.name.of(self.bytes), line.value.of(self.bytes)))
    }

    fn raw(&self, place: usize) -> Option<&[u8]> {
        self.lines.get(place)?.raw(self.bytes)
    }
}

/// The request of a complete scan of `bytes`.
///
/// # Errors
/// `BadRequest` when the target has none of the four forms (RFC 9112 section 3.2).
pub(super) fn head<'a>(
    scan: &RequestScan,
    bytes: &'a [u8],
    lines: &'a Scanned<'a>,
) -> Result<Head<'a, Scanned<'a>>, Reason> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Reason::BadRequest);
    let method = scan.method.of(bytes);
    let method = match METHODS[method_index(method)] {
        "OTHER" => text(method)?,
        known => known,
    };
    let target = Target::of(method, text(scan.target.of(bytes))?)?;
    let version = if scan.minor == 0 { Version::Http10 } else { Version::Http11 };
    let Target { authority, path, query } = target;
    Ok(Head { method, version, authority, path, query, lines })
}

struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn of(method: &str, target: &'a str) -> Result<Self, Reason> {
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Self { authority: None, path, query });
        }
        if method == "CONNECT" {
            return Ok(Self { authority: Some(target), path: "", query: None });
        }
        if target == "*" {
            let is_asked_of_the_server = method == "OPTIONS";
            let target = Self { authority: None, path: "*", query: None };
            return if is_asked_of_the_server { Ok(target) } else { Err(Reason::BadRequest) };
        }
        let rest = without_scheme(target).ok_or(Reason::BadRequest)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.is_empty() {
            return Err(Reason::BadRequest);
        }
        let (path, query) = split_query(rest);
        // Sections 3.2.1 and 3.2.4.
        let path = match path {
            "" if method == "OPTIONS" && query.is_none() => "*",
            "" => "/",
            path => path,
        };
        Ok(Self { authority: Some(authority), path, query })
    }
}

fn without_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.bytes().position(|byte| byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The end of a request's head whose body has `length`.
#[inline(always)]
pub(super) fn end_head(out: &mut Vec<u8>, length: Length) {
    if length == Length::Chunked {
        Wire(out).line(b"transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// Lines as they go on the wire.
pub(super) struct Wire<'a>(pub(super) &'a mut Vec<u8>);

impl Sink for Wire<'_> {
    // Inlined, so that names that are known are written without a call.
    #[inline(always)]
    fn line(&mut self, name: &[u8], value: &[u8]) {
        let out = &mut *self.0;
        out.reserve(name.len() + value.len() + 4);
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }

    fn block(&mut self, block: &[u8], _: &[(&[u8], &[u8])]) {
        self.0.extend_from_slice(block);
    }

    fn raw(&mut self, line: &[u8], _: &[u8], _: &[u8]) {
        self.0.extend_from_slice(line);
    }
}

/// The start line of a request in origin-form (or `*`).
pub(super) fn request_line(
    out: &mut Vec<u8>,
    head: &Head<'_, impl Lines>,
    rewrite: Option<&PathRewrite>,
) {
    out.extend_from_slice(head.method.as_bytes());
    out.push(b' ');
    let (start, rest) = rewrite.map_or((head.path, ""), |rewrite| rewrite.of(head.path));
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(rest.as_bytes());
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

pub(super) fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_of_a_target() {
        let of = |method, target| {
            Target::of(method, target).map(|t| (t.authority, t.path, t.query)).ok()
        };
        assert_eq!(of("GET", "/a?b?c"), Some((None, "/a", Some("b?c"))));
        assert_eq!(of("GET", "//x/y"), Some((None, "//x/y", None)));
        assert_eq!(of("OPTIONS", "*"), Some((None, "*", None)));
        assert_eq!(of("GET", "*"), None);
        assert_eq!(of("GET", "http://a:1/b?c"), Some((Some("a:1"), "/b", Some("c"))));
        assert_eq!(of("GET", "HTTPS://a"), Some((Some("a"), "/", None)));
        assert_eq!(of("GET", "http://a?c"), Some((Some("a"), "/", Some("c"))));
        assert_eq!(of("OPTIONS", "http://a"), Some((Some("a"), "*", None)));
        assert_eq!(of("GET", "ftp://a/"), None);
        assert_eq!(of("GET", "http:///b"), None);
        assert_eq!(of("GET", "a/b"), None);
        assert_eq!(of("GET", "?a"), None);
        assert_eq!(of("CONNECT", "a:1"), Some((Some("a:1"), "", None)));
    }

    #[test]
    fn start_lines() {
        let mut out = Vec::new();
        status_line(&mut out, 204, b"No Content");
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\n");
    }
}
