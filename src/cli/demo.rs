//! Everything at once, to see it work: two versions of a small service, the proxy, a client that keeps
//! asking, and a live view.

use super::{
    arrival::Arrival,
    demo_app,
    output::{colours, complain, print},
    serve::{Served, log_to_stderr, run_here},
};
use crate::{config, live::Phase, spec::AdminAddress};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    fmt::Write,
    io::IsTerminal,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_local,
    time::{MissedTickBehavior, interval, sleep},
};

#[derive(clap::Args)]
pub(super) struct Args {}

/// Ports that the printed commands use, where they are free.
const PROXY: u16 = 8080;
const ADMIN: u16 = 9900;
const BLUE: u16 = 9001;
const GREEN: u16 = 9011;

/// Client connections, and the pause of each between two requests.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn run(_: Args) -> ExitCode {
    log_to_stderr("error", std::io::stderr().is_terminal());
    run_here(async {
        match demo().await {
            Ok(code) => code,
            Err(error) => {
                complain(&format!("the demo cannot start: {error}"));
                ExitCode::FAILURE
            }
        }
    })
}

async fn demo() -> Result<ExitCode, Box<dyn Error>> {
    let blue = backend(BLUE, "v1.0").await?;
    let green = backend(GREEN, "v2.0").await?;
    let text = configuration(free(PROXY).await?, free(ADMIN).await?, blue, green);
    let outcome = config::parse(&text, Path::new("demo"), config::Surroundings::of_clients());
    let spec = outcome.spec.ok_or_else(|| format!("{:?}", outcome.errors))?;
    let served = Served::start(spec, None, Arrival::default()).await?;
    let proxy = served.process.live.published.read(|s| s.listeners[0].bound.address);
    let seen: Rc<RefCell<Seen>> = Rc::default();
    for _ in 0..CLIENTS {
        let phases = served.process.live.lifecycle.subscribe();
        spawn_local(keep_asking(proxy, seen.clone(), phases));
    }
    let words = what_to_try(proxy, &served.admin_address, green);
    spawn_local(show(words, seen));
    Ok(served.until_the_end().await)
}

/// A version of the demo service, in this process.
async fn backend(port: u16, version: &str) -> std::io::Result<SocketAddr> {
    let listener = match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("127.0.0.1", 0)).await?,
    };
    let address = listener.local_addr()?;
    let latency = Duration::from_millis(2);
    let options = demo_app::Options { version: version.into(), fail_percent: 0, latency };
    spawn_local(demo_app::serve(listener, options));
    Ok(address)
}

/// The wanted port, or any (0) if somebody has it.
async fn free(port: u16) -> std::io::Result<u16> {
    match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(_) => Ok(port),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(0),
        Err(error) => Err(error),
    }
}

fn configuration(proxy: u16, admin: u16, blue: SocketAddr, green: SocketAddr) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:{proxy}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
shutdown: {{ drain: 2s }}
services:
  shop:
    expose_version: true
    pools:
      blue:  {{ version: v1.0, weight: 95, backends: ["{blue}"] }}
      green: {{ version: v2.0, weight: 5,  backends: ["{green}"] }}
    pins: [{{ headers: {{ canary: "true" }}, pool: green }}]
    health_check: {{ path: /health/ready, interval: 1s }}
"#
    )
}

fn what_to_try(proxy: SocketAddr, admin: &AdminAddress, green: SocketAddr) -> String {
    let elsewhere = match admin {
        AdminAddress::Tcp(address) if address.port() == ADMIN => String::new(),
        AdminAddress::Tcp(address) => format!(" --admin http://{address}"),
        AdminAddress::Unix(path) => format!(" --admin unix:{}", path.display()),
    };
    // As it was called, so that the line can be pasted.
    let program = std::env::args().next().unwrap_or_else(|| "crossfade".into());
    let verb = |words: &str| format!("  {program} {words}{elsewhere}\n");
    let mut text = String::from(
        "crossfade demo: two versions of a service, the proxy and a client that keeps asking.\n\
         Ctrl-C ends it. From a second terminal, try:\n\n",
    );
    text += &verb("status");
    text += &verb("weights shop blue=50 green=50");
    let _ = writeln!(text, "  curl -H 'canary: true' http://{proxy}/        always v2.0");
    let _ = writeln!(text, "  curl -X POST 'http://{green}/fail?percent=50'  make green fail");
    text += &verb("cutover shop blue");
    text += &verb("cutover shop green");
    if let AdminAddress::Tcp(address) = admin {
        let _ = writeln!(text, "  curl http://{address}/metrics");
        let _ = writeln!(text, "\nand in a browser, the dashboard: http://{address}/");
    }
    text
}

/// What the client saw since the last look, by version.
#[derive(Default)]
struct Seen {
    versions: BTreeMap<String, Version>,
    /// Requests without any answer.
    lost: u64,
}

#[derive(Default)]
struct Version {
    requests: u64,
    errors: u64,
    slowest: Duration,
    total: u64,
    total_errors: u64,
}

/// From when the proxy is ready until it is asked to end.
async fn keep_asking(
    proxy: SocketAddr,
    seen: Rc<RefCell<Seen>>,
    mut phases: watch::Receiver<Phase>,
) {
    if phases.wait_for(|phase| *phase >= Phase::Ready).await.is_err() {
        return;
    }
    let asking = async {
        loop {
            if ask(proxy, &seen).await.is_err() {
                seen.borrow_mut().lost += 1;
                sleep(Duration::from_millis(200)).await;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        _ = phases.wait_for(|phase| *phase > Phase::Ready) => {}
    }
}

/// Asks over one connection until it ends.
async fn ask(proxy: SocketAddr, seen: &RefCell<Seen>) -> Result<(), Box<dyn Error>> {
    let io = TokioIo::new(TcpStream::connect(proxy).await?);
    let (mut sender, connection) = http1::handshake(io).await?;
    spawn_local(connection);
    loop {
        let request = Request::get("/").header("host", "demo").body(Empty::<Bytes>::new())?;
        let began = Instant::now();
        let response = sender.send_request(request).await?;
        let (version, ok) = (version(&response), response.status().is_success());
        let is_last = response.headers().get("connection").is_some_and(|value| value == "close");
        response.into_body().collect().await?;
        seen.borrow_mut().answered(version, ok, began.elapsed());
        if is_last {
            return Ok(());
        }
        sleep(PAUSE).await;
        sender.ready().await?;
    }
}

fn version(response: &Response<Incoming>) -> String {
    let version = response.headers().get("x-crossfade-version");
    version.and_then(|value| value.to_str().ok()).unwrap_or("(the proxy)").to_owned()
}

impl Seen {
    fn answered(&mut self, version: String, ok: bool, took: Duration) {
        let version = self.versions.entry(version).or_default();
        version.requests += 1;
        version.total += 1;
        version.errors += u64::from(!ok);
        version.total_errors += u64::from(!ok);
        version.slowest = version.slowest.max(took);
    }

    /// A line a version, and begins a new look.
    fn look(&mut self) -> String {
        let all: u64 = self.versions.values().map(|version| version.requests).sum();
        let mut text = String::from(
            "VERSION      SHARE                            REQ/S  ERRORS  SLOWEST      TOTAL  FAILED\n",
        );
        for (name, version) in &mut self.versions {
            let share = version.requests as f64 / all.max(1) as f64;
            let bar = "#".repeat((share * 24.0).round() as usize);
            let errors = 100.0 * version.errors as f64 / version.requests.max(1) as f64;
            let _ = writeln!(
                text,
                "{name:<12} {bar:<24} {share:>6.1}% {requests:>6} {errors:>6.1}% {slowest:>6.1}ms {total:>10} {failed:>7}",
                share = share * 100.0,
                requests = version.requests,
                slowest = version.slowest.as_secs_f64() * 1e3,
                total = version.total,
                failed = version.total_errors,
            );
            (version.requests, version.errors, version.slowest) = (0, 0, Duration::ZERO);
        }
        let _ = writeln!(text, "requests without an answer: {}", self.lost);
        text
    }
}

/// A new picture each second; without a terminal one after the other.
async fn show(words: String, seen: Rc<RefCell<Seen>>) {
    let terminal = colours();
    print(&format!("{}{words}\n", if terminal { "\x1b[2J\x1b[H" } else { "" }));
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    second.tick().await;
    loop {
        second.tick().await;
        let look = seen.borrow_mut().look();
        let top = if terminal { format!("\x1b[H\x1b[J{words}\n") } else { String::new() };
        print(&format!("{top}{look}"));
    }
}
