//! `latte eval flicker` and `mmd`: scores without a detector.

use std::path::PathBuf;

use latte_eval::clips::ClipList;
use latte_eval::detector::Clips;
use latte_eval::interop::open_matrix;
use latte_eval::metric::{Polynomial, mmd_unbiased, mmd_with_diagonal, temporal_flicker};
use latte_eval::protocol::{Protocol, Task};
use latte_video::Decoder;
use serde_json::json;

use super::super::data::decoder_parser;
use super::report::{OutputArgs, number};
use super::sets::clips;
use crate::failure::bad_input;
use crate::progress::StageProgress;
use crate::terminal::note;

/// The largest number of clips in memory.
const TOGETHER: usize = 16;

/// The similarity of consecutive frames: (255 − mean difference) / 255, averaged over the clips. It is meant for videos of static
/// scenes; in others, motion counts too.
///
///   latte eval flicker --fake samples
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct FlickerArgs {
    /// The videos: a folder of videos or of frames, tar shards, or a manifest.
    #[arg(long, value_name = "SET")]
    fake: PathBuf,
    /// The number of frames, from the first one.
    #[arg(long, default_value_t = 16, value_name = "N")]
    frames: usize,
    /// The decoder of video files.
    #[arg(long, value_parser = decoder_parser(), default_value = "auto", value_name = "DECODER")]
    decoder: Decoder,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn flicker(args: &FlickerArgs) -> anyhow::Result<()> {
    if args.frames < 2 {
        return Err(bad_input(format!("--frames: expected at least 2, got {}", args.frames)));
    }
    args.output.check()?;
    // Only its choice of clips matters.
    let mut protocol = Protocol::named("latte", Task::VideoIs, None)?;
    (protocol.frames, protocol.fake.most) = (args.frames, None);
    let set = clips(&args.fake, &protocol.fake, &protocol, args.decoder, "generated")?;
    let mut progress = StageProgress::new("flicker");
    let mut report = set.report().clone();
    let mut values = Vec::new();
    for start in (0..set.len()).step_by(TOGETHER) {
        for clip in set.read(start..(start + TOGETHER).min(set.len())) {
            match clip {
                Ok(clip) => {
                    let [f, h, w, _] = clip.shape();
                    values.extend(temporal_flicker(Clips { pixels: clip.pixels(), shape: [1, f, h, w] })?);
                }
                Err(why) => report.unreadable.push(why),
            }
        }
        progress.set((start + TOGETHER) as u64, set.len() as u64);
    }
    progress.finish();
    for why in report.unreadable.iter().chain(&report.passed_over) {
        note(&format!("warning: {why}"));
    }
    if values.is_empty() {
        return Err(bad_input(format!("{}: none of its clips can be read", args.fake.display())));
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    report.clips = values.len();
    let result = json!({"metric": "flicker", "value": mean, "fake": report, "version": env!("CARGO_PKG_VERSION")});
    args.output
        .value(&result, &[format!("{:<12}  {} ({} clips of {} frames)", "flicker", number(mean), values.len(), args.frames)])
}

/// The squared distance of two sets of features in the space of a polynomial kernel, (γ xᵀy + c)ᵈ, for any features: of `latte eval
/// merge`, or of another program. The defaults are those of JEDi, which multiplies by 100 and also compares each feature with
/// itself.
///
///   latte eval mmd --real vjepa-real.npz --fake vjepa-fake.npz
///   latte eval mmd --real real.safetensors --fake fake.safetensors --name pool --degree 3 --coef0 1 --unbiased
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MmdArgs {
    /// A file (.npz, .safetensors, PyTorch) with a matrix that has one row per real clip.
    #[arg(long, value_name = "FILE")]
    real: PathBuf,
    /// The same for the generated clips.
    #[arg(long, value_name = "FILE")]
    fake: PathBuf,
    /// The name of the matrix in the files. Default: the only one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The degree d.
    #[arg(long, default_value_t = 2)]
    degree: i32,
    /// The constant c.
    #[arg(long, default_value_t = 0.0)]
    coef0: f64,
    /// γ. Default: 1 ÷ the width of the features.
    #[arg(long)]
    gamma: Option<f64>,
    /// Do not compare features with themselves.
    #[arg(long)]
    unbiased: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn mmd(args: &MmdArgs) -> anyhow::Result<()> {
    if args.degree < 1 {
        return Err(bad_input(format!("--degree: expected at least 1, got {}", args.degree)));
    }
    for (option, value) in [("--coef0", Some(args.coef0)), ("--gamma", args.gamma)] {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(bad_input(format!("{option}: expected a finite number, got {value}")));
        }
    }
    args.output.check()?;
    let kernel = Polynomial { degree: args.degree, gamma: args.gamma, coef0: args.coef0 };
    let [real, fake] = [&args.real, &args.fake].map(|path| open_matrix(path, args.name.as_deref()));
    let (real, fake) = (real?, fake?);
    let value = if args.unbiased { mmd_unbiased(&real, &fake, kernel)? } else { mmd_with_diagonal(&real, &fake, kernel)? };
    let result = json!({
        "metric": "mmd", "value": value, "kernel": kernel, "unbiased": args.unbiased, "width": real.width(),
        "real": {"path": args.real, "rows": real.len()}, "fake": {"path": args.fake, "rows": fake.len()},
        "version": env!("CARGO_PKG_VERSION"),
    });
    let lines = [
        format!("{:<12}  {} (times 100: {})", "mmd", number(value), number(100.0 * value)),
        format!("  {} real and {} generated rows of {} values", real.len(), fake.len(), real.width()),
    ];
    args.output.value(&result, &lines)
}
