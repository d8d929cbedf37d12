//! Everything that determines a score besides the clips and the detector's weights, as one value with a name.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::detector::{Kind, Preparation, ValueMap};
pub use crate::framing::{FrameTransform, Framing, Rounding};
use crate::jpeg::USUAL_QUALITY;
use crate::metric::{Covariance, KernelOptions, Polynomial};
use crate::resize::Resize;
use crate::{Error, Result};

/// The measured quantity.
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
    /// The name in results and messages.
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

    /// The detector that the name of the score implies.
    pub fn detector(self) -> Kind {
        match self {
            Self::Fvd | Self::Kvd => Kind::I3d,
            Self::Fid | Self::Kid | Self::Is => Kind::InceptionFid,
            Self::VideoIs => Kind::C3d,
        }
    }

    /// Whether it is computed from single frames.
    fn is_of_frames(self) -> bool {
        matches!(self, Self::Fid | Self::Kid | Self::Is)
    }

    /// The output of the detector that it uses.
    fn output(self) -> &'static str {
        match self {
            Self::Fvd | Self::Kvd | Self::VideoIs => "logits",
            Self::Fid | Self::Kid => "2048",
            // Without the bias, as in all programs.
            Self::Is => "logits_unbiased",
        }
    }
}

/// How clips are selected from a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// Distance of a clip's frames in the video, in frames.
    pub stride: usize,
    /// Where clips start.
    pub start: StartRule,
    /// Maximum number of clips; `None` for all.
    pub most: Option<usize>,
    /// Which clips are taken if there are more.
    pub choice: Choice,
    /// The minimum length of a video.
    #[serde(rename = "room")]
    pub length_rule: LengthRule,
    /// How videos that are too short are handled.
    pub short: ShortVideos,
    /// How pixel values are rounded to bytes.
    pub rounding: Rounding,
}

/// The minimum number of frames of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthRule {
    /// The span of a clip, from its first frame to its last.
    Span,
    /// The number of frames of a clip times the stride, as in StyleGAN-V: the stride minus one more than the span.
    WholeStrides,
}

impl LengthRule {
    /// The minimum number of frames of a video for clips of `frames` frames, `stride` apart.
    pub fn frames(self, frames: usize, stride: usize) -> usize {
        match self {
            Self::Span => (frames - 1) * stride + 1,
            Self::WholeStrides => frames * stride,
        }
    }
}

/// Where clips start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartRule {
    /// One clip per video, from its first frame.
    First,
    /// One clip per video, from a random frame that depends on the seed and the video's name.
    Random,
    /// As many consecutive clips as fit; all frames, if clips are frames.
    Every,
    /// Any of all possible clips, one starting at each frame of each video: long videos contribute more of them.
    Anywhere,
}

/// Which clips are taken if there are more than needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The first by name.
    First,
    /// Random by the seed.
    Random,
}

/// How videos that are too short for a clip are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortVideos {
    /// They are left out and counted.
    LeftOut,
    /// They are an error.
    Refused,
}

/// The statistic of the features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Statistic {
    /// The Fréchet distance, from eigenvalues in f64; nothing is added to the covariances.
    Frechet {
        /// The divisor of the sums of squares.
        covariance: Covariance,
    },
    /// The kernel distance.
    Kernel(KernelOptions),
    /// The inception score, from softmax in f64.
    InceptionScore {
        /// Number of splits.
        splits: usize,
        /// The seed that items are shuffled with (numpy's `RandomState`); `None`: they stay in order.
        shuffle_seed: Option<u32>,
    },
}

/// A protocol; every result contains all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// Its name, with ` (changed)` if anything differs from the named protocol.
    pub name: String,
    /// The measured quantity.
    pub task: Task,
    /// Number of frames of a clip.
    pub frames: usize,
    /// How frames are brought to one size (and rounded to bytes) before anything else; `None`: the size is not changed.
    pub framing: Option<Framing>,
    /// The selection of real clips; absent if the task needs none.
    pub real: Option<Sampling>,
    /// The selection of generated clips.
    pub fake: Sampling,
    /// The seed of the choice of clips and of their starts.
    pub seed: u64,
    /// How pixels are prepared for the detector.
    pub preparation: Preparation,
    /// The epsilon of the detector's batch normalisations; absent if it has none.
    pub batch_norm_eps: Option<f64>,
    /// The output of the detector.
    pub output: String,
    /// The statistic of the features.
    pub statistic: Statistic,
}

/// A row of the table of named protocols.
struct Row {
    name: &'static str,
    tasks: &'static [Task],
    /// How clips are resized for their detector.
    clip_resize: Resize,
    clip_eps: f64,
    /// How frames are prepared for their detector.
    frame_preparation: Preparation,
    covariance: Covariance,
    /// Maximum number of clips, and of generated frames.
    most: (Option<usize>, Option<usize>),
    /// Maximum number of real frames for the kernel distance.
    most_real_of_kid: Option<usize>,
    choice: Choice,
    real_start: StartRule,
    length_rule: LengthRule,
    /// How real clips and generated clips are rounded to bytes.
    rounding: (Rounding, Rounding),
    /// How frames are brought to one size, if the program specifies it; with JPEG always, to [`SIZE`] by default.
    framing: Option<FrameTransform>,
    /// The seeds for shuffling before the split, for frames and for clips.
    shuffle: (Option<u32>, Option<u32>),
}

const TF: Preparation = Preparation { resize: Resize::TfBilinear, values: ValueMap::Around128 };
const HALF: Preparation = Preparation { resize: Resize::HalfPixelBilinear, values: ValueMap::MinusOneToOne };
const CLEAN: Preparation = Preparation { resize: Resize::PillowBicubic, values: ValueMap::Around128 };

const OF_STYLEGAN: &[Task] = &[Task::Fvd, Task::Kvd, Task::Fid, Task::Kid, Task::Is, Task::VideoIs];

/// The protocol of StyleGAN-V's tools, on which most others are based.
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

/// Latte's tools: StyleGAN-V's with a random choice of videos and shuffled items.
const LATTE: Row = Row { name: "latte", choice: Choice::Random, shuffle: (Some(0), Some(42)), ..STYLEGAN_V };

/// Programs that use all clips.
const WHOLE: Row = Row {
    covariance: Covariance::Unbiased,
    most: (None, None),
    most_real_of_kid: None,
    length_rule: LengthRule::Span,
    ..STYLEGAN_V
};

const ROWS: &[Row] = &[
    LATTE,
    // The frames of both sets are extracted from videos by the tools of these programs: squares stored as JPEG.
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
    // Its batch normalisations use another epsilon than in training.
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
    // StyleGAN2 and StyleGAN3, from which StyleGAN-V took its processing of frames.
    Row { name: "nvidia", tasks: &[Task::Fid, Task::Kid, Task::Is], ..STYLEGAN_V },
    Row { name: "clean-fid", tasks: &[Task::Fid, Task::Kid], frame_preparation: CLEAN, ..WHOLE },
];

impl Row {
    /// How the program brings frames to a size, if it does.
    fn framing(&self, size: usize) -> Option<Framing> {
        self.framing.map(|transform| Framing { size: [size; 2], transform })
    }
}

/// The default number of frames of a clip.
const FRAMES: usize = 16;
/// The default size of frames that are stored as JPEG: Latte's.
const SIZE: usize = 256;
/// The number of splits for the inception score.
const SPLITS: usize = 10;

impl Protocol {
    /// The names of all protocols.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    /// The protocol `name` for a task. The stride of real clips has no default, because published numbers depend on it most: tasks
    /// that compare clips with real ones need it.
    ///
    /// # Errors
    ///
    /// If there is no such protocol, it does not define the task, or the stride is missing or zero.
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

    /// The protocol with all frames first brought to squares of this size: the way its program does it, if that specifies one for
    /// any size; else as SkyTimelapse is read (`CropResize`), which is a change of the protocol.
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

    /// The protocol modified by `change`; the name says whether it differs from the named one.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        if changed != *self && !changed.name.ends_with(CHANGED) {
            changed.name.push_str(CHANGED);
        }
        changed
    }

    /// The settings of the detector.
    pub fn setup(&self) -> crate::detector::Setup {
        crate::detector::Setup { preparation: Some(self.preparation), batch_norm_eps: self.batch_norm_eps }
    }
}

const CHANGED: &str = " (changed)";
