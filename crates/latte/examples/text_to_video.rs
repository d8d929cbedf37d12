//! Videos from texts: `cargo run --release -p latte --example text_to_video -- [MODEL FOLDER [PROMPT]]`.

use latte::{Cache, CancelToken, GenerationProgress, Progress, Residency, Sampler, Stage, TextRequest, TextToVideo};

/// Prints the progress of each stage.
struct Stages;

impl Progress for Stages {
    #[allow(clippy::print_stdout, reason = "an example prints its progress")]
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        println!("{stage:?}: {done} of {total}");
    }
}

impl GenerationProgress for Stages {}

#[allow(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> latte::Result<()> {
    let mut args = std::env::args().skip(1);
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/golden/tiny-latte-t2v");
    let folder = args.next().unwrap_or(tiny.into());
    let prompt = args.next().unwrap_or("a lighthouse".into());

    // Transformer and decoder stay in memory, so the second request starts without loading them.
    let model = TextToVideo::open(folder)?.residency(Residency::Resident).cache(Cache::none()).load()?;
    for seed in [1, 2] {
        let request = TextRequest::new(prompt.as_str()).sampler(Sampler::DpmMultistep).steps(4).seed(seed);
        let clip = model.generate_with(&request, &mut Stages, &CancelToken::new())?;
        let out = std::env::temp_dir().join(format!("latte-{}.mp4", clip.name));
        clip.save_mp4(&out)?;
        println!("{}: {}", clip.label, out.display());
    }
    Ok(())
}
