//! `latte eval fvd`, `kvd`, `fid`, `kid`, `is` and `all`: scores of sets of clips by a protocol.

use std::path::PathBuf;

use latte_eval::detector::{Detector, Kind, Setup};
use latte_eval::plan;
use latte_eval::protocol::{Protocol, Task};
use latte_eval::score::{Score, ScoreOptions, SetFeatures, score};

use super::detectors::DetectorChoice;
use super::report::OutputArgs;
use super::sets::{Clips, FeatureArgs, LoadedFeatures, Sets};
use crate::failure::bad_input;
use crate::terminal::say;

/// The options of all scores.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CommonArgs {
    /// The generated videos: a folder of videos or of frames, tar shards, a manifest, or a file of features.
    #[arg(long, value_name = "SET")]
    fake: PathBuf,
    /// The protocol: latte, styleganv, tf-fvd, videogpt, pytorch-fid, torch-fidelity, nvidia or clean-fid; latte-jpeg75 and
    /// styleganv-jpeg75 first compress frames as JPEG, as those tools do.
    #[arg(long, default_value = "latte", value_name = "NAME")]
    protocol: String,
    /// The largest number of generated clips or frames. Default: the protocol's.
    #[arg(long, value_name = "N")]
    num: Option<usize>,
    /// The distance of two neighbouring frames of a clip, in frames of the generated video.
    #[arg(long, default_value = "1", value_name = "N")]
    fake_stride: usize,
    /// First crop and resize all frames to squares of this size, by the protocol. Default: unchanged (for the jpeg protocols: 256).
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// The seed of the choice of clips and of their starts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also score fewer than 64 clips: for trials.
    #[arg(long)]
    allow_few: bool,
    #[command(flatten)]
    features: FeatureArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The further options of distances.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RealArgs {
    /// The real videos: as --fake, or a .npz file with `mu` and `sigma`.
    #[arg(long, value_name = "SET")]
    real: PathBuf,
    /// The largest number of real clips or frames. Default: the protocol's.
    #[arg(long, value_name = "N")]
    real_num: Option<usize>,
}

/// The additional results of Fréchet distances.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ExtraArgs {
    /// A 95 % interval from this many resamples of both sets.
    #[arg(long, value_name = "N")]
    bootstrap: Option<usize>,
    /// Extrapolate to infinitely many generated clips.
    #[arg(long)]
    infinity: bool,
    /// Precision, recall, density and coverage, by the K nearest neighbours (usually 3).
    #[arg(long, value_name = "K")]
    neighbours: Option<usize>,
}

#[derive(Debug, Clone, clap::Args)]
struct DetectorArg {
    /// The detector: a file that `latte eval import` wrote, or random-i3d.
    #[arg(long, value_name = "FILE")]
    detector: DetectorChoice,
}

/// The further options of clips.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StrideArgs {
    /// The distance of two neighbouring frames of a clip, in frames of the real video. It has no default, because published numbers
    /// differ most by it: Latte's tools use 3, StyleGAN-V 1.
    #[arg(long, value_name = "N")]
    real_stride: Option<usize>,
    /// Frames of a clip.
    #[arg(long, default_value_t = 16, value_name = "N")]
    frames: usize,
}

/// The Fréchet distance of clips (FVD), by I3D.
///
///   latte eval fvd --real videos --fake samples --protocol latte --real-stride 3 --detector i3d.safetensors
///   latte eval fvd --real videos --fake samples --real-stride 3 --detector i3d.safetensors --bootstrap 100 --infinity --json fvd.json
///   latte eval fvd --real videos --fake samples --real-stride 3 --detector i3d.safetensors --shard 2/5 --cache features
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ClipArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    stride: StrideArgs,
    #[command(flatten)]
    detector: DetectorArg,
    #[command(flatten)]
    extras: ExtraArgs,
}

/// The kernel distance of clips (KVD), by I3D: unbiased for small sets.
///
///   latte eval kvd --real videos --fake samples --real-stride 3 --detector i3d.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct KvdArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    stride: StrideArgs,
    #[command(flatten)]
    detector: DetectorArg,
}

/// The Fréchet distance of frames (FID), by the Inception network. A set may be a folder of images.
///
///   latte eval fid --real videos --fake samples --detector inception.safetensors
///   latte eval fid --real statistics.npz --fake images --protocol pytorch-fid --detector inception.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct FrameArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    detector: DetectorArg,
    #[command(flatten)]
    extras: ExtraArgs,
}

/// The kernel distance of frames (KID), by the Inception network, without a factor.
///
///   latte eval kid --real videos --fake samples --protocol torch-fidelity --detector inception.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct KidArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    detector: DetectorArg,
}

/// The inception score: of frames by the Inception network, or of clips by C3D, by the given detector.
///
///   latte eval is --fake samples --detector inception.safetensors
///   latte eval is --fake samples --detector c3d.safetensors --splits 10
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct IsArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    detector: DetectorArg,
    /// The number of parts that the set is split into. Default: the protocol's.
    #[arg(long, value_name = "N")]
    splits: Option<usize>,
}

/// All scores of the given detectors: FVD and KVD with I3D, FID, KID and IS with the Inception network, the inception score of
/// clips with C3D. Each detector reads each set once.
///
///   latte eval all --real videos --fake samples --real-stride 3 --detector i3d.safetensors --detector inception.safetensors
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AllArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    stride: StrideArgs,
    /// A detector: a file that `latte eval import` wrote, or random-i3d; may be given many times.
    #[arg(long = "detector", value_name = "FILE", required = true)]
    detectors: Vec<DetectorChoice>,
    #[command(flatten)]
    extras: ExtraArgs,
}

pub(crate) fn fvd(args: &ClipArgs) -> anyhow::Result<()> {
    let wanted = Wanted::new(&args.common, Some(&args.real), &args.extras);
    wanted.show(&[Job { protocols: vec![wanted.protocol(Task::Fvd, Some(&args.stride))?], detector: &args.detector.detector }])
}

pub(crate) fn kvd(args: &KvdArgs) -> anyhow::Result<()> {
    let wanted = Wanted::new(&args.common, Some(&args.real), &NO_EXTRAS);
    wanted.show(&[Job { protocols: vec![wanted.protocol(Task::Kvd, Some(&args.stride))?], detector: &args.detector.detector }])
}

pub(crate) fn fid(args: &FrameArgs) -> anyhow::Result<()> {
    let wanted = Wanted::new(&args.common, Some(&args.real), &args.extras);
    wanted.show(&[Job { protocols: vec![wanted.protocol(Task::Fid, None)?], detector: &args.detector.detector }])
}

pub(crate) fn kid(args: &KidArgs) -> anyhow::Result<()> {
    let wanted = Wanted::new(&args.common, Some(&args.real), &NO_EXTRAS);
    wanted.show(&[Job { protocols: vec![wanted.protocol(Task::Kid, None)?], detector: &args.detector.detector }])
}

pub(crate) fn is(args: &IsArgs) -> anyhow::Result<()> {
    let task = if args.detector.detector.kind()? == Kind::C3d { Task::VideoIs } else { Task::Is };
    let wanted = Wanted::new(&args.common, None, &NO_EXTRAS);
    let protocol = wanted.protocol(task, None)?.changed(|protocol| {
        if let (Some(wished), latte_eval::protocol::Statistic::InceptionScore { splits, .. }) =
            (args.splits, &mut protocol.statistic)
        {
            *splits = wished;
        }
    });
    wanted.show(&[Job { protocols: vec![protocol], detector: &args.detector.detector }])
}

pub(crate) fn all(args: &AllArgs) -> anyhow::Result<()> {
    let wanted = Wanted::new(&args.common, Some(&args.real), &args.extras);
    let mut jobs = Vec::new();
    for detector in &args.detectors {
        let kind = detector.kind()?;
        let tasks = [Task::Fvd, Task::Kvd, Task::Fid, Task::Kid, Task::Is, Task::VideoIs];
        let protocols = tasks
            .into_iter()
            .filter(|task| task.detector() == kind)
            .map(|task| wanted.protocol(task, matches!(task, Task::Fvd | Task::Kvd).then_some(&args.stride)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if protocols.is_empty() {
            return Err(bad_input(format!(
                "--detector {detector}: {} is for `latte eval clipsim`, which needs texts; leave it out here",
                kind.name()
            )));
        }
        jobs.push(Job { protocols, detector });
    }
    wanted.show(&jobs)
}

const NO_EXTRAS: ExtraArgs = ExtraArgs { bootstrap: None, infinity: false, neighbours: None };

/// The scores of one detector.
struct Job<'d> {
    protocols: Vec<Protocol>,
    detector: &'d DetectorChoice,
}

/// The options of the user.
struct Wanted<'a> {
    common: &'a CommonArgs,
    real: Option<&'a RealArgs>,
    options: ScoreOptions,
}

impl<'a> Wanted<'a> {
    fn new(common: &'a CommonArgs, real: Option<&'a RealArgs>, extras: &ExtraArgs) -> Self {
        let ExtraArgs { bootstrap, infinity, neighbours } = *extras;
        Self {
            common,
            real,
            options: ScoreOptions {
                resamples: bootstrap,
                infinity,
                neighbours,
                allow_few: common.allow_few,
                ..ScoreOptions::default()
            },
        }
    }

    /// The protocol of a task, changed by the user's options.
    fn protocol(&self, task: Task, stride: Option<&StrideArgs>) -> anyhow::Result<Protocol> {
        let common = self.common;
        let counts = [("--num", common.num), ("--fake-stride", Some(common.fake_stride)), ("--size", common.size)]
            .into_iter()
            .chain([("--frames", stride.map(|stride| stride.frames)), ("--real-num", self.real.and_then(|real| real.real_num))]);
        if let Some((option, _)) = counts.into_iter().find(|(_, value)| *value == Some(0)) {
            return Err(bad_input(format!("{option}: expected at least 1, got 0")));
        }
        let named = Protocol::named(&common.protocol, task, stride.and_then(|stride| stride.real_stride));
        let named = named.map_err(|e| {
            bad_input(e.to_string().replace("real stride ", "--real-stride ").replace("real stride:", "--real-stride:"))
        })?;
        let named = common.size.map_or(Ok(named.clone()), |size| named.at_size(size))?;
        Ok(named.changed(|protocol| {
            protocol.seed = common.seed;
            protocol.fake.stride = common.fake_stride;
            if let Some(stride) = stride {
                protocol.frames = stride.frames;
            }
            if common.num.is_some() {
                protocol.fake.most = common.num;
            }
            if let (Some(sampling), Some(real)) = (&mut protocol.real, self.real)
                && real.real_num.is_some()
            {
                sampling.most = real.real_num;
            }
        }))
    }

    /// Checks everything that can be checked, then does the work of all jobs and prints the scores.
    fn show(&self, jobs: &[Job<'_>]) -> anyhow::Result<()> {
        self.common.output.check()?;
        let mut sets = Sets::new(&self.common.features)?;
        for job in jobs {
            for protocol in &job.protocols {
                self.check(protocol, job.detector, &mut sets)?;
            }
        }
        let mut scores = Vec::new();
        for job in jobs {
            match self.scores(job, &mut sets)? {
                Some(found) => scores.extend(found),
                None => return Ok(()),
            }
        }
        self.common.output.show(&scores)
    }

    /// Refuses combinations that give no score: wrong weights, too few clips, sets that do not fit together.
    fn check(&self, protocol: &Protocol, detector: &DetectorChoice, sets: &mut Sets<'a>) -> anyhow::Result<()> {
        let identity = detector.identify(protocol.task.detector(), protocol.setup())?;
        let real = match (self.real, protocol.real) {
            (Some(args), Some(sampling)) => Some(sets.find(Clips::new(&args.real, "real", sampling, protocol), protocol)?),
            _ => None,
        };
        let fake = sets.find(Clips::new(&self.common.fake, "generated", protocol.fake, protocol), protocol)?;
        let real = real.map(|real| sets.planned(real, &identity)).transpose()?;
        Ok(plan::check(protocol, real, sets.planned(fake, &identity)?, &self.options)?)
    }

    /// The scores of a job; `None` if other processes still have to do their part.
    fn scores(&self, job: &Job<'_>, sets: &mut Sets<'a>) -> anyhow::Result<Option<Vec<Score>>> {
        let mut scores = Vec::new();
        let mut last: Option<(Setup, Box<dyn Detector>)> = None;
        let mut features: Vec<(Clips<'a>, Setup, SetFeatures)> = Vec::new();
        for protocol in &job.protocols {
            // Read and packed once for all protocols with the same setup.
            let setup = protocol.setup();
            let detector = match last.take() {
                Some((opened, detector)) if opened == setup => detector,
                _ => job.detector.open(protocol.task.detector(), setup)?,
            };
            let (_, detector) = last.insert((setup, detector));
            // Features are also computed once for all protocols with the same clips and the same preparation.
            let mut place_of = |clips: Clips<'a>| -> anyhow::Result<Option<usize>> {
                let known = features.iter().position(|(of, seen_by, _)| *of == clips && *seen_by == setup);
                if known.is_some() {
                    return Ok(known);
                }
                match sets.take(clips, protocol, detector.as_ref())? {
                    LoadedFeatures::Whole(set) => features.push((clips, setup, set)),
                    LoadedFeatures::Part(missing, folder) => {
                        say(&format!(
                            "{}: this part is done; {missing} parts are missing, which other processes do, in {}",
                            clips.role,
                            folder.display()
                        ));
                        return Ok(None);
                    }
                }
                Ok(Some(features.len() - 1))
            };
            let real = match (self.real, protocol.real) {
                (Some(args), Some(sampling)) => Some(place_of(Clips::new(&args.real, "real", sampling, protocol))?),
                _ => None,
            };
            let fake = place_of(Clips::new(&self.common.fake, "generated", protocol.fake, protocol))?;
            let of = |place: usize| &features[place].2;
            match (real, fake) {
                (Some(None), _) | (_, None) => {
                    say("the same command without --shard (or the last process to finish) prints the score");
                    return Ok(None);
                }
                (real, Some(fake)) => scores.push(score(protocol, real.flatten().map(of), of(fake), &self.options)?),
            }
        }
        Ok(Some(scores))
    }
}
