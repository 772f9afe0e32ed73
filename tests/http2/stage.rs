//! Plays cases, each on a connection of its own; then one more request, which must be answered well.

use super::{
    backend::Backend,
    case::{Case, Sees, Step},
    frame::{self, ask},
    hpack::Block,
    peer::Peer,
    support::{self, Proxy, pool},
};
use crossfade::spec::BackendAddress;

/// Streams of one connection at most, on this stage.
pub const MOST_STREAMS: u32 = 10;

/// A stream that no case uses.
const AFTER: u32 = 0x7001;

pub struct Stage {
    backend: Backend,
    pub proxy: Proxy,
}

impl Stage {
    pub async fn start() -> Self {
        let backend = Backend::start().await;
        let address = BackendAddress::Socket(backend.address);
        let mut spec = support::spec(&[("blue", pool("v1", 1, &[address]))]);
        spec.listeners[0].limits.http2_streams = MOST_STREAMS;
        Self { backend, proxy: Proxy::start(spec).await }
    }

    /// # Errors
    /// With what was not as the case says.
    pub async fn play(&self, case: &Case) -> Result<(), String> {
        let address = self.proxy.address;
        let mut peer =
            if case.raw { Peer::raw(address).await } else { Peer::connect(address).await };
        for step in &case.sends {
            self.act(&mut peer, step).await?;
        }
        peer.until("what the client sees", |peer| case.sees.iter().all(|sees| is_seen(peer, sees)))
            .await?;
        for sees in &case.sees {
            judge(&peer, sees)?;
        }
        if case.ends() {
            peer.until("the end", |peer| peer.closed).await?;
        } else {
            if let Some(code) = peer.goaway {
                let closed = case.sees.iter().any(|sees| matches!(sees, Sees::ResetOrGoaway(..)));
                if !closed {
                    return Err(format!("the connection was given up: {code}"));
                }
            } else if !case.ends_itself {
                follow(&mut peer).await?;
            }
        }
        self.strangers(case, &peer)?;
        // Another client is served, whatever became of this one.
        follow(&mut Peer::connect(address).await).await?;
        if case.body.is_some()
            && peer.streams.get(&1).map(|stream| &stream.body) != case.body.as_ref()
        {
            return Err(format!("another body: {}", peer.seen()));
        }
        drop(peer);
        self.compare(case).await
    }

    async fn act(&self, peer: &mut Peer, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(bytes) => peer.send(bytes).await,
            Step::Drip(bytes) => {
                for byte in bytes {
                    peer.send([*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            Step::AwaitBackend => self.backend.awaits_body().await,
            Step::AwaitMessages(count) => self.backend.has_messages(*count).await,
            Step::AwaitInterim(stream) => {
                peer.until("an interim answer", |peer| {
                    peer.streams.get(stream).is_some_and(|stream| !stream.interim.is_empty())
                })
                .await?;
            }
            Step::AwaitAnswer(stream) => {
                peer.until("an answer", |peer| {
                    peer.streams.get(stream).is_some_and(|stream| stream.status.is_some())
                })
                .await?;
            }
        }
        Ok(())
    }

    /// What nobody spoke of.
    fn strangers(&self, case: &Case, peer: &Peer) -> Result<(), String> {
        for id in peer.streams.keys().filter(|id| **id != AFTER) {
            let is_named = case.sees.iter().any(|sees| match sees {
                Sees::Answer { stream, .. }
                | Sees::Reset(stream, _)
                | Sees::Malformed(stream)
                | Sees::ResetOrGoaway(stream, _) => stream == id,
                Sees::Goaway(_) | Sees::Pong(_) => false,
            });
            if !is_named && !case.ends() {
                return Err(format!("nobody spoke of stream {id}: {}", peer.seen()));
            }
        }
        Ok(())
    }

    async fn compare(&self, case: &Case) -> Result<(), String> {
        support::until("nothing is in flight", || self.proxy.open() == 0).await;
        let log = self.backend.take().await;
        if !log.wrong.is_empty() {
            return Err(format!("no good request: {:?}", log.wrong));
        }
        if !log.cut.is_empty() && !case.may_cut {
            return Err(format!("cut at the backend: {:?}", log.cut));
        }
        let is_after = |start: &String| start.contains(" /~after ");
        let mut starts: Vec<String> = log
            .messages
            .iter()
            .map(|message| String::from_utf8_lossy(&message.start).into_owned())
            .filter(|start| !is_after(start))
            .collect();
        starts.sort();
        let mut wanted: Vec<String> =
            case.forwards.iter().map(|start| format!("{start} HTTP/1.1")).collect();
        wanted.sort();
        if case.may_forward {
            starts.retain(|start| !start.contains("/stall"));
        }
        if starts != wanted {
            return Err(format!("the backend saw {starts:?}, not {wanted:?}"));
        }
        let Some(first) = log
            .messages
            .iter()
            .find(|message| !is_after(&String::from_utf8_lossy(&message.start).into_owned()))
        else {
            return Ok(());
        };
        for (name, value) in &case.with {
            let found: Vec<_> =
                first.values(name).map(|value| String::from_utf8_lossy(value)).collect();
            if found != [value.as_str()] {
                return Err(format!("{name} is {found:?}, not {value:?}"));
            }
        }
        if let Some(trails) = case.trails {
            let found: Vec<_> =
                first.trailers.iter().map(|f| String::from_utf8_lossy(&f.name)).collect();
            if found.join(", ") != trails {
                return Err(format!("the trailers are {found:?}"));
            }
        }
        for name in &case.without {
            if first.value(name).is_some() {
                return Err(format!("{name} reached the backend"));
            }
        }
        Ok(())
    }
}

async fn follow(peer: &mut Peer) -> Result<(), String> {
    peer.send(ask(AFTER, Block::get("/~after"))).await;
    peer.until("the answer after it", |peer| {
        peer.streams.get(&AFTER).is_some_and(|stream| stream.is_over())
    })
    .await?;
    match peer.streams.get(&AFTER) {
        Some(stream) if stream.status == Some(200) && stream.body == b"/~after" => Ok(()),
        _ => Err(format!("what came after it was not answered: {}", peer.seen())),
    }
}

fn is_seen(peer: &Peer, sees: &Sees) -> bool {
    match sees {
        Sees::Answer { stream, .. } | Sees::Reset(stream, _) | Sees::Malformed(stream) => {
            peer.streams.get(stream).is_some_and(|stream| stream.is_over())
        }
        Sees::Goaway(_) => peer.goaway.is_some(),
        Sees::ResetOrGoaway(stream, _) => {
            peer.goaway.is_some() || peer.streams.get(stream).is_some_and(|stream| stream.is_over())
        }
        Sees::Pong(payload) => peer.pongs.iter().any(|pong| pong == payload),
    }
}

fn judge(peer: &Peer, sees: &Sees) -> Result<(), String> {
    let stream = |id: &u32| peer.streams.get(id).cloned().unwrap_or_default();
    let is_good = match sees {
        Sees::Answer { stream: id, status, error } => {
            let stream = stream(id);
            stream.status == Some(*status)
                && stream.ended
                && stream.reset.is_none_or(|code| code == frame::NO_ERROR)
                && (error.is_none() || stream.field("x-crossfade-error") == *error)
                && stream.field("date").is_some()
        }
        Sees::Reset(id, codes) => stream(id).reset.is_some_and(|code| codes.contains(&code)),
        Sees::Malformed(id) => match stream(id) {
            stream if stream.status == Some(400) => {
                stream.field("x-crossfade-error") == Some("bad_request")
            }
            stream => stream.status.is_none() && stream.reset == Some(frame::PROTOCOL_ERROR),
        },
        Sees::Goaway(codes) => peer.goaway.is_some_and(|code| codes.contains(&code)),
        Sees::ResetOrGoaway(id, codes) => {
            peer.goaway.or(stream(id).reset).is_some_and(|code| codes.contains(&code))
        }
        Sees::Pong(payload) => peer.pongs.iter().any(|pong| pong == payload),
    };
    if is_good { Ok(()) } else { Err(format!("wanted {sees:?}; {}", peer.seen())) }
}
