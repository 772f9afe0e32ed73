use crate::{
    admin::{self, Socket},
    control::{Handle, Inheritance},
    spec::{AdminAddress, Spec},
    system::{Activated, Notifier},
    upgrade::{Predecessor, Taking},
};
use std::{
    env,
    ffi::OsString,
    io::IsTerminal,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

/// How this process came to be: by itself, started by a service manager, or to take over from another one.
#[derive(Default)]
pub(super) struct Arrival {
    taking: Option<Taking>,
    activated: Activated,
    pub(super) notifier: Rc<Notifier>,
}

impl Arrival {
    /// # Errors
    /// When what the environment says of it is not true.
    pub(super) fn from_environment() -> Result<Self, String> {
        let taking = Taking::from_environment()?;
        let activated = Activated::from_environment()
            .map_err(|error| format!("the sockets of LISTEN_FDS cannot be used: {error}"))?;
        let notifier = Notifier::from_environment(taking.is_some())
            .map_err(|error| format!("the socket of NOTIFY_SOCKET cannot be used: {error}"))?;
        Ok(Self { taking, activated, notifier: Rc::new(notifier) })
    }

    pub(super) fn logs_to_terminal(&self) -> bool {
        let own = || std::io::stderr().is_terminal();
        self.taking.as_ref().map_or_else(own, Taking::logs_to_terminal)
    }

    /// The admin API's socket, which may be open already.
    ///
    /// # Errors
    /// When it is not and cannot be bound.
    pub(super) fn admin_socket(&mut self, address: &AdminAddress) -> Result<Socket, String> {
        let handed_over = self.taking.as_mut().and_then(|taking| taking.admin_socket(address));
        let socket = match handed_over {
            Some(socket) => admin::adopt(socket, address, true),
            None => match self.activated.take_admin(address) {
                Some(socket) => admin::adopt(socket, address, false),
                None => admin::bind(address),
            },
        };
        socket.map_err(|error| format!("the admin API cannot listen on {address}: {error}"))
    }

    /// What is there for the control plane to begin with; after the admin API has had its part.
    ///
    /// # Errors
    /// When a socket cannot be used.
    pub(super) fn inheritance(&mut self) -> Result<Inheritance, String> {
        if let Some(taking) = &mut self.taking {
            return Ok(taking.inheritance());
        }
        let sockets = std::mem::take(&mut self.activated).into_inherited();
        let sockets = sockets
            .map_err(|error| format!("a socket of LISTEN_FDS cannot be listened on: {error}"))?;
        Ok(Inheritance { sockets, estate: None })
    }

    /// Takes over, if that is what this process was started for. Nothing may have been accepted yet.
    ///
    /// # Errors
    /// When the other process goes on instead.
    pub(super) async fn take_over(
        &mut self,
        is_ready: impl Future<Output = ()>,
        listeners: &[SocketAddr],
        handle: &Handle,
        file: Arc<Spec>,
    ) -> Result<Option<Predecessor>, String> {
        match self.taking.take() {
            Some(taking) => taking.take_over(is_ready, listeners, handle, file).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The binary that this process was started from, by the name that it was started by: a link may lead elsewhere by
/// now.
pub(super) fn binary() -> std::io::Result<PathBuf> {
    match env::args_os().next() {
        Some(name) if Path::new(&name).is_absolute() && Path::new(&name).exists() => {
            Ok(name.into())
        }
        _ => env::current_exe(),
    }
}

/// What it was started with.
pub(super) fn arguments() -> Vec<OsString> {
    env::args_os().skip(1).collect()
}
