//! `latte eval clipsim`: how well generated clips fit their texts.

use std::path::PathBuf;

use latte_eval::clips::{ClipList, SetReport};
use latte_eval::detector::{Detector, Kind, Setup, open_clip};
use latte_eval::metric::{Features, clipsim};
use latte_eval::protocol::{Protocol, StartRule, Task};
use serde_json::json;

use super::report::{OutputArgs, number};
use super::sets::{FeatureArgs, LoadedFeatures, clips, features_of};
use crate::failure::bad_input;
use crate::terminal::{note, say};

/// The cosine of each frame's CLIP embedding with that of its video's text, averaged over the frames of a video, then over the
/// videos (CLIPSIM, without a factor). Texts are those of the manifest or of the shards, or the prompts in the .json files that
/// `latte t2v` writes beside its videos.
///
///   latte t2v --model latte-1 --prompt-file prompts.txt --out made && latte eval clipsim --fake made --detector clip.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The videos: a folder of videos with .json files beside them, a manifest with captions, or tar shards.
    #[arg(long, value_name = "SET")]
    fake: PathBuf,
    /// CLIP: a file that `latte eval import` wrote.
    #[arg(long, value_name = "FILE")]
    detector: PathBuf,
    #[command(flatten)]
    features: FeatureArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.output.check()?;
    let cache = args.features.cache()?;
    // All frames of all videos.
    let mut protocol = Protocol::named("latte", Task::Is, None)?;
    (protocol.fake.start, protocol.fake.most, protocol.preparation) = (StartRule::Every, None, Kind::Clip.preparation());
    let clip = open_clip(&args.detector, Setup { preparation: Some(protocol.preparation), batch_norm_eps: None })?;
    let set = clips(&args.fake, &protocol.fake, &protocol, args.features.decoder, "generated")?;
    let captions = set.captions();
    if let Some((name, ..)) = captions.iter().find(|(_, caption, _)| caption.is_none()) {
        let what = "has no text: give a manifest with captions, or .json files with a `prompt` beside the videos";
        return Err(bad_input(format!("{}: {name} {what}", args.fake.display())));
    }
    if let Some(why) = set.report().unreadable.first() {
        return Err(bad_input(format!("{}: {why}", args.fake.display())));
    }
    // Texts first: they are few, so their errors are reported at once.
    let texts: Vec<&str> = captions.iter().filter_map(|(_, caption, _)| *caption).collect();
    let (all, cut) = (texts.len(), clip.num_cut(&texts));
    if cut > 0 {
        note(&format!("warning: {cut} of {all} texts have more tokens than CLIP reads (77): the rest of each is left out"));
    }
    let texts = clip.texts(&texts)?;
    let width = texts.dim(1)?;
    let texts = Features::new(texts.flatten_all()?.to_vec1()?, width, "texts")?;
    let found = match features_of(&set, &protocol, &clip, cache.as_ref(), "generated")? {
        LoadedFeatures::Whole(latte_eval::score::SetFeatures::Each(found)) => found,
        LoadedFeatures::Whole(_) => return Err(bad_input("--fake: expected videos")),
        LoadedFeatures::Part(missing, folder) => {
            say(&format!("this part is done; {missing} parts are missing, which other processes do, in {}", folder.display()));
            return Ok(());
        }
    };
    if !found.origin.set.unreadable.is_empty() {
        return Err(bad_input(format!("{}: {}", args.fake.display(), found.origin.set.unreadable[0])));
    }
    let frames_of: Vec<usize> = captions.iter().map(|(_, _, frames)| *frames).collect();
    let (mean, of_videos) = clipsim(found.output("image")?, &frames_of, &texts)?;
    if of_videos.len() < FEW {
        note(&format!("warning: {} videos: 2990 are usual, one caption per video of MSR-VTT's test set", of_videos.len()));
    }
    for why in found.origin.set.passed_over.iter().chain(&too_short(&found.origin.set)) {
        note(&format!("warning: {why}"));
    }
    let videos: Vec<_> = captions
        .iter()
        .zip(&of_videos)
        .map(|((name, caption, _), value)| json!({"name": name, "text": caption, "value": value}))
        .collect();
    let result = json!({
        "metric": "clipsim", "value": mean, "detector": clip.identity(), "preparation": protocol.preparation,
        "frames": "all", "fake": found.origin.set, "videos": videos, "version": env!("CARGO_PKG_VERSION"),
    });
    let lines = [
        format!("{:<12}  {} (times 100: {})", "clipsim", number(mean), number(100.0 * mean)),
        format!("  {} videos, {} frames, {}", of_videos.len(), found.names.len(), args.detector.display()),
    ];
    args.output.value(&result, &lines)
}

fn too_short(report: &SetReport) -> Option<String> {
    let SetReport { too_short, videos, .. } = report;
    (*too_short > 0).then(|| format!("{too_short} of {videos} videos are too short and left out"))
}

/// With fewer videos, a mean is not informative about a model.
const FEW: usize = 256;
