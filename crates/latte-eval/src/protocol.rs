//! Everything that decides about a number besides the clips and the detector's weights, as one value with a name.

use latte_video::Transform;
use serde::{Deserialize, Serialize};

use crate::detector::{Kind, Preparation, ValueMap};
use crate::metric::{Covariance, KernelOptions, Polynomial};
use crate::resize::Resize;
use crate::{Error, Result};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The Fréchet distance of clips.
    Fvd,
    /// The kernel distance of clips.
    Kvd,
    /// The Fréchet distance of frames.
    Fid,
    /// The kernel distance of frames.
    Kid,
    /// The inception score of frames.
    Is,
    /// The inception score of clips, by C3D.
    VideoIs,
}

impl Task {
    /// As in results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fvd => "fvd",
            Self::Kvd => "kvd",
            Self::Fid => "fid",
            Self::Kid => "kid",
            Self::Is => "is",
            Self::VideoIs => "video_is",
        }
    }

    /// Whether it compares with real clips.
    pub fn needs_real(self) -> bool {
        !matches!(self, Self::Is | Self::VideoIs)
    }

    /// The detector that the name of the number stands for.
    pub fn detector(self) -> Kind {
        match self {
            Self::Fvd | Self::Kvd => Kind::I3d,
            Self::Fid | Self::Kid | Self::Is => Kind::InceptionFid,
            Self::VideoIs => Kind::C3d,
        }
    }

    /// Whether it looks at single frames.
    fn is_of_frames(self) -> bool {
        matches!(self, Self::Fid | Self::Kid | Self::Is)
    }

    /// Which output of the detector it takes.
    fn output(self) -> &'static str {
        match self {
            Self::Fvd | Self::Kvd | Self::VideoIs => "logits",
            Self::Fid | Self::Kid => "2048",
            // Without the bias, as all programs do.
            Self::Is => "logits_unbiased",
        }
    }
}

/// Which clips of a set are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// Every how many frames one is kept.
    pub stride: usize,
    /// Where clips begin.
    pub start: StartRule,
    /// At most so many clips; `None`: all there are.
    pub most: Option<usize>,
    /// Which, where there are more.
    pub choice: Choice,
    /// What becomes of videos that are too short.
    pub short: ShortVideos,
}

/// One size for all frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framing {
    /// Rows and columns.
    pub size: [usize; 2],
    /// How they come to it.
    pub transform: Transform,
}

/// Where clips begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartRule {
    /// One clip of each video, from its first frame.
    First,
    /// One clip of each video, from a frame that the seed and the video's name decide.
    Random,
    /// As many clips as there are, one behind the other; all frames, where clips are frames.
    Every,
}

/// Which clips are taken where there are more than enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The first by name.
    First,
    /// As the seed says.
    Random,
}

/// What becomes of videos that are too short for a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortVideos {
    /// They are left out and counted.
    LeftOut,
    /// They are an error.
    Refused,
}

/// What is made of the features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Statistic {
    /// The Fréchet distance, from eigenvalues in f64; nothing is added to the covariances.
    Frechet {
        /// What sums of squares are divided by.
        covariance: Covariance,
    },
    /// The kernel distance.
    Kernel(KernelOptions),
    /// The inception score, from softmax in f64.
    InceptionScore {
        /// Into how many parts the set is split.
        splits: usize,
        /// Items are shuffled with this seed (numpy's `RandomState`); `None`: they are in order.
        shuffle_seed: Option<u32>,
    },
}

/// A protocol: the whole of it is in every result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// What it is called; with ` (changed)` where something is not as the name says.
    pub name: String,
    /// What is measured.
    pub task: Task,
    /// Frames of a clip.
    pub frames: usize,
    /// How frames are brought to one size (rounded to bytes) before anything else; `None`: they are taken as they are.
    pub framing: Option<Framing>,
    /// Which real clips; absent where none are compared with.
    pub real: Option<Sampling>,
    /// Which generated clips.
    pub fake: Sampling,
    /// What decides about the choice of clips and their starts.
    pub seed: u64,
    /// How pixels are prepared for the detector.
    pub preparation: Preparation,
    /// The epsilon of the detector's batch normalisations; absent if it has none.
    pub batch_norm_eps: Option<f64>,
    /// The output of the detector.
    pub output: String,
    /// What is made of the features.
    pub statistic: Statistic,
}

/// A named protocol: who measures so, and what.
struct Row {
    name: &'static str,
    tasks: &'static [Task],
    /// Of clips: frames are resized so.
    clip_resize: Resize,
    clip_eps: f64,
    /// Of frames.
    frame_preparation: Preparation,
    covariance: Covariance,
    /// At most so many clips, and generated frames.
    most: (Option<usize>, Option<usize>),
    choice: Choice,
    real_start: StartRule,
    shuffle: (Option<u32>, Option<u32>),
}

const TF: Preparation = Preparation { resize: Resize::TfBilinear, values: ValueMap::Around128 };
const HALF: Preparation = Preparation { resize: Resize::HalfPixelBilinear, values: ValueMap::MinusOneToOne };
const CLEAN: Preparation = Preparation { resize: Resize::PillowBicubic, values: ValueMap::Around128 };

const OF_STYLEGAN: &[Task] = &[Task::Fvd, Task::Kvd, Task::Fid, Task::Kid, Task::Is, Task::VideoIs];

/// The protocol of StyleGAN-V's tools, on which most others are laid.
const STYLEGAN_V: Row = Row {
    name: "styleganv",
    tasks: OF_STYLEGAN,
    clip_resize: Resize::HalfPixelBilinear,
    clip_eps: 1e-3,
    frame_preparation: TF,
    covariance: Covariance::Biased,
    most: (Some(2048), Some(50_000)),
    choice: Choice::First,
    real_start: StartRule::Random,
    shuffle: (None, Some(42)),
};

const ROWS: &[Row] = &[
    // Latte's tools: StyleGAN-V's with a random choice of videos.
    Row { name: "latte", choice: Choice::Random, ..STYLEGAN_V },
    STYLEGAN_V,
    // The original FVD.
    Row {
        name: "tf-fvd",
        tasks: &[Task::Fvd, Task::Kvd],
        clip_resize: Resize::TfBilinear,
        covariance: Covariance::Unbiased,
        most: (None, None),
        real_start: StartRule::First,
        ..STYLEGAN_V
    },
    // Its batch normalisations have an epsilon that the weights were not trained with.
    Row {
        name: "videogpt",
        tasks: &[Task::Fvd, Task::Kvd],
        clip_eps: 1e-5,
        covariance: Covariance::Unbiased,
        most: (Some(256), None),
        choice: Choice::Random,
        ..STYLEGAN_V
    },
    Row {
        name: "pytorch-fid",
        tasks: &[Task::Fid],
        frame_preparation: HALF,
        covariance: Covariance::Unbiased,
        most: (None, None),
        ..STYLEGAN_V
    },
    Row {
        name: "torch-fidelity",
        tasks: &[Task::Fid, Task::Kid, Task::Is],
        covariance: Covariance::Unbiased,
        most: (None, None),
        shuffle: (Some(2020), None),
        ..STYLEGAN_V
    },
    Row {
        name: "clean-fid",
        tasks: &[Task::Fid, Task::Kid],
        frame_preparation: CLEAN,
        covariance: Covariance::Unbiased,
        most: (None, None),
        ..STYLEGAN_V
    },
];

/// The frames of a clip unless something else is asked for.
const FRAMES: usize = 16;
/// Into how many parts a set is split for its inception score.
const SPLITS: usize = 10;

impl Protocol {
    /// The names of all protocols.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    /// The protocol `name` of a task. The stride of real clips is never taken for granted, since published numbers differ by it
    /// most of all: tasks that compare clips with real ones need it.
    ///
    /// # Errors
    ///
    /// If there is no such protocol, it says nothing of the task, or the stride is missing or zero.
    pub fn named(name: &str, task: Task, real_stride: Option<usize>) -> Result<Self> {
        let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
            Error::refused(
                format!("protocol `{name}`"),
                format!("is not known; there are {}", Self::names().collect::<Vec<_>>().join(", ")),
            )
        })?;
        if !row.tasks.contains(&task) {
            let others: Vec<&str> = ROWS.iter().filter(|row| row.tasks.contains(&task)).map(|row| row.name).collect();
            let what = format!("says nothing of {}; use {}", task.name(), others.join(" or "));
            return Err(Error::refused(format!("protocol `{name}`"), what));
        }
        let of_frames = task.is_of_frames();
        let stride = match real_stride {
            Some(0) => return Err(Error::refused("real stride", "expected at least 1, got 0")),
            Some(stride) => stride,
            None if of_frames || !task.needs_real() => 1,
            None => {
                let what = "is missing: every how many frames of a real video one is taken. Latte's tools take 3 (its author 6 for \
                            Taichi-HD), StyleGAN-V 1; the distance depends on it";
                return Err(Error::refused("real stride", what));
            }
        };
        let start = if of_frames { StartRule::Every } else { StartRule::First };
        let most = if of_frames { row.most.1 } else { row.most.0 };
        let fake = Sampling { stride: 1, start, most, choice: row.choice, short: ShortVideos::Refused };
        let real = Sampling {
            stride,
            start: if of_frames { StartRule::Every } else { row.real_start },
            most: if of_frames { None } else { most },
            short: ShortVideos::LeftOut,
            ..fake
        };
        Ok(Self {
            name: name.into(),
            task,
            frames: if of_frames { 1 } else { FRAMES },
            framing: None,
            real: task.needs_real().then_some(real),
            fake,
            seed: 0,
            preparation: match task {
                Task::Fvd | Task::Kvd => Preparation { resize: row.clip_resize, values: ValueMap::MinusOneToOne },
                Task::VideoIs => Kind::C3d.preparation(),
                Task::Fid | Task::Kid | Task::Is => row.frame_preparation,
            },
            batch_norm_eps: task.detector().batch_norm_eps().map(|eps| if of_frames { eps } else { row.clip_eps }),
            output: task.output().into(),
            statistic: match task {
                Task::Fvd | Task::Fid => Statistic::Frechet { covariance: row.covariance },
                Task::Kvd | Task::Kid => {
                    let seed = row.shuffle.0.unwrap_or(0);
                    Statistic::Kernel(KernelOptions { kernel: Polynomial::KID, subsets: 100, subset_size: 1000, seed })
                }
                Task::Is => Statistic::InceptionScore { splits: SPLITS, shuffle_seed: row.shuffle.0 },
                Task::VideoIs => Statistic::InceptionScore { splits: SPLITS, shuffle_seed: row.shuffle.1 },
            },
        })
    }

    /// The protocol with what `change` makes of it, and a name that says whether that is another one.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        if changed != *self && !changed.name.ends_with(CHANGED) {
            changed.name.push_str(CHANGED);
        }
        changed
    }

    /// How the detector is set up.
    pub fn setup(&self) -> crate::detector::Setup {
        crate::detector::Setup { preparation: Some(self.preparation), batch_norm_eps: self.batch_norm_eps }
    }
}

const CHANGED: &str = " (changed)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_what_their_programs_do() {
        let named = |name, task| Protocol::named(name, task, Some(3)).unwrap();
        let frechet = |covariance| Statistic::Frechet { covariance };
        let latte = named("latte", Task::Fvd);
        assert_eq!(latte.statistic, frechet(Covariance::Biased));
        let real = latte.real.unwrap();
        assert_eq!((real.stride, latte.fake.stride, real.most, real.choice), (3, 1, Some(2048), Choice::Random));
        assert_eq!(
            (real.short, latte.fake.short, latte.fake.start),
            (ShortVideos::LeftOut, ShortVideos::Refused, StartRule::First)
        );
        assert_eq!(named("styleganv", Task::Fvd).fake.choice, Choice::First);
        let tf = named("tf-fvd", Task::Fvd);
        assert_eq!((tf.statistic, tf.preparation.resize), (frechet(Covariance::Unbiased), Resize::TfBilinear));
        assert_eq!((tf.batch_norm_eps, named("videogpt", Task::Fvd).batch_norm_eps), (Some(1e-3), Some(1e-5)));
        let preparations = ["pytorch-fid", "torch-fidelity", "clean-fid", "latte"].map(|name| named(name, Task::Fid).preparation);
        assert_eq!(preparations, [HALF, TF, CLEAN, TF]);
        let scores = [("torch-fidelity", Task::Is), ("latte", Task::Is), ("latte", Task::VideoIs)]
            .map(|(name, task)| named(name, task).statistic);
        let score = |shuffle_seed| Statistic::InceptionScore { splits: 10, shuffle_seed };
        assert_eq!(scores, [score(Some(2020)), score(None), score(Some(42))]);
        assert_eq!(named("latte", Task::Fid).fake.most, Some(50_000));
    }

    #[test]
    fn the_real_stride_is_asked_for_and_unknown_pairs_are_refused() {
        let said = |name, task, stride| Protocol::named(name, task, stride).unwrap_err().to_string();
        assert!(said("latte", Task::Fvd, None).contains("real stride"));
        assert!(said("latte", Task::Fvd, Some(0)).contains("at least 1"));
        assert!(Protocol::named("latte", Task::Fid, None).is_ok() && Protocol::named("latte", Task::VideoIs, None).is_ok());
        assert!(said("pytorch-fid", Task::Is, None).contains("latte or styleganv or torch-fidelity"));
        assert!(said("lattee", Task::Fvd, Some(1)).contains("clean-fid"));
    }

    #[test]
    fn a_changed_protocol_says_so_and_comes_back_from_json() {
        let latte = Protocol::named("latte", Task::Fvd, Some(3)).unwrap();
        assert_eq!(latte.changed(|_| {}).name, "latte");
        let fewer = latte.changed(|p| p.frames = 10).changed(|p| p.seed = 1);
        assert_eq!(fewer.name, "latte (changed)");
        let text = serde_json::to_string(&fewer).unwrap();
        assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), fewer);
    }
}
