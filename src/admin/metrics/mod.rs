//! `GET /metrics`: one page from two sources. What belongs to a service comes and goes with it and is
//! written from the counters themselves; what lives as long as the process is kept by a recorder.

mod families;
mod openmetrics;
mod process;
mod rollouts;
mod text;

pub(super) use openmetrics::{CONTENT_TYPE as OPENMETRICS, is_wanted as wants_openmetrics};
pub(super) use process::Process;
pub(super) use text::Format;

use super::Admin;
use crate::live::Tickets;

/// `tickets`: what is in flight on the cores; `None`: not all of them have said.
pub(super) fn page(admin: &Admin, tickets: Option<&Tickets>, format: Format) -> String {
    let mut page = text::Page::new(format);
    families::write(&mut page, admin, tickets);
    let mut text = page.into_string();
    let process = admin.process.render();
    match format {
        Format::Text => text.push_str(&process),
        Format::OpenMetrics => {
            text.push_str(&openmetrics::converted(&process));
            text.push_str("# EOF\n");
        }
    }
    text
}
