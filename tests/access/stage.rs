//! A process with an admin API that is asked by others, and the commands that ask it.

use crate::support::*;
use crossfade::spec::{Role, Secret, Spec, Token};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

pub const OPERATOR: &str = "the-token-of-an-operator";
pub const VIEWER: &str = "the-token-of-a-viewer";

/// A shop whose admin API takes the two tokens above, of `ci` and `eye`.
pub fn guarded(backend: &Backend) -> Spec {
    let mut spec = shop(backend);
    let token = |name: &str, role, secret: &str| Token {
        name: name.into(),
        file: Path::new(name).into(),
        role,
        secret: Secret::of(secret.as_bytes()),
    };
    spec.admin.tokens =
        vec![token("ci", Role::Operator, OPERATOR), token("eye", Role::Viewer, VIEWER)];
    spec
}

/// Blue at 95 and green at 5, both with the same backend.
pub fn shop(backend: &Backend) -> Spec {
    let address = [backend.spec_address()];
    spec(&[("blue", pool("v1", 95, &address)), ("green", pool("v2", 5, &address))])
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the binary with these words, as this user if one is given.
pub async fn run(words: &[&str], environment: &[(&str, &str)], user: Option<u32>) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
    command.args(words).envs(environment.iter().copied());
    for name in ["CROSSFADE_ADMIN", "CROSSFADE_TOKEN", "CROSSFADE_TOKEN_FILE"] {
        if environment.iter().all(|(set, _)| *set != name) {
            command.env_remove(name);
        }
    }
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `crossfade serve`, until it is dropped.
pub struct Served {
    process: Child,
    pub folder: TempDir,
}

impl Served {
    /// With `c.yaml`, which names its other files relative to it.
    pub fn start(folder: TempDir, config: &str) -> Self {
        // Also for processes of other users.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("c.yaml"), config).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_crossfade"))
            .arg("serve")
            .arg(folder.path().join("c.yaml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// It has logged this.
    pub async fn logged(&self, text: &str) {
        let waiting = async {
            while !self.log().contains(text) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "never logged {text}: {}", self.log());
    }

    /// Where the admin API listens, as it has logged.
    pub async fn admin_address(&self) -> String {
        self.logged("admin API").await;
        let log = self.log();
        let line = log.lines().find(|line| line.contains("admin API")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().to_owned()
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A configuration of a small shop with this `admin` section.
pub fn config_of(backend: &Backend, admin: &str) -> String {
    format!(
        "threads: 1\nlisteners: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ {admin} }}\n\
         services: {{ shop: {{ pools: {{ blue: {{ weight: 95, backends: [\"{0}\"] }}, \
         green: {{ weight: 5, backends: [\"{0}\"] }} }} }} }}\n",
        backend.address
    )
}
