use super::{Cli, Failure, output};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// Of which verb, such as `rollout start`
    verb: Vec<String>,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(())
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut command = Cli::command();
    // Verbs get the options that all have, and their full names.
    command.build();
    let mut of: &Command = &command;
    for verb in &args.verb {
        of = of.find_subcommand(verb).ok_or_else(|| {
            Failure::usage(format!("crossfade has no verb `{}`", args.verb.join(" ")))
        })?;
    }
    let mut page = Vec::new();
    let written = Man::new(of.clone()).render(&mut page);
    written.map_err(|error| Failure::failed(format!("the page cannot be made: {error}")))?;
    output::print(&String::from_utf8_lossy(&page));
    Ok(())
}
