//! The options that all commands with a training configuration share.

use std::path::PathBuf;

use latte_train::Start;

/// The configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration, a TOML file; `latte train` takes a training file of the original (.yaml) too.
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replaces one value of the configuration; may be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

/// Whether a run resumes or starts.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// Resume from the newest checkpoint; an error if there is none.
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Start at step 0; an error if the run folder has checkpoints.
    #[arg(long)]
    fresh: bool,
}

impl StartArgs {
    pub(crate) fn start(&self) -> Start {
        match (self.resume, self.fresh) {
            (true, _) => Start::Resume,
            (_, true) => Start::Fresh,
            _ => Start::Auto,
        }
    }
}
