//! A folder with a configuration, the process that runs there, and its admin API.
#![allow(unreachable_pub)]

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes; what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blue has all weight, and the state is in `state`, where nothing else is written.
pub const SHOP: &str = "
threads: 1
listeners: [{ address: 127.0.0.1:0 }]
admin: { address: unix:admin.sock, audit: { file: audit.log } }
state: { directory: state }
services:
  shop:
    pools:
      blue: { version: v1, weight: 100, backends: [127.0.0.1:9] }
      green: { version: v2, weight: 0, backends: [127.0.0.1:9] }
";

pub struct Stage {
    directory: TempDir,
}

/// What the shim of shim.c is to do.
#[derive(Default)]
pub struct Shim<'a> {
    pub die_at: u64,
    pub lose: &'a str,
    pub seed: u64,
}

impl Stage {
    pub fn new(config: &str) -> Self {
        let stage = Self { directory: tempfile::tempdir().unwrap() };
        stage.configure(config);
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn configure(&self, config: &str) {
        fs::write(self.path("crossfade.yaml"), config).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
        command.arg("serve").arg(self.path("crossfade.yaml"));
        command.current_dir(self.directory.path()).env("CROSSFADE_LOG_FORMAT", "text");
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Starts it and waits until its API answers.
    pub fn start(&self) -> Served {
        self.try_start(self.command()).unwrap_or_else(|ended| panic!("it ended: {ended:?}"))
    }

    /// The same on a disk that forgets; `None` when it has died already.
    pub fn start_on(&self, shim: &Shim<'_>) -> Option<Served> {
        let mut command = self.command();
        command.env("LD_PRELOAD", shim_library()).env("SHIM_DIR", self.path("state"));
        command.env("SHIM_DIE_AT", shim.die_at.to_string()).env("SHIM_LOSE", shim.lose);
        command.env("SHIM_SEED", shim.seed.to_string()).env("SHIM_FLAG", self.path("flag"));
        self.try_start(command).ok()
    }

    fn try_start(&self, mut command: Command) -> Result<Served, ExitStatus> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut served = Served { child, socket: self.path("admin.sock") };
        let began = Instant::now();
        loop {
            if let Some(status) = served.child.try_wait().unwrap() {
                return Err(status);
            }
            // Of this process, not of one before, whose socket may still lie there.
            if served.try_ask("GET", "/healthz", "", &[]).is_some() {
                return Ok(served);
            }
            assert!(began.elapsed() < PATIENCE, "no answer: {}", self.log());
            sleep(Duration::from_millis(2));
        }
    }

    /// Starts it although it should refuse to; how it ended and what it said.
    pub fn refused(&self) -> (i32, String) {
        let before = self.log().len();
        match self.try_start(self.command()) {
            Ok(_) => panic!("it started: {}", self.log()),
            Err(status) => (status.code().unwrap(), self.log()[before..].to_owned()),
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Until everything is out of the log of what is written first.
    pub fn wait_for_tidy_log(&self) {
        let began = Instant::now();
        let log = self.path("state/state.sqlite3-wal");
        while fs::metadata(&log).is_ok_and(|it| it.len() > 0) {
            assert!(began.elapsed() < PATIENCE, "it stays: {}", self.log());
            sleep(Duration::from_millis(2));
        }
    }

    /// Runs another verb of the binary.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = format!("unix:{}", self.path("admin.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
        let output = command.arg("--admin").arg(admin).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

/// The shim, compiled once.
fn shim_library() -> &'static Path {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/state/shim.c");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
        let made = command.arg(&library).args([source, "-ldl", "-pthread"]).status();
        assert!(made.expect("a C compiler").success());
        (directory, library)
    });
    library
}

pub struct Served {
    child: Child,
    socket: PathBuf,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }
}

impl Served {
    pub fn get(&self, path: &str) -> Value {
        let answer = self.try_ask("GET", path, "", &[]).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// Asks for a change, which is made.
    pub fn change(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.try_ask(method, path, body, &[]).expect("an answer");
        assert!([200, 201].contains(&answer.status), "{method} {path}: {answer:?}");
        answer.body
    }

    pub fn weights(&self, blue: u64) -> Value {
        self.change("PUT", "/v1/services/shop/weights", &weights(blue))
    }

    /// `None`: there was no whole answer.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Option<Answer> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            let length = body.len();
            head.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            ));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
        read_answer(stream)
    }

    /// As `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A test has failed, or needs it no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until it holds.
pub fn wait(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(10));
    }
}

pub fn weights(blue: u64) -> String {
    format!("{{\"weights\": {{\"blue\": {blue}, \"green\": 1}}, \"force\": true}}")
}

fn read_answer(stream: UnixStream) -> Option<Answer> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Answer { status, headers, body })
}
