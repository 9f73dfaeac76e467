//! `plimsoll policy`

mod replay;
mod test;

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run the cases beside policies: what is given, what is wanted, a diff where it differs
    Test(test::Args),
    /// Replay recorded conversations as they grew: what each policy sends, prefills, cuts and loses
    Replay(replay::Args),
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Test(args) => test::run(args),
        Command::Replay(args) => replay::run(args),
    }
}
