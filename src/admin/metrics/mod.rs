//! `GET /metrics`: one page from two sources. What belongs to a service comes and goes with it and is
//! written from the counters themselves; what lives as long as the process is kept by a recorder.

mod families;
mod process;
mod rollouts;
mod text;

pub(super) use process::Process;

use super::Admin;
use crate::live::Tickets;

/// `tickets`: what is in flight on the cores; `None`: not all of them have said.
pub(super) fn page(admin: &Admin, tickets: Option<&Tickets>) -> String {
    let mut page = text::Page::default();
    families::write(&mut page, admin, tickets);
    let mut text = page.into_string();
    text.push_str(&admin.process.render());
    text
}
