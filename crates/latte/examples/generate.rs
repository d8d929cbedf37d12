//! Videos from a class model: `cargo run --release -p latte --example generate -- [WEIGHTS [AUTOENCODER]]`.

use latte::{CancelToken, ClassRequest, Device, GenerationProgress, Generator, Progress, Resumable, Stage};

/// Prints the progress, and cancels the work after two predictions.
struct Steps(CancelToken);

impl Progress for Steps {
    #[allow(clippy::print_stdout, reason = "an example prints its progress")]
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        println!("{stage:?}: {done} of {total}");
        if done == 2 {
            self.0.cancel();
        }
    }
}

impl GenerationProgress for Steps {}

#[allow(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> latte::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut path = |tiny: &str| args.next().unwrap_or(format!("{}/../../testdata/{tiny}", env!("CARGO_MANIFEST_DIR")));
    let builder = Generator::open(path("compatibility/run"))?.autoencoder(path("golden/tiny-latte-t2v/vae"));
    let model = builder.on(Device::auto()?).load()?;
    let class = model.metadata().classes.first().map(|name| ClassRequest::class(name.as_str()));
    let request = class.unwrap_or(ClassRequest::unconditional()).seed(7).steps(5).enlarge(8);
    let clip = model.generate(&request)?;
    // The same clip, stopped after two predictions and resumed.
    let cancel = CancelToken::new();
    let stopped = model.generate_resumable(&request, None, &mut Steps(cancel.clone()), &cancel)?;
    let Resumable::Stopped(state) = stopped else { return Err(latte::Error::Cancelled) };
    let resumed = model.generate_resumable(&request, Some(&state), &mut latte::NoProgress, &CancelToken::new())?;
    assert_eq!(resumed.finished().map(|resumed| resumed.clip), Some(clip.clip.clone()));
    let out = std::env::temp_dir().join(format!("latte-{}.mp4", clip.name));
    clip.save_mp4(&out)?;
    println!("{}: {}", clip.label, out.display());
    Ok(())
}
