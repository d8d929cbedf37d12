//! Prints features of clips for scripts that compare a detector, and its speed, with other programs.
//!
//! `detector_features WEIGHTS PIXELS N F H W TAP,TAP… OUT TIMES [--mean FILE] [--texts TEXT…]`: WEIGHTS is a file or folder of
//! another program, or `random`; PIXELS holds `[n, f, h, w, 3]` bytes; OUT gets the outputs as consecutive f32 values. The seconds
//! of each of TIMES further runs go to the standard output. `--mean` is C3D's second file; with `--texts`, OUT gets CLIP's
//! embeddings of the texts instead. Without arguments, it computes features of a synthetic clip with the random network.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use candle_core::Tensor;
use latte_eval::detector::{Clips, Detector, FeatureLayer, Setup, import_with_mean, open_clip, random_i3d};

/// The same allocator as in the program.
#[global_allocator]
static ALLOCATOR: latte_ops::CachingAllocator = latte_ops::CachingAllocator::new();

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        return features_of_a_gradient();
    }
    let [weights, pixels, n, f, h, w, layers, out, times, more @ ..] = arguments.as_slice() else {
        return Err("expected WEIGHTS PIXELS N F H W TAP,TAP… OUT TIMES".into());
    };
    let option = |name: &str| more.iter().position(|m| m == name).map(|at| &more[at + 1..]);
    let mean = option("--mean").and_then(<[String]>::first).map(Path::new);
    if let Some(texts) = option("--texts") {
        let imported = Path::new(out).with_extension("safetensors");
        import_with_mean(Path::new(weights), None, mean)?.save(&imported)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        return write(out, &[open_clip(&imported, Setup::default())?.texts(&texts)?]);
    }
    let detector: Box<dyn Detector> = match weights.as_str() {
        "random" => random_i3d(0, Setup::default())?,
        path => import_with_mean(Path::new(path), None, mean)?.build(Setup::default())?,
    };
    let pixels = fs::read(pixels)?;
    let clips = Clips { pixels: &pixels, shape: [n.parse()?, f.parse()?, h.parse()?, w.parse()?] };
    let layer = |name: &str| {
        detector.feature_layers().iter().find(|layer| layer.name == name).copied().ok_or(format!("no output `{name}`"))
    };
    let layers = layers.split(',').map(layer).collect::<Result<Vec<FeatureLayer>, _>>()?;
    let features = detector.features(clips, &layers)?;
    for _ in 0..times.parse()? {
        let start = Instant::now();
        detector.features(clips, &layers)?;
        writeln!(std::io::stdout(), "{}", start.elapsed().as_secs_f64())?;
    }
    write(out, &features)
}

/// Features of 10 frames of 224 × 224 with a horizontal gradient, from a network that needs no file.
fn features_of_a_gradient() -> Result<(), Box<dyn Error>> {
    let shape = [1, 10, 224, 224];
    let pixels: Vec<u8> = (0..shape.iter().product::<usize>()).flat_map(|place| [(place % 224) as u8; 3]).collect();
    let detector = random_i3d(0, Setup::default())?;
    let layers = detector.feature_layers();
    for (layer, features) in layers.iter().zip(detector.features(Clips { pixels: &pixels, shape }, layers)?) {
        let features = features.flatten_all()?.to_vec1::<f32>()?;
        let norm = features.iter().map(|value| value * value).sum::<f32>().sqrt();
        writeln!(std::io::stdout(), "{}: {} values of norm {norm:.3}", layer.name, features.len())?;
    }
    Ok(())
}

fn write(path: &str, outputs: &[Tensor]) -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    for output in outputs {
        bytes.extend(output.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(fs::write(path, bytes)?)
}
