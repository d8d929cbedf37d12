//! The process that outlives a reader: it starts another one that reads, and keeps the input that ended it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::targets::Target;
use crate::{child, say};

/// The address space of the reading process, in KiB. An allocation beyond it fails, which ends the process.
const MEMORY_KIB: u64 = 2 << 20;

/// Damages files for `time`; whether all inputs were read well.
pub(crate) fn fuzz(target: &Target, time: Duration, seed: u64) -> bool {
    let (seconds, seed_text) = (time.as_secs().to_string(), seed.to_string());
    report(target, run(target, &["fuzz", &seconds, &seed_text]))
}

/// Reads one file; whether that went well.
pub(crate) fn once(target: &Target, file: &Path) -> bool {
    report(target, run(target, &["once", &file.to_string_lossy()]))
}

fn report(target: &Target, result: Result<String, String>) -> bool {
    let passed = result.is_ok();
    say(&format!("{}: {}", target.name, result.unwrap_or_else(|why| format!("FAILED: {why}"))));
    passed
}

fn run(target: &Target, args: &[&str]) -> Result<String, String> {
    let place = Place::new(target)?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("sh")
        .args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &MEMORY_KIB.to_string()])
        .arg(program)
        .args([child::OPTION, target.name])
        .arg(&place.folder)
        .args(args)
        // Each thread's arena is a reservation of address space, which is not memory.
        .env("MALLOC_ARENA_MAX", "2")
        .env("RAYON_NUM_THREADS", "2")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("sh: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_string();
    if output.status.success() {
        return Ok(said);
    }
    let kept = place.keep(args).unwrap_or_else(|why| why);
    Err(format!("{}: {kept}", reason(output.status, &said)))
}

/// Why the reading process ended: in its own words, where it had any.
fn reason(status: ExitStatus, said: &str) -> String {
    if status.code() == Some(1) && !said.is_empty() {
        return said.to_string();
    }
    format!("ended by {status}: more than {} MiB of memory, a stack that is too deep, or an abort {said}", MEMORY_KIB >> 10)
}

/// A folder that holds the one input of the moment.
struct Place<'t> {
    target: &'t Target,
    folder: PathBuf,
}

impl<'t> Place<'t> {
    fn new(target: &'t Target) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("latte-fuzz-{}-{}", target.name, std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Self { target, folder })
    }

    /// Copies the input to the artifacts, unless it is a file that was given; says where it is.
    fn keep(&self, args: &[&str]) -> Result<String, String> {
        if let ["once", file] = args {
            return Ok((*file).to_string());
        }
        let input = self.folder.join(self.target.file);
        let bytes = std::fs::read(&input).map_err(|e| format!("there was no input ({e})"))?;
        let mut sum = flate2::Crc::new();
        sum.update(&bytes);
        let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
        let kept = artifacts.join(format!("{}-{:08x}", self.target.name, sum.sum()));
        std::fs::create_dir_all(&artifacts).and_then(|()| std::fs::write(&kept, bytes)).map_err(|e| e.to_string())?;
        Ok(kept.display().to_string())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // What stays behind would only take space.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
