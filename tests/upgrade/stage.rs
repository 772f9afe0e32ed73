//! The real binary, as a process of its own.

use crate::support::PATIENCE;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

/// Between two looks at what other processes do.
const LOOK: std::time::Duration = std::time::Duration::from_millis(5);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_crossfade");

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) first: Child,
}

impl Stage {
    pub(crate) async fn start(config: &str) -> Self {
        Self::with(config, |_| {}).await
    }

    /// `prepare`: what is special about how it is started.
    pub(crate) async fn with(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let stage = Self::begin(config, prepare);
        stage.until_logged("admin API", 1).await;
        stage
    }

    pub(crate) fn begin(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("c.yaml"), config).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["serve", "c.yaml"]).stdin(Stdio::null());
        prepare(&mut command);
        let mut log = fs::OpenOptions::new();
        let log = log.create(true).append(true).open(directory.path().join("log")).unwrap();
        command.current_dir(directory.path()).env("CROSSFADE_LOG_FORMAT", "json").stderr(log);
        let first = command.spawn().unwrap();
        Self { directory, first }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// In one step, as editors do it.
    pub(crate) fn write(&self, config: &str) {
        fs::write(self.path("new"), config).unwrap();
        fs::rename(self.path("new"), self.path("c.yaml")).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What was logged with this message.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        let log = self.log();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries.filter(|entry| entry["message"] == message).collect()
    }

    pub(crate) async fn until_logged(&self, message: &str, times: usize) -> Vec<Value> {
        self.until(message, || Some(self.logged(message)).filter(|all| all.len() >= times)).await
    }

    /// Waits for what another process does, which tells nobody.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                sleep(LOOK).await;
            }
        };
        let found = timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("never: {what}\n{}", self.log()))
    }

    /// Where the first listener listens.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.logged("listening")[0]["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn admin(&self) -> String {
        self.logged("admin API")[0]["address"].as_str().unwrap().to_owned()
    }

    /// The processes that were started to take over.
    pub(crate) fn successors(&self) -> Vec<u32> {
        let started = self.logged("a new process was started to take over");
        started.iter().map(|entry| entry["pid"].as_u64().unwrap() as u32).collect()
    }

    pub(crate) fn signal(&self, pid: u32, signal: Signal) {
        kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
    }

    /// Asks the admin API; the status and what it says.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let admin = self.admin();
        match admin.strip_prefix("unix:") {
            Some(path_of_it) => {
                let stream = UnixStream::connect(self.path(path_of_it)).await.unwrap();
                ask_on(stream, "localhost", method, path, body).await
            }
            None => {
                let stream = TcpStream::connect(&admin).await.unwrap();
                ask_on(stream, &admin, method, path, body).await
            }
        }
    }

    pub(crate) async fn upgrade(&self) -> u32 {
        let (status, said) = self.ask("POST", "/v1/upgrade", json!({})).await;
        assert_eq!(status, 200, "{said}\n{}", self.log());
        said["pid"].as_u64().unwrap() as u32
    }

    pub(crate) async fn cutover(&self, to: &str) {
        let path = "/v1/services/shop/cutover";
        let (status, said) = self.ask("POST", path, json!({ "to": to, "force": true })).await;
        assert_eq!(status, 200, "{said}");
    }

    pub(crate) async fn first_ended(&mut self) -> ExitStatus {
        let first = std::cell::RefCell::new(&mut self.first);
        let directory = &self.directory;
        let waiting = async {
            loop {
                if let Some(status) = first.borrow_mut().try_wait().unwrap() {
                    return status;
                }
                sleep(LOOK).await;
            }
        };
        let ended = timeout(PATIENCE, waiting).await;
        let log = || fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        ended.unwrap_or_else(|_| panic!("the first process does not end\n{}", log()))
    }

    pub(crate) async fn ended(&self, pid: u32) {
        self.until("a process ends", || (!is_alive(pid)).then_some(())).await;
    }

    /// A request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.proxy()).await.unwrap();
        get_on(&mut stream, path).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
        for pid in self.successors() {
            if is_alive(pid) {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
            }
        }
    }
}

/// Not when it has ended and only waits for somebody to look at its status.
pub(crate) fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    let state = |text: String| text.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(status.ok().and_then(state), None | Some('Z' | 'X'))
}

pub(crate) async fn ask_on<S>(
    stream: S,
    host: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", host);
    let request = request.header("content-type", "application/json");
    let text = if method == "GET" { String::new() } else { body.to_string() };
    let request = request.body(Full::<bytes::Bytes>::from(text)).unwrap();
    let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The whole response, head and body, of a request whose answer has a length.
pub(crate) async fn get_on(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer_on(stream).await
}

pub(crate) async fn answer_on(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    let reading = async {
        loop {
            if let Some(text) = whole(&response) {
                return text;
            }
            let read = stream.read_buf(&mut response).await.unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&response));
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer")
}

fn whole(response: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(response).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (body.len() == length.parse::<usize>().ok()?).then(|| text.to_owned())
}
