//! Scores the clips that a training run generates, as `latte eval` does, in the same process.

use std::collections::BTreeSet;

use latte_eval::clips::{ClipSet, ClipsInMemory};
use latte_eval::compare::features;
use latte_eval::detector::{Detector, Kind};
use latte_eval::protocol::{Framing, Protocol, Task};
use latte_eval::score::{Score, ScoreOptions, SetFeatures, score};
use latte_progress::NoProgress;
use latte_train::{EvaluationConfig, Evaluator, Scores, TrainConfig};
use latte_video::Clip;
use latte_video::dataset::Location;

use crate::commands::eval::detectors::DetectorChoice;
use crate::failure::bad_input;
use crate::terminal::note;

/// All detectors of a run.
pub(crate) struct RunEvaluator {
    detectors: Vec<OneDetector>,
    /// Warnings that were already printed: each is printed once.
    reported: BTreeSet<String>,
}

/// A detector, and its features of the real clips.
struct OneDetector {
    detector: Box<dyn Detector>,
    protocol: Protocol,
    /// The name of the score.
    name: String,
    real: SetFeatures,
}

impl RunEvaluator {
    /// The detectors of `[evaluation]`, which extract the features of the real clips now.
    ///
    /// # Errors
    ///
    /// If a detector cannot be opened or the real clips cannot be read.
    pub(crate) fn of(config: &TrainConfig) -> anyhow::Result<Option<Self>> {
        let Some(evaluation) = &config.evaluation else { return Ok(None) };
        // An error of the last detector is reported before the first one starts its work.
        let planned = evaluation.detectors.iter().map(|detector| PlannedDetector::new(detector, evaluation, config));
        let planned = planned.collect::<anyhow::Result<Vec<_>>>()?;
        let detectors = planned.into_iter().map(|planned| planned.open(evaluation, config));
        Ok(Some(Self { detectors: detectors.collect::<anyhow::Result<_>>()?, reported: BTreeSet::new() }))
    }
}

impl Evaluator for RunEvaluator {
    fn evaluate(&mut self, clips: Vec<Clip>) -> Result<Scores, Box<dyn std::error::Error + Send + Sync>> {
        let clips = ClipsInMemory::new("clips of the averaged weights", clips)?;
        let mut scores = Scores::new();
        for one in &self.detectors {
            let score = one.score(&clips)?;
            for warning in score.warnings {
                if self.reported.insert(warning.clone()) {
                    note(&format!("warning: evaluation: {warning}"));
                }
            }
            scores.insert(one.name.clone(), score.value);
        }
        Ok(scores)
    }
}

/// A detector whose file was checked, before it is opened.
struct PlannedDetector {
    choice: DetectorChoice,
    kind: Kind,
    task: Task,
    protocol: Protocol,
}

impl PlannedDetector {
    fn new(choice: &str, evaluation: &EvaluationConfig, config: &TrainConfig) -> anyhow::Result<Self> {
        let Ok(choice) = choice.parse::<DetectorChoice>();
        let kind = choice.kind()?;
        let task = match kind {
            Kind::I3d => Task::Fvd,
            Kind::InceptionFid => Task::Fid,
            other => {
                return Err(bad_input(format!("evaluation.detectors: {choice} is {}; expected I3D or Inception", other.name())));
            }
        };
        let data = &config.data;
        let named = Protocol::named(&evaluation.protocol, task, Some(evaluation.real_stride))
            .map_err(|e| bad_input(format!("evaluation.protocol: {e}")))?;
        if named.framing.is_some() {
            return Err(bad_input(format!(
                "evaluation.protocol: {} compresses frames as JPEG, but clips of a run are not compressed; use the protocol without JPEG",
                named.name
            )));
        }
        let protocol = named.changed(|protocol| {
            // The generated clips have frames with this transform.
            protocol.framing = Some(Framing { size: data.size.height_width(), transform: data.transform.into() });
            protocol.seed = evaluation.seed;
            if task == Task::Fvd {
                protocol.frames = evaluation.frames.unwrap_or(data.num_frames);
            }
            if let Some(real) = &mut protocol.real {
                let frames = if task == Task::Fid { evaluation.frames.unwrap_or(data.num_frames) } else { 1 };
                real.most = Some(evaluation.real_num.unwrap_or(evaluation.num) * frames);
                // Taking all frames of the first videos would give nearly identical frames.
                real.choice = latte_eval::protocol::Choice::Random;
            }
        });
        choice.identify(kind, protocol.setup())?;
        Ok(Self { choice, kind, task, protocol })
    }

    /// The detector, and the features of the real clips.
    fn open(self, evaluation: &EvaluationConfig, config: &TrainConfig) -> anyhow::Result<OneDetector> {
        let Self { choice, kind, task, protocol } = self;
        let data = &config.data;
        let detector = choice.open(kind, protocol.setup())?;
        let location = data.location();
        let location = match &evaluation.real {
            Some(path) => Location { path: path.clone(), ..location },
            None => location,
        };
        let Some(sampling) = &protocol.real else { return Err(bad_input("evaluation.protocol: compares with no real clips")) };
        let clips = ClipSet::open(&location, sampling, &protocol, data.decoder.into(), "real")?;
        let name = score_name(&detector.identity().kind, task);
        let real = features(&protocol, detector.as_ref(), &clips, &mut NoProgress)?;
        note(&format!("evaluation: {name} against {} real clips in {}", real.names.len(), location.path.display()));
        Ok(OneDetector { detector, protocol, name, real: SetFeatures::Each(real) })
    }
}

impl OneDetector {
    fn score(&self, clips: &ClipsInMemory) -> latte_eval::Result<Score> {
        let frames;
        let clips = if self.protocol.frames == 1 {
            frames = clips.frames()?;
            &frames
        } else {
            clips
        };
        let fake = features(&self.protocol, self.detector.as_ref(), clips, &mut NoProgress)?;
        // Bad clips must not end a run.
        let options = ScoreOptions { allow_few: true, allow_dark: true, ..ScoreOptions::default() };
        score(&self.protocol, Some(&self.real), &SetFeatures::Each(fake), &options)
    }
}

/// The name of a detector's score.
fn score_name(detector: &str, task: Task) -> String {
    format!("{detector}_{}", task.name())
}

/// Whether the score of this name is a distance (lower is better).
pub(crate) fn is_distance(score: &str) -> bool {
    [Task::Fvd, Task::Kvd, Task::Fid, Task::Kid]
        .iter()
        .any(|task| score.strip_suffix(task.name()).is_some_and(|d| d.ends_with('_')))
}
