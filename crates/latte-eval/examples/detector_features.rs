//! Features of clips by a detector, without anything around them, for scripts that compare with other programs and clocks.
//!
//! `detector_features WEIGHTS PIXELS N F H W TAP,TAP… OUT [TIMES]`: WEIGHTS is a file of this program, a file of somebody
//! else, or `random`; PIXELS holds `[n, f, h, w, 3]` bytes; OUT gets the outputs as f32, one behind the other. With TIMES, the seconds
//! of every one of so many runs go to the standard output.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use latte_eval::detector::{Clips, Setup, Tap, import, random_i3d};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, pixels, n, f, h, w, taps, out, times @ ..] = arguments.as_slice() else {
        return Err("expected WEIGHTS PIXELS N F H W TAP,TAP… OUT [TIMES]".into());
    };
    let detector = match weights.as_str() {
        "random" => random_i3d(0, Setup::default())?,
        path => import(Path::new(path), None)?.build(Setup::default())?,
    };
    let pixels = fs::read(pixels)?;
    let clips = Clips { pixels: &pixels, shape: [n.parse()?, f.parse()?, h.parse()?, w.parse()?] };
    let tap = |name: &str| detector.taps().iter().find(|tap| tap.name == name).copied().ok_or(format!("no output `{name}`"));
    let taps = taps.split(',').map(tap).collect::<Result<Vec<Tap>, _>>()?;
    let features = detector.features(clips, &taps)?;
    for _ in 0..times.first().map_or(Ok(0), |times| times.parse())? {
        let start = Instant::now();
        detector.features(clips, &taps)?;
        writeln!(std::io::stdout(), "{}", start.elapsed().as_secs_f64())?;
    }
    let mut bytes = Vec::new();
    for output in features {
        bytes.extend(output.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(fs::write(out, bytes)?)
}
