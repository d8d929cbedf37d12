//! `latte demo`: the whole workflow in one command.

use std::path::PathBuf;

use crate::demo::{self, parameters};
use crate::device::DeviceArgs;
use crate::interrupt::Interrupt;
use crate::output::check_output_folder;

/// Runs the whole workflow once, from nothing and without a GPU: data, training, samples, and a count of those that are right.
///
/// Writes a small data set of real mp4 files (moving shapes; the class is the shape and its direction), trains on them with the
/// ordinary trainer, samples every class, and counts from the generated pixels how many videos move as their class says.
///
///   latte demo
///   latte demo --quick
///   latte demo --measure samples
///
/// The whole demo takes minutes; --quick takes about one, with a lower score. Ctrl-C saves, and the same command resumes. --measure
/// only measures existing videos, of any model that was trained on the demo's data.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The folder for all output.
    #[arg(long, default_value = "latte-demo", value_name = "FOLDER")]
    out: PathBuf,
    /// Train for about a minute only.
    #[arg(long)]
    quick: bool,
    /// The seed of all randomness: data set, training, samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only measure the videos below this folder as the demo measures its own, by the classes in their names.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "quick", "seed"])]
    measure: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(folder) = &args.measure {
        return demo::measure(folder);
    }
    check_output_folder("--out", &args.out)?;
    let budget = if args.quick { parameters::QUICK } else { parameters::FULL };
    demo::run(&args.out, budget, args.seed, &args.device.open()?, &Interrupt::listen()?)
}
