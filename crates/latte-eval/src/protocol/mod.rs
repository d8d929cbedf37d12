//! Everything that decides about a number besides the clips and the detector's weights, as one value with a name.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::detector::{Kind, Preparation, ValueMap};
pub use crate::framing::{FrameTransform, Framing, Rounding};
use crate::jpeg::USUAL_QUALITY;
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
    /// How long a video must be.
    #[serde(rename = "room")]
    pub length_rule: LengthRule,
    /// What is done with videos that are too short.
    pub short: ShortVideos,
    /// How frames become bytes.
    pub rounding: Rounding,
}

/// How many frames a video must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthRule {
    /// As many as a clip spans: from its first frame to its last.
    Span,
    /// Frames of a clip times the stride, as StyleGAN-V counts: a stride less one more.
    WholeStrides,
}

impl LengthRule {
    /// The fewest frames of a video that gives a clip of `frames`, `stride` apart.
    pub fn frames(self, frames: usize, stride: usize) -> usize {
        match self {
            Self::Span => (frames - 1) * stride + 1,
            Self::WholeStrides => frames * stride,
        }
    }
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
    /// Any of all clips that there are, one from each frame of each video on: long videos give more of them.
    Anywhere,
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

/// What is done with videos that are too short for a clip.
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
    /// At most so many real frames for the kernel distance.
    most_real_of_kid: Option<usize>,
    choice: Choice,
    real_start: StartRule,
    length_rule: LengthRule,
    /// How real clips, and generated ones, become bytes.
    rounding: (Rounding, Rounding),
    /// How frames come to one size, where the program says so; those in JPEG files always do, to [`SIZE`] unless another is given.
    framing: Option<FrameTransform>,
    /// With which seed frames are shuffled before they are split, and clips.
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
    most_real_of_kid: Some(1_000_000),
    choice: Choice::First,
    real_start: StartRule::Random,
    length_rule: LengthRule::WholeStrides,
    rounding: (Rounding::Nearest, Rounding::Nearest),
    framing: None,
    shuffle: (None, Some(42)),
};

/// Latte's tools: StyleGAN-V's with a random choice of videos, and in its order.
const LATTE: Row = Row { name: "latte", choice: Choice::Random, shuffle: (Some(0), Some(42)), ..STYLEGAN_V };

/// Programs that take whatever is there.
const WHOLE: Row = Row {
    covariance: Covariance::Unbiased,
    most: (None, None),
    most_real_of_kid: None,
    length_rule: LengthRule::Span,
    ..STYLEGAN_V
};

const ROWS: &[Row] = &[
    LATTE,
    // The frames of both sets as the tools of these programs make them of videos: squares in JPEG files.
    Row { name: "latte-jpeg75", framing: Some(FrameTransform::CropLanczosJpeg(USUAL_QUALITY)), ..LATTE },
    STYLEGAN_V,
    Row { name: "styleganv-jpeg75", framing: Some(FrameTransform::LanczosCropJpeg(USUAL_QUALITY)), ..STYLEGAN_V },
    // The original FVD.
    Row {
        name: "tf-fvd",
        tasks: &[Task::Fvd, Task::Kvd],
        clip_resize: Resize::TfBilinear,
        real_start: StartRule::First,
        ..WHOLE
    },
    // Its batch normalisations have an epsilon that the weights were not trained with.
    Row {
        name: "videogpt",
        tasks: &[Task::Fvd, Task::Kvd],
        clip_resize: Resize::ShortSideBilinear,
        clip_eps: 1e-5,
        most: (Some(256), None),
        choice: Choice::Random,
        real_start: StartRule::Anywhere,
        rounding: (Rounding::DownFromHalf, Rounding::Down),
        framing: Some(FrameTransform::ShortSide),
        ..WHOLE
    },
    Row { name: "pytorch-fid", tasks: &[Task::Fid], frame_preparation: HALF, ..WHOLE },
    Row { name: "torch-fidelity", tasks: &[Task::Fid, Task::Kid, Task::Is], shuffle: (Some(2020), None), ..WHOLE },
    // StyleGAN2's and 3's, from which StyleGAN-V has what it does with frames.
    Row { name: "nvidia", tasks: &[Task::Fid, Task::Kid, Task::Is], ..STYLEGAN_V },
    Row { name: "clean-fid", tasks: &[Task::Fid, Task::Kid], frame_preparation: CLEAN, ..WHOLE },
];

impl Row {
    /// How the program brings frames to a size, where it does.
    fn framing(&self, size: usize) -> Option<Framing> {
        self.framing.map(|transform| Framing { size: [size; 2], transform })
    }
}

/// The frames of a clip unless something else is asked for.
const FRAMES: usize = 16;
/// The size of frames that are put through JPEG files, unless another one is asked for: Latte's.
const SIZE: usize = 256;
/// Into how many parts a set is split for its inception score.
const SPLITS: usize = 10;

impl Protocol {
    /// The names of all protocols.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    /// The protocol `name` of a task. The stride of real clips has no default, since published numbers differ by it
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
        let fake = Sampling {
            stride: 1,
            start,
            most,
            choice: row.choice,
            length_rule: row.length_rule,
            short: ShortVideos::Refused,
            rounding: row.rounding.1,
        };
        let real = Sampling {
            stride,
            start: if of_frames { StartRule::Every } else { row.real_start },
            most: match task {
                Task::Kid => row.most_real_of_kid,
                _ if of_frames => None,
                _ => most,
            },
            short: ShortVideos::LeftOut,
            rounding: row.rounding.0,
            ..fake
        };
        Ok(Self {
            name: name.into(),
            task,
            frames: if of_frames { 1 } else { FRAMES },
            framing: row.framing(SIZE).filter(|framing| framing.transform.is_jpeg()),
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

    /// The protocol with frames that are brought to squares of this size first: as its program does, where that says how and takes a
    /// size; else as SkyTimelapse is read (`CropResize`), which is a change.
    ///
    /// # Errors
    ///
    /// If the size is zero.
    pub fn at_size(&self, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::refused("size of frames", "expected at least 1, got 0"));
        }
        let own = ROWS.iter().find(|row| self.name.trim_end_matches(CHANGED) == row.name).and_then(|row| row.framing(size));
        Ok(match own {
            Some(framing) => Self { framing: Some(framing), ..self.clone() },
            None => self.changed(|protocol| {
                protocol.framing = Some(Framing { size: [size; 2], transform: FrameTransform::CropResize });
            }),
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
