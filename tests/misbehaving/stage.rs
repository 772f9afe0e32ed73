//! Plays a case: a backend, a proxy and a client of its own; then one more request, which must be answered
//! well whatever came before it.

use super::{
    board::{Board, State},
    case::{Case, End, GET, Lane, Listening, Step, get, reply, say},
    http2,
    message::Asked,
    support::{self, Proxy, pool},
    wire::{Next, Peer},
};
use crossfade::{
    control::Command,
    live::{Fault, Reason},
    spec::{BackendAddress, Spec},
};
use socket2::{Domain, Socket, Type};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::AbortHandle, time::timeout};

/// What has not happened by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// So that a side that does not read is soon noticed.
const RECEIVE_BUFFER: usize = 64 << 10;

/// # Errors
/// With what was not as the case says.
pub async fn play(case: Case, lane: Lane) -> Result<(), String> {
    let case = Arc::new(case);
    let board = Board::default();
    let place = Place::open(&case, &board).await;
    let mut spec = support::spec(&[("blue", pool("v1", 1, std::slice::from_ref(&place.address)))]);
    spec.engine = lane.engine();
    let service = &mut spec.services["shop"];
    // Each attempt is seen as what it is.
    service.retries.attempts = 1;
    // What is closed is closed for a reason.
    service.timeouts.upstream_idle = Duration::from_secs(3600);
    let patient = spec.clone();
    case.tune(&mut spec.services["shop"]);
    let proxy = Proxy::start(spec).await;
    let played = compare(&case, &board, &proxy, patient, lane).await;
    drop(place);
    proxy.drain(Duration::ZERO).await;
    let context = board.look(|state| format!("seen {:?}, wrong {:?}", seen(state), state.wrongs));
    played.map_err(|what| format!("{what}\n    {context}"))
}

async fn compare(
    case: &Case,
    board: &Board,
    proxy: &Proxy,
    patient: Spec,
    lane: Lane,
) -> Result<(), String> {
    let mut sent = 0;
    let client = act(case, Client::new(board, proxy, lane).await, &mut sent).await?;
    sent = case.requests.unwrap_or(sent);
    let scripts = case.backend.len();
    within("the backend's scripts are played", board.until(|state| state.played >= scripts))
        .await?;
    condition("nothing is in flight", || proxy.open() == 0).await?;
    if case.listening == Listening::Yes {
        let replace = Command::Replace { spec: Box::new(patient) };
        proxy.apply(replace).await.map_err(|error| format!("{error:?}"))?;
        let client = match client {
            Some(client) => client,
            None => Client::new(board, proxy, lane).await,
        };
        follow(client).await?;
        sent += 1;
    }
    judge(case, board, proxy, sent).await
}

/// What the client does. Returns it if its connection can be used on.
async fn act(case: &Case, mut client: Client, sent: &mut u64) -> Result<Option<Client>, String> {
    let mut is_open = false;
    for (number, step) in case.client.iter().enumerate() {
        *sent += u64::from(matches!(step, Step::Say(bytes) if is_request(bytes)));
        let what = format!("client, step {}: {step:?}", number + 1);
        let next = within(&what, client.play(step)).await?;
        match next.map_err(|wrong| format!("{what}: {wrong}"))? {
            Next::Step => {}
            Next::Over => return Ok(None),
        }
        // A response that may end either way leaves the connection alone.
        if let Step::Get(replies) = step {
            is_open = replies.iter().all(|reply| reply.end == End::Kept);
        }
    }
    Ok(client.goes_on(is_open)?.then_some(client))
}

fn is_request(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.windows(8).any(|window| window == b" HTTP/1.")
}

/// The client of a case.
enum Client {
    Http1(Peer),
    Http2(http2::Client),
}

impl Client {
    async fn new(board: &Board, proxy: &Proxy, lane: Lane) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER as u32);
        let stream = socket.connect(proxy.address).await.expect("the proxy listens");
        match lane {
            Lane::Native | Lane::Hyper => Self::Http1(Peer::new(stream, board, None)),
            Lane::Http2 => Self::Http2(http2::Client::new(stream, board).await),
        }
    }

    async fn play(&mut self, step: &Step) -> Result<Next, String> {
        match self {
            Self::Http1(peer) => peer.play(step).await,
            Self::Http2(client) => client.play(step).await,
        }
    }

    /// Whether its connection can be used on, which is `open` as far as a message can say so.
    fn goes_on(&self, open: bool) -> Result<bool, String> {
        match self {
            Self::Http1(peer) if open => peer.is_quiet().map(|()| true),
            Self::Http1(_) => Ok(false),
            // Whatever becomes of a stream.
            Self::Http2(_) => Ok(true),
        }
    }
}

/// Whatever came before, the next request gets its own answer.
async fn follow(mut client: Client) -> Result<(), String> {
    for step in [say(GET.replace("/case", "/after")), get(reply(200, "/after"))] {
        let what = "the request after it";
        within(what, client.play(&step)).await?.map_err(|wrong| format!("{what}: {wrong}"))?;
    }
    client.goes_on(true).map(|_| ())
}

async fn judge(case: &Case, board: &Board, proxy: &Proxy, sent: u64) -> Result<(), String> {
    let pools = proxy.live.pools();
    let recorded = || pools[0].stats.totals().requests.iter().flatten().sum::<u64>();
    condition("every request is recorded", || recorded() >= sent).await?;
    condition("nothing is in flight in the end", || proxy.open() == 0).await?;
    if recorded() != sent {
        return Err(format!("{} records of {sent} requests", recorded()));
    }
    let failures = failures(proxy);
    let is_expected = |expected: &Option<(Fault, Reason)>| match (expected, &failures[..]) {
        (None, []) => true,
        (Some((fault, reason)), [one]) => *one == (*fault, *reason, 1),
        _ => false,
    };
    if !case.failures.iter().any(is_expected) {
        return Err(format!("counted {failures:?}, not {:?}", case.failures));
    }
    // What is not used again is not held either.
    let unused = |state: &State| {
        let is_unused = |(index, asked): (usize, &Vec<Asked>)| {
            !asked.iter().any(|asked| asked.target == "/after") && !state.ended.contains(&index)
        };
        state.seen.iter().enumerate().any(is_unused)
    };
    within("the other connections are closed", board.until(|state| !unused(state))).await?;
    board.look(|state| {
        if !state.wrongs.is_empty() {
            return Err(format!("the backend: {}", state.wrongs.join("; ")));
        }
        if !case.seen.iter().any(|seen_so| seen(state) == *seen_so) {
            return Err(format!("asked otherwise than {:?}", case.seen));
        }
        if state.poured > case.poured_at_most {
            return Err(format!("poured {} bytes", state.poured));
        }
        let mut cases = state.seen.iter().flatten().filter(|asked| asked.target == "/case");
        if cases.clone().filter(|asked| asked.method == "POST").count() > 1 {
            return Err("a POST was sent twice".into());
        }
        match &case.body {
            Some(body) if cases.any(|asked| asked.whole && asked.body[..] != body[..]) => {
                Err("the backend got another body".into())
            }
            _ => Ok(()),
        }
    })
}

fn failures(proxy: &Proxy) -> Vec<(Fault, Reason, u64)> {
    let totals = proxy.live.pools()[0].stats.totals();
    let all = Fault::ALL.into_iter().flat_map(|f| Reason::ALL.into_iter().map(move |r| (f, r)));
    all.map(|(fault, reason)| (fault, reason, totals.failures[fault as usize][reason as usize]))
        .filter(|(_, _, count)| *count > 0)
        .collect()
}

/// The targets on each connection.
fn seen(state: &State) -> Vec<Vec<String>> {
    let target = |asked: &Asked| asked.target.clone();
    state.seen.iter().map(|asked| asked.iter().map(target).collect()).collect()
}

async fn within<F: Future>(what: &str, future: F) -> Result<F::Output, String> {
    timeout(PATIENCE, future).await.map_err(|_| format!("never: {what}"))
}

async fn condition(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, holding).await
}

/// Where the backend is.
struct Place {
    address: BackendAddress,
    serving: Option<AbortHandle>,
    /// What keeps the queue of a place full that accepts nothing.
    _queue: Vec<Socket>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Place {
    async fn open(case: &Arc<Case>, board: &Board) -> Self {
        match case.listening {
            Listening::Yes => Self::serving(case.clone(), board.clone()).await,
            Listening::No => {
                let address = support::dead_address();
                Self { address, serving: None, _queue: Vec::new() }
            }
            Listening::Full => Self::full(),
        }
    }

    /// A queue for one connection that is taken: further ones get no answer from the kernel.
    fn full() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let (listener, first) = (socket(), socket());
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("a listener");
        let bound = listener.local_addr().expect("an address");
        first.connect(&bound).expect("the only place in the queue");
        let address = bound.as_socket().expect("an address of IPv4");
        let address = BackendAddress::Socket(address);
        Self { address, serving: None, _queue: vec![listener, first] }
    }

    async fn serving(case: Arc<Case>, board: Board) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER as u32).expect("a buffer");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let listener = socket.listen(64).expect("a listener");
        let address = BackendAddress::Socket(listener.local_addr().expect("an address"));
        let serving = tokio::spawn(accept(listener, case, board)).abort_handle();
        Self { address, serving: Some(serving), _queue: Vec::new() }
    }
}

async fn accept(listener: TcpListener, case: Arc<Case>, board: Board) {
    let mut connections = tokio::task::JoinSet::new();
    for index in 0.. {
        let stream = listener.accept().await.expect("a connection").0;
        board.change(|state| state.seen.push(Vec::new()));
        let peer = Peer::new(stream, &board, Some(index));
        connections.spawn(serve(peer, index, case.clone(), board.clone()));
    }
}

/// One connection of the backend: its script, then well-behaved answers.
async fn serve(mut peer: Peer, index: usize, case: Arc<Case>, board: Board) {
    let script = case.backend.get(index).map(|script| &script[..]);
    let wrong = match perform(&mut peer, script.unwrap_or_default()).await {
        Ok(Next::Step) => {
            board.change(|state| state.played += usize::from(script.is_some()));
            peer.serve().await.err()
        }
        Ok(Next::Over) if matches!(script, Some([.., Step::Stall])) => {
            board.change(|state| {
                state.played += 1;
                state.ended.insert(index);
            });
            return peer.hold().await;
        }
        Ok(Next::Over) => {
            drop(peer);
            board.change(|state| state.played += 1);
            None
        }
        Err(wrong) => {
            board.change(|state| state.played += 1);
            Some(wrong)
        }
    };
    board.change(|state| {
        state.wrongs.extend(wrong.map(|wrong| format!("connection {}: {wrong}", index + 1)));
        state.ended.insert(index);
    });
}

async fn perform(peer: &mut Peer, script: &[Step]) -> Result<Next, String> {
    for (number, step) in script.iter().enumerate() {
        let what = format!("step {}: {step:?}", number + 1);
        let next = within(&what, peer.play(step)).await?;
        if let Next::Over = next.map_err(|wrong| format!("{what}: {wrong}"))? {
            return Ok(Next::Over);
        }
    }
    Ok(Next::Step)
}
