//! Suggests an option in the place of an unknown one.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// Replaces the tip of an error about an unknown option: by the option with hyphens in the place of underscores, else by one that
/// differs by a typing error, else by none. `args` are those of the command line, without the program.
pub(crate) fn correct(error: &mut Error, command: &Command, args: &[String]) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return };
    let Some(unknown) = unknown.strip_prefix("--") else { return };
    let unknown = unknown.split('=').next().unwrap_or_default().to_string();
    let options = options(called(command, args));
    error.remove(ContextKind::SuggestedArg);
    // clap suggests "to pass '--x' as a value", which does not help.
    error.remove(ContextKind::Suggested);
    if let Some(meant) = meant(&unknown, &options) {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{meant}")));
    }
}

/// The command that the arguments call.
fn called<'c>(mut command: &'c Command, args: &[String]) -> &'c Command {
    for arg in args {
        command = command.find_subcommand(arg).unwrap_or(command);
    }
    command
}

/// The names of all options of a command.
fn options(command: &Command) -> Vec<&str> {
    command.get_arguments().filter_map(clap::Arg::get_long).collect()
}

fn meant<'o>(unknown: &str, options: &[&'o str]) -> Option<&'o str> {
    let hyphenated = unknown.replace('_', "-").to_lowercase();
    let distance = |option: &str| strsim::osa_distance(&hyphenated, option);
    let closest = options.iter().copied().min_by_key(|option| distance(option))?;
    // One letter in three may be wrong.
    (distance(closest) <= closest.len().max(3) / 3).then_some(closest)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::Cli;

    /// The error about `option` after the arguments that call a command.
    fn said(path: &[String], option: &str) -> String {
        let args: Vec<String> = path.iter().cloned().chain([option.to_string()]).collect();
        let mut error = Cli::try_parse_from(std::iter::once("latte".to_string()).chain(args.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{args:?}");
        correct(&mut error, &Cli::command(), &args);
        error.render().to_string()
    }

    /// Calls `visit` with each command without sub-commands, and the arguments that call it.
    fn each(command: &Command, path: &[String], visit: &mut dyn FnMut(&Command, &[String])) {
        if !command.has_subcommands() {
            visit(command, path);
        }
        for inner in command.get_subcommands() {
            each(inner, &[path, &[inner.get_name().to_string()]].concat(), visit);
        }
    }

    #[test]
    fn underscores_lead_to_the_option_with_hyphens_in_every_command() {
        let mut tried = 0;
        each(&Cli::command(), &[], &mut |command, path| {
            for option in options(command).into_iter().filter(|option| option.contains('-')) {
                for spelt in [option.replace('-', "_"), option.replace('-', "_") + "=4", option.replace('-', "_").to_uppercase()]
                {
                    let said = said(path, &format!("--{spelt}"));
                    assert!(said.contains(&format!("similar argument exists: '--{option}'")), "{path:?}: {said}");
                    tried += 1;
                }
            }
        });
        assert!(tried > 60, "{tried}");
    }

    #[test]
    fn typing_errors_get_a_tip_and_other_words_do_not() {
        let t2v = ["t2v".to_string()];
        for (wrong, right) in [("--promt", "--prompt"), ("--sede", "--seed"), ("--guidence", "--guidance")] {
            assert!(said(&t2v, wrong).contains(&format!("'{right}'")), "{}", said(&t2v, wrong));
        }
        each(&Cli::command(), &[], &mut |_, path| {
            for far in ["--zqx", "--num_wheels_of_it", "--wvz"] {
                let said = said(path, far);
                assert!(!said.contains("tip:"), "{path:?}: {said}");
            }
        });
    }
}
