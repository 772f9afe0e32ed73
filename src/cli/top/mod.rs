//! What runs, on one screen.
//!
//! - `look`: asks the admin API for it
//! - `screen`: what is shown of it, and what keys do
//! - `draw`: the screen as letters
//! - `cards`: the pools of a service, side by side or as a table
//! - `plain`: the same as text, where there is no terminal

mod cards;
mod draw;
mod look;
mod plain;
mod screen;

use super::{Client, Failure, output};
use look::{Looker, Picture};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use screen::{Key, Screen, Wanted};
use std::{
    io::{self, IsTerminal},
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Who has not answered for so long is out of reach, unless `--timeout` says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The one to begin with; without a terminal the only one [default: the first; all]
    service: Option<String>,
    /// Print one look as text and end, as it is without a terminal
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let mut looker = Looker::new(client);
    if client.json() {
        output::print(&format!("{:#}\n", looker.answers(args.service.as_deref()).await?));
        return Ok(());
    }
    if args.once || !output::to_terminal() || !io::stdin().is_terminal() {
        let text = plain::text(&looker.whole(args.service.as_deref()).await?);
        output::print(&text);
        return Ok(());
    }
    // Who cannot be reached at first is probably somebody else: that is said, and the screen stays as it is.
    let picture = looker.look(args.service.as_deref()).await?;
    show(looker, Screen::new(picture, args.service, output::colours())).await
}

/// Until somebody has seen enough.
async fn show(mut looker: Looker<'_>, mut screen: Screen) -> Result<(), Failure> {
    let (wants, wanted) = watch::channel(screen.wanted());
    let (looked, mut looks) = mpsc::channel(1);
    let mut ends = Ends::new().map_err(failed)?;
    let mut terminal = Terminal::open().map_err(failed)?;
    let mut keys = keys();
    let showing = async {
        loop {
            terminal.0.draw(|frame| draw::draw(&screen, frame)).map_err(failed)?;
            tokio::select! {
                // The terminal may be gone: then drawing says so, or a signal.
                Some(event) = keys.recv() => {
                    if let Event::Key(key) = event
                        && key.kind != KeyEventKind::Release
                        && screen.press(key) == Key::Quit
                    {
                        return Ok(());
                    }
                    wants.send_if_modified(|wanted| {
                        let before = std::mem::replace(wanted, screen.wanted());
                        before != *wanted
                    });
                }
                Some(look) = looks.recv() => screen.looked(look),
                () = ends.wait() => return Ok(()),
            }
        }
    };
    tokio::select! {
        end = showing => end,
        () = keep_looking(&mut looker, wanted, looked) => Ok(()),
    }
}

async fn keep_looking(
    looker: &mut Looker<'_>,
    mut wanted: watch::Receiver<Wanted>,
    looked: mpsc::Sender<Result<Picture, String>>,
) {
    loop {
        let Wanted { service, paused } = wanted.borrow_and_update().clone();
        if !paused {
            let patience = looker.patience().unwrap_or(PATIENCE);
            let look = match timeout(patience, looker.look(service.as_deref())).await {
                Ok(look) => look.map_err(Failure::into_message),
                Err(_) => {
                    Err(format!("no answer within {}", crate::config::format_duration(patience)))
                }
            };
            if looked.send(look).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// What is typed, and changes of the terminal's size. The thread that reads ends with the process: a read cannot be called off.
fn keys() -> mpsc::UnboundedReceiver<Event> {
    let (typed, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if typed.send(event).is_err() {
                break;
            }
        }
    });
    keys
}

fn failed(error: io::Error) -> Failure {
    Failure::failed(format!(
        "the terminal cannot be used: {error}; `crossfade top --once` needs none"
    ))
}

/// A screen of our own, until this is dropped; a panic gives it back as well.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// What ends the process from outside.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
