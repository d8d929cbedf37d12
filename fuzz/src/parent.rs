//! The parent process: it starts a child that runs a reader, and keeps the input on which the child failed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::targets::Target;
use crate::{child, say};

/// The address space of the child process in KiB. An allocation beyond it fails and ends the process.
const MEMORY_KIB: u64 = 2 << 20;

/// Runs damaged files for `time`; returns whether the reader handled all of them.
pub(crate) fn fuzz(target: &Target, time: Duration, seed: u64) -> bool {
    let (seconds, seed_text) = (time.as_secs().to_string(), seed.to_string());
    report(target, run(target, &["fuzz", &seconds, &seed_text]))
}

/// Runs one file; returns whether the reader handled it.
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
        // Each thread's arena reserves address space, which the limit counts as memory.
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

/// Why the child ended: its own message, if it printed one.
fn reason(status: ExitStatus, said: &str) -> String {
    if status.code() == Some(1) && !said.is_empty() {
        return said.to_string();
    }
    format!("ended by {status}: more than {} MiB of memory, a stack that is too deep, or an abort {said}", MEMORY_KIB >> 10)
}

/// A folder that holds the current input.
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

    /// Copies the input to the artifacts, unless the user gave the file; returns a message with its location.
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
        // A failure to remove it only takes disk space.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
