use super::output::complain;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: Args) -> ExitCode {
    complain("this build has no demo yet");
    ExitCode::FAILURE
}
