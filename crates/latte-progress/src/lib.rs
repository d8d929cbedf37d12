//! What long work reports while it runs: how far it is, and what it has to say.
//!
//! Every library of this workspace reports to one trait, [`Progress`], and prints nothing itself. Work that has events of its own
//! extends the trait: a generation reports previews, a training run its steps.

/// The parts of long work that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The text encoder reads the prompts, layer by layer.
    EncodingText,
    /// The sampler goes from noise to latents, prediction by prediction.
    Denoising,
    /// The autoencoder makes pixels of latents, frame by frame.
    Decoding,
    /// The loss on data that is not trained on is measured, clip by clip.
    Validation,
    /// Samples of a training run are made, prediction by prediction.
    Samples,
    /// Clips for the evaluation of a training run are made, prediction by prediction.
    EvaluationClips,
    /// The videos of a data set are opened, one by one.
    ReadingVideos,
    /// The videos of a data set become latents, one by one.
    EncodingVideos,
    /// A detector looks at clips, one by one.
    Features,
}

impl Stage {
    /// What is being done, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::EncodingText => "encoding the prompts",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding",
            Self::Validation => "validation",
            Self::Samples => "samples",
            Self::EvaluationClips => "clips for the evaluation",
            Self::ReadingVideos => "looking at videos",
            Self::EncodingVideos => "encoding videos",
            Self::Features => "features of clips",
        }
    }
}

/// Receives the progress of long work. Every method does nothing unless it is written.
pub trait Progress {
    /// `done` of `total` parts of `stage` are done. 0 is reported too where a stage takes a while to begin. Parts of what is made
    /// together are counted together.
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        let _ = (stage, done, total);
    }

    /// Something worth knowing, such as which of several sets of weights was taken.
    fn note(&mut self, message: &str) {
        let _ = message;
    }

    /// Something is wrong that the work can live with, such as a video that cannot be read. Each message comes once.
    fn warning(&mut self, message: &str) {
        let _ = message;
    }
}

/// Progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}

/// The progress of one of several pieces of work that are done one after the other: its parts are counted with those of the others.
#[derive(Debug)]
pub struct OneOf<'p, P: ?Sized> {
    /// Its place among them, from 0.
    pub index: usize,
    /// How many they are.
    pub pieces: usize,
    /// Receives the progress of all.
    pub all: &'p mut P,
}

impl<P: Progress + ?Sized> Progress for OneOf<'_, P> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        self.all.stage(stage, self.index as u64 * total + done, self.pieces as u64 * total);
    }

    fn note(&mut self, message: &str) {
        self.all.note(message);
    }

    fn warning(&mut self, message: &str) {
        self.all.warning(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_together() {
        struct Seen(Vec<(u64, u64)>);
        impl Progress for Seen {
            fn stage(&mut self, _: Stage, done: u64, total: u64) {
                self.0.push((done, total));
            }
        }
        let mut seen = Seen(Vec::new());
        for index in 0..2 {
            let mut one = OneOf { index, pieces: 2, all: &mut seen };
            one.stage(Stage::Denoising, 1, 3);
            one.stage(Stage::Denoising, 3, 3);
        }
        assert_eq!(seen.0, [(1, 6), (3, 6), (4, 6), (6, 6)]);
    }
}
