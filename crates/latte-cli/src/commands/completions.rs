//! `latte completions`: shell completions of commands and options.

use clap_complete::Shell;

/// Prints the completions for a shell.
///
/// Put them where your shell looks for completions, for example:
///
///   latte completions bash > ~/.local/share/bash-completion/completions/latte
///   latte completions zsh  > ~/.zfunc/_latte
///   latte completions fish > ~/.config/fish/completions/latte.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell to complete for.
    shell: Shell,
}

pub(crate) fn run(args: &Args, command: &mut clap::Command) {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, command, "latte", &mut text);
    crate::terminal::say(String::from_utf8_lossy(&text).trim_end());
}
