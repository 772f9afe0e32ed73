//! A request and its answer: decide, send, record.

use super::{
    conn::Conn,
    message::{self, Scanned, Wire},
    relay::{DRIPPING, End, Relay, Turn},
    response::Asked,
    session::Session,
    work::{Incoming, Outbox, Outgoing, Work},
};
use crate::{
    live::{Fault, Reason, method_index, millis},
    proxy::{
        core::Core,
        decide::{Assignment, Query, decide},
        failure::fault_of,
        flight::{Flight, Ticket},
        framing::Length,
        head::{self, Facts, Head},
        headers::{Added, Sink, to_backend},
        record::{Answerer, Recorder},
        tries::{Miss, Next, Tries},
        upstream::connect,
    },
};
use std::{
    future::poll_fn,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// What comes after an exchange.
pub(super) enum After {
    /// The next request; the rest of this one's body, if there is any, is not wanted.
    Next,
    /// The client knows that nothing more comes.
    Linger,
    /// Nobody is there, or must see that something is missing.
    Close,
    Tunnel(Box<Switched>),
}

/// How a request was answered.
enum Outcome {
    Answered,
    Tunnel(Box<Switched>),
    /// By a reply of the proxy's own, which is in the outbox.
    Refused,
    Cut,
    ClientGone,
}

impl Session {
    /// Answers the request whose head has been read, whatever happens, and sees to it that it is recorded
    /// once.
    pub(super) async fn exchange(&mut self) -> After {
        let Some(mut work) = self.work.take() else { return After::Close };
        let outcome = self.forward(&mut work).await;
        let after = match outcome {
            Outcome::Answered => self.after_answer(&work),
            Outcome::Refused if self.flush(&mut work.download.out).await => {
                self.after_answer(&work)
            }
            Outcome::Tunnel(switched) => After::Tunnel(switched),
            Outcome::Cut => {
                if work.download.outgoing == Outgoing::UntilClose {
                    // The end of the connection would be the end of the message.
                    self.reset_client();
                }
                After::Close
            }
            Outcome::Refused | Outcome::ClientGone => After::Close,
        };
        self.work = Some(work);
        after
    }

    fn after_answer(&self, work: &Work) -> After {
        if work.download.closes { After::Linger } else { After::Next }
    }

    async fn forward(&mut self, work: &mut Work) -> Outcome {
        let connection = self.connection.clone();
        let core = &connection.core;
        let Work { request, scan, ahead, upload, download } = work;
        let method = std::str::from_utf8(scan.method.of(request)).unwrap_or_default();
        let began = Instant::now();
        let mut recorder = Recorder::new(core.clone(), method_index(method), began);
        upload.begin(Length::Exact(0), 0);
        download.begin(true);
        let mut asked = Asked {
            minor: scan.minor,
            is_head: method == "HEAD",
            wants_trailers: false,
            upgrade: None,
        };
        let lines = Scanned { lines: &scan.lines, bytes: request };
        let judged = message::head(scan, request, &lines)
            .and_then(|head| Facts::of(&head).map(|facts| (head, facts)));
        let (head, facts) = match judged {
            Ok(judged) => judged,
            Err(reason) => {
                self.refuse(&asked, recorder, reason.into(), download);
                return Outcome::Refused;
            }
        };
        asked.wants_trailers = facts.wants_trailers;
        let keeps = !facts.close && (scan.minor > 0 || facts.keep_alive);
        // Checked by the facts already.
        let length = facts.framing.of_request(scan.minor).unwrap_or(Length::Exact(0));
        let has_body = length != Length::Exact(0);
        download.closes = !keeps || has_body;

        let client = &connection.client;
        let address = client.address(&lines);
        let secure = client.is_secure(&lines);
        let now = core.live.clock.millis(began);
        let query =
            Query { head: &head, facts: &facts, client: address, secure, now, earlier: None };
        let mut assignment = match decide(core, &query) {
            Ok(assignment) => assignment,
            Err(refusal) => {
                let failure = recorder.note_refusal(refusal);
                self.refuse(&asked, recorder, failure, download);
                return Outcome::Refused;
            }
        };
        recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
        if let Some(reason) = unfit(&facts, length, &assignment) {
            self.refuse(&asked, recorder, reason.into(), download);
            return Outcome::Refused;
        }
        if facts.upgrades {
            asked.upgrade = head::upgrade(&head);
        }
        upload.begin(length, assignment.policy.retries.buffer as usize);
        let mut tries = Tries::new(address, secure, method);
        let request_id = if facts.has_request_id { [0; 32] } else { core.random_hex() };
        let body_timeout = millis(connection.listener.spec.timeouts.body).saturating_mul(DRIPPING);
        let mut fresh = false;
        let mut sent = began;
        let (failure, is_read) = loop {
            let flight = assignment.ticket.flight.clone();
            let limit = assignment.policy.timeouts.request;
            if !limit.is_zero() {
                flight.limit(now.saturating_add(millis(limit)));
            }
            let is_delicate = has_body || !tries.idempotent;
            let missed = match take_conn(core, &flight, &assignment, fresh, is_delicate).await {
                Err(reason) => Miss::Failed(reason),
                Ok(mut conn) => {
                    if !conn.reused {
                        sent = Instant::now();
                    }
                    upload.rewind();
                    let added = Added {
                        client,
                        request_id: &request_id,
                        backend: flight.upstream.authority.as_bytes(),
                    };
                    write_head(&mut upload.head, &head, &facts, length, &added);
                    download.begin(!keeps);
                    let now_millis = core.live.clock.millis(sent);
                    let timeout = millis(assignment.policy.timeouts.response);
                    flight.arm_until(now_millis.saturating_add(timeout), Reason::ResponseTimeout);
                    let mut relay = Relay {
                        connection: &connection,
                        assignment: &assignment,
                        flight: &flight,
                        asked,
                        client: &mut self.client,
                        backend: &mut conn,
                        ahead,
                        upload,
                        download,
                        recorder: &mut recorder,
                        deadline: self.deadline.key(),
                        half_closed: &mut self.half_closed,
                        sent,
                        body_deadline: now_millis.saturating_add(body_timeout),
                        awaits_continue: facts.expects_continue && has_body,
                        idempotent: tries.idempotent,
                        turn: Turn::Backend,
                    };
                    let end = poll_fn(|cx| relay.poll(cx)).await;
                    let is_sent = upload.is_sent();
                    match end {
                        End::Answered => {
                            if download.reusable && is_sent {
                                let (upstream, announced) = (&flight.upstream, conn.announced);
                                let idle = assignment.policy.timeouts.upstream_idle;
                                upstream.park(&upstream.native, conn, idle, announced);
                            } else if !is_sent {
                                conn.reset();
                            }
                            drop(assignment);
                            self.quiet_since = core.live.clock.millis(recorder.finish());
                            return Outcome::Answered;
                        }
                        End::Switched => {
                            recorder.finish();
                            let mut to_client = std::mem::take(&mut download.out);
                            to_client.extend(&download.partial);
                            return Outcome::Tunnel(Box::new(Switched {
                                backend: conn.stream,
                                to_client,
                                to_backend: std::mem::take(ahead),
                                idle: assignment.policy.timeouts.tunnel_idle,
                                ticket: assignment.ticket,
                            }));
                        }
                        End::Cut(reason) => {
                            let fault = match reason {
                                // The client did not take what there was.
                                Reason::IdleTimeout if !download.out.is_empty() => {
                                    Fault::Downstream
                                }
                                _ => fault_of(reason),
                            };
                            recorder.fail(fault, reason);
                            conn.reset();
                            return Outcome::Cut;
                        }
                        End::ClientGone => {
                            conn.reset();
                            return Outcome::ClientGone;
                        }
                        End::Missed(miss) => {
                            if upload.written && !is_sent {
                                conn.reset();
                            }
                            miss
                        }
                    }
                }
            };
            let is_read = upload.incoming == Incoming::Ended;
            match tries.after(missed, core, &head, &facts, assignment, &mut recorder) {
                Ok(Next::Fresh(same)) => (assignment, fresh) = (same, true),
                Ok(Next::Elsewhere(other)) => (assignment, fresh) = (other, false),
                Err(failure) => break (failure, is_read),
            }
        };
        download.begin(!keeps || !is_read);
        self.refuse(&asked, recorder, failure, download);
        Outcome::Refused
    }
}

/// The backend has switched: what goes on as a tunnel.
pub(super) struct Switched {
    pub(super) backend: TcpStream,
    pub(super) ticket: Ticket,
    /// The head that says 101, and what came behind it.
    pub(super) to_client: Outbox,
    /// What the client has sent since it asked.
    pub(super) to_backend: Outbox,
    pub(super) idle: Duration,
}

/// Why the request cannot be sent although its head is good.
fn unfit(facts: &Facts, length: Length, assignment: &Assignment) -> Option<Reason> {
    if facts.upgrades && length != Length::Exact(0) {
        return Some(Reason::BadRequest);
    }
    match length {
        Length::Exact(bytes) if bytes > assignment.policy.limits.body_bytes => {
            Some(Reason::BodyTooLarge)
        }
        _ => None,
    }
}

fn write_head(
    out: &mut Vec<u8>,
    head: &Head<'_, Scanned<'_>>,
    facts: &Facts,
    length: Length,
    added: &Added<'_>,
) {
    message::request_line(out, head);
    let mut wire = Wire(out);
    to_backend(head, facts, added, &mut wire);
    if length == Length::Chunked {
        wire.line(b"transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// An idle connection, unless a `fresh` one is wanted; else a new one. `delicate`: what will be sent cannot
/// be sent twice, so the kernel is asked whether the backend has closed it or talks out of turn.
///
/// # Errors
/// When there is none to be had.
async fn take_conn(
    core: &Core,
    flight: &Flight,
    assignment: &Assignment,
    fresh: bool,
    delicate: bool,
) -> Result<Conn, Reason> {
    if !fresh {
        while let Some(mut conn) = flight.upstream.native.pop() {
            if conn.is_quiet() && (!delicate || conn.is_quiet_now()) {
                conn.reused = true;
                return Ok(conn);
            }
        }
    }
    // Rare, and large: an idle connection must not carry it.
    let stream = Box::pin(connect(core, flight, &assignment.policy)).await?;
    let conn = Conn::new(stream);
    // What it says before it was asked is no answer.
    if conn.talks() { Err(Reason::BadResponse) } else { Ok(conn) }
}
