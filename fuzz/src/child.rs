//! The process that runs a reader: it may panic, run out of memory or hang; the parent reports it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::damage::{Chance, damaged};
use crate::targets::Target;
use crate::{say, watch};

/// The argument that marks this process.
pub(crate) const OPTION: &str = "--child";

/// Arguments: target, folder, then `fuzz SECONDS SEED` or `once FILE`.
pub(crate) fn main(args: &[&str]) -> ExitCode {
    let result = match *args {
        [name, folder, ref work @ ..] => Target::named(name).and_then(|target| work_of(target, Path::new(folder), work)),
        _ => Err("this is for the program itself".into()),
    };
    let code = ExitCode::from(u8::from(result.is_err()));
    say(&result.unwrap_or_else(|why| why));
    code
}

fn work_of(target: &Target, folder: &Path, work: &[&str]) -> Result<String, String> {
    watch::panics();
    watch::time();
    match *work {
        ["fuzz", seconds, seed] => {
            let number = |text: &str| text.parse::<u64>().map_err(|e| e.to_string());
            fuzz(target, folder, Duration::from_secs(number(seconds)?), number(seed)?)
        }
        ["once", file] => {
            let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
            let sound = read(target, folder, &bytes)?;
            Ok(if sound { "read as a sound file" } else { "refused, as it should be if it is damaged" }.into())
        }
        _ => Err("expected work".into()),
    }
}

fn fuzz(target: &Target, folder: &Path, time: Duration, seed: u64) -> Result<String, String> {
    let seeds = (target.seeds)()?;
    let mut good = 0;
    for (number, seed) in seeds.iter().enumerate() {
        good += u64::from(read(target, folder, seed).map_err(|why| format!("undamaged file {number} {why}"))?);
    }
    // If no undamaged file is read, damage would only test the first check.
    if good == 0 {
        return Err(format!("none of the {} files to start from is read", seeds.len()));
    }
    let (mut chance, start) = (Chance::new(seed), Instant::now());
    let (mut inputs, mut sound) = (0_u64, 0_u64);
    while start.elapsed() < time {
        let input = damaged(&seeds, target.form, target.words, &mut chance);
        sound += u64::from(read(target, folder, &input).map_err(|why| format!("input {inputs} of seed {seed} {why}"))?);
        inputs += 1;
    }
    Ok(format!("{inputs} inputs from {} files, {sound} of them read without an error", seeds.len()))
}

/// Whether the reader accepts the input; an error if it fails other than with an error message.
fn read(target: &Target, folder: &Path, input: &[u8]) -> Result<bool, String> {
    let path = folder.join(target.file);
    std::fs::write(&path, input).map_err(|e| format!("cannot be written: {e}"))?;
    watch::begin();
    let result = catch_unwind(AssertUnwindSafe(|| (target.read)(&path)));
    watch::end()?;
    result.map_err(|_panic| "panicked".into())
}
