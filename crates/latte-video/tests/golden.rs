//! Golden files that this crate owns: the official resizing transforms.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use golden::{Case, Check};
use latte_video::{Clip, Transform, transform};

const TOLERANCE: f64 = 1e-5;

fn main() -> ExitCode {
    golden_harness::run("latte-video", check)
}

fn check(path: &Path, kind: &str) -> Result<Vec<Check>, Box<dyn Error>> {
    match kind {
        "transform" => check_transform(path),
        other => Err(format!("nothing here runs kind `{other}`").into()),
    }
}

fn check_transform(path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    let case = Case::read(path)?;
    let size = match case.config.get("size") {
        Some(serde_json::Value::Array(pair)) => {
            match (pair.first().and_then(serde_json::Value::as_u64), pair.get(1).and_then(serde_json::Value::as_u64)) {
                (Some(h), Some(w)) => [h as usize, w as usize],
                _ => return Err("config `size` is no pair of whole numbers".into()),
            }
        }
        Some(one) => [one.as_u64().ok_or("config `size` is no whole number")? as usize; 2],
        None => return Err("config has no `size`".into()),
    };
    let video = case.tensor("in.video")?;
    let [f, c, h, w] = video.shape[..] else { return Err("in.video is not [f, c, h, w]".into()) };
    if c != 3 {
        return Err(format!("in.video has {c} channels").into());
    }
    let mut pixels = vec![0; video.values.len()];
    for (i, &value) in video.values.iter().enumerate() {
        // [f, c, h, w] -> [f, h, w, c]
        let (frame, channel, place) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        pixels[(frame * h * w + place) * c + channel] = value as u8;
    }
    let clip = Clip::new(pixels, [f, h, w, 3], 8.0)?;
    let checks = case
        .with_prefix("out.")
        .map(|(name, reference)| {
            // The way training reads frames: through `apply`, whose values are in [-1, 1].
            let (transform, plain) = match name {
                "short_side_resize_center_crop" => (Transform::ResizeCrop, transform::short_side_resize_center_crop(&clip, size)),
                "center_crop_resize" => (Transform::CropResize, transform::center_crop_resize(&clip, size)),
                other => return Err(format!("no transform `{other}` here").into()),
            };
            let ours: Vec<f32> = transform.apply(&clip, size)?.into_iter().map(|value| value * 0.5 + 0.5).collect();
            Ok([
                Check::new_f32(name, &ours, reference, TOLERANCE),
                Check::new_f32(format!("{name} in [0, 1]"), &plain, reference, TOLERANCE),
            ])
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    Ok(checks.into_iter().flatten().collect())
}
