use super::output::complain;
use std::{path::PathBuf, process::ExitCode};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: ./crossfade.yaml, then /etc/crossfade/crossfade.yaml]
    pub(super) config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> ExitCode {
    let _ = args.config;
    complain("this build cannot serve yet");
    ExitCode::FAILURE
}
