//! `latte eval import` and `merge`: files of weights and of features.

use std::path::PathBuf;

use latte_eval::detector::{self, Kind};
use latte_eval::extract;

use crate::failure::bad_input;
use crate::output::check_output_file;
use crate::terminal::{note, say};

/// Converts the published weights of a detector to this program's format, from whatever file they come in (TensorFlow's data file,
/// TorchScript, pickles, npz, safetensors). The new file names their source.
///
///   latte eval import variables.data-00000-of-00001 --out i3d.safetensors
///   latte eval import pt_inception-2015-12-05-6726825d.pth --out inception.safetensors
///   latte eval import conv3d_deepnetA_ucf.npz --mean mean2.npz --out c3d.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ImportArgs {
    /// The published file.
    file: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The network that the file must have: i3d, inception_fid, c3d or clip. Default: detected from the names in it.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// For C3D: the file with the mean of the training clips (mean2.npz).
    #[arg(long, value_name = "FILE")]
    mean: Option<PathBuf>,
}

pub(crate) fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let known = || Kind::ALL.map(Kind::name).join(", ");
    let kind = match &args.kind {
        None => None,
        Some(name) => {
            Some(Kind::from_name(name).ok_or_else(|| bad_input(format!("--kind {name}: expected one of {}", known())))?)
        }
    };
    check_output_file("--out", &args.out)?;
    let imported = detector::import_with_mean(&args.file, kind, args.mean.as_deref())?;
    if let Some(line) = imported.note() {
        note(line);
    }
    imported.save(&args.out)?;
    let identity = imported.identity();
    say(&format!("{} of {} ({}) in {}", identity.kind, identity.source, identity.weights, args.out.display()));
    Ok(())
}

/// Merges the parts of a set's features that several processes computed (`--shard`), also in caches of several machines, into one
/// file that can be given instead of the set.
///
///   latte eval merge a/0123456789abcdef0123456789abcdef b/0123456789abcdef0123456789abcdef --out real.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MergeArgs {
    /// The folders of the parts, as the other commands print them.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn merge(args: &MergeArgs) -> anyhow::Result<()> {
    check_output_file("--out", &args.out)?;
    let set = extract::merge(&args.folders)?;
    set.save(&args.out)?;
    let outputs: Vec<String> = set.outputs.iter().map(|(name, features)| format!("{name} ({})", features.width())).collect();
    say(&format!(
        "{} clips, {} of {}, in {}",
        set.names.len(),
        outputs.join(" and "),
        set.origin.detector.kind,
        args.out.display()
    ));
    Ok(())
}
