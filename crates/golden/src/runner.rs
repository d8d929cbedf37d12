//! Finds the golden files of a crate and says how far each is from the reference.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::case::{Array, Case};
use crate::kinds::{KINDS, Kind, NO_RUNNER};

/// One comparison of a golden file: what was compared, how far apart, how far is allowed.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// Largest absolute difference ÷ largest absolute reference value.
    pub error: f64,
    /// The largest `error` that passes.
    pub tolerance: f64,
}

impl Check {
    /// Compares `ours` with `reference`; a different number of values, or a NaN, is an infinite error.
    pub fn new(what: impl Into<String>, ours: &[f64], reference: &Array, tolerance: f64) -> Self {
        Self { what: what.into(), error: relative_error(ours, &reference.values), tolerance }
    }

    /// As [`Check::new`] for `f32` results.
    pub fn new_f32(what: impl Into<String>, ours: &[f32], reference: &Array, tolerance: f64) -> Self {
        let ours: Vec<f64> = ours.iter().map(|&v| v as f64).collect();
        Self::new(what, &ours, reference, tolerance)
    }

    /// Whether the error is no larger than allowed.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Largest absolute difference ÷ largest absolute value of `reference`; infinite if the lengths differ or a value is NaN.
pub fn relative_error(ours: &[f64], reference: &[f64]) -> f64 {
    if ours.len() != reference.len() {
        return f64::INFINITY;
    }
    let scale = reference.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let mut worst = 0.0_f64;
    for (a, b) in ours.iter().zip(reference) {
        let difference = (a - b).abs();
        if difference.is_nan() {
            return f64::INFINITY;
        }
        worst = worst.max(difference);
    }
    if worst == 0.0 { 0.0 } else { worst / scale }
}

/// Where the golden files lie: `LATTE_GOLDEN_DIR`, else `testdata/golden` of the workspace.
pub fn directory() -> PathBuf {
    std::env::var_os("LATTE_GOLDEN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden"),
        |dir| {
            let dir = PathBuf::from(dir);
            // Tests run in their package's folder; a relative path is meant from the workspace's.
            if dir.is_absolute() { dir } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir) }
        },
    )
}

/// The result of one golden file.
#[derive(Debug)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// All its comparisons, or why there are none.
    pub checks: Result<Vec<Check>, String>,
}

impl FileReport {
    /// Whether there are comparisons and all passed.
    pub fn passed(&self) -> bool {
        self.checks.as_ref().is_ok_and(|checks| !checks.is_empty() && checks.iter().all(Check::passed))
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.name, if self.passed() { "ok" } else { "FAILED" })?;
        match &self.checks {
            Ok(checks) => {
                let one = |c: &Check| format!("{} {:.1e} (≤ {:.0e})", c.what, c.error, c.tolerance);
                f.write_str(&checks.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Err(e) => f.write_str(e),
        }
    }
}

/// A golden file of one owner, or one that is nobody's.
#[derive(Debug)]
pub struct GoldenFile {
    path: PathBuf,
    /// Its kind, or why it has none.
    kind: Result<&'static Kind, String>,
}

/// All comparisons of a golden file, from its path and the name of its kind; or why there are none.
pub type Checked = Result<Vec<Check>, Box<dyn Error>>;

impl GoldenFile {
    /// The name of the file.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Runs `check`. A kind that no list knows, and a configuration key outside its kind's list, are reports that failed.
    pub fn report(&self, check: impl Fn(&Path, &str) -> Checked) -> FileReport {
        let checks = self.kind.clone().map_err(Into::into).and_then(|kind| {
            check_keys(&self.path, kind)?;
            check(&self.path, kind.name)
        });
        FileReport { name: self.name(), checks: checks.map_err(|e| e.to_string()) }
    }
}

fn check_keys(path: &Path, kind: &Kind) -> Result<(), Box<dyn Error>> {
    if path.extension().is_some_and(|e| e == "safetensors") {
        let case = Case::read(path)?;
        if let Some(key) = case.config.keys().find(|key| !kind.knows(key)) {
            return Err(format!("config key `{key}` is not known for kind `{}`", kind.name).into());
        }
    }
    Ok(())
}

/// The files of `directory` whose kind `owner` owns or no list knows, and the number of those of other owners.
///
/// # Errors
///
/// If the directory cannot be read, or has no such file.
pub fn files_of(owner: &str, directory: &Path) -> Result<(Vec<GoldenFile>, usize), String> {
    let files = sorted_files(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let files = files.into_iter().map(|path| GoldenFile { kind: kind_of(&path).map_err(|e| e.to_string()), path });
    let (files, others): (Vec<_>, Vec<_>) = files.partition(|file| file.kind.as_ref().map_or(true, |kind| kind.owner == owner));
    if files.is_empty() {
        return Err(format!("no golden file of {owner} in {}", directory.display()));
    }
    Ok((files, others.len()))
}

/// The names of the files of `directory` whose kind is known, and which no crate checks yet.
///
/// # Errors
///
/// If the directory cannot be read.
pub fn files_without_runner(directory: &Path) -> Result<Vec<String>, String> {
    let files = sorted_files(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let files = files.into_iter().filter(|path| kind_of(path).is_ok_and(|kind| kind.owner == NO_RUNNER));
    Ok(files.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect())
}

#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "the names are the project's own")]
fn kind_of(path: &Path) -> Result<&'static Kind, Box<dyn Error>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = if path.is_dir() && name.starts_with("tiny-latte-t2v") {
        "tiny-latte-t2v".to_string()
    } else if path.is_dir() && name.starts_with("t2v_lora") {
        "t2v_lora_files".to_string()
    } else if name.starts_with("respacing") && name.ends_with(".json") {
        "respacing".to_string()
    } else if name.ends_with("_tokens.json") {
        "tokens".to_string()
    } else if name.ends_with("_keys.json") {
        "detector_keys".to_string()
    } else if name.ends_with(".safetensors") {
        Case::read(path)?.kind
    } else {
        return Err("no golden file: neither a known JSON file nor .safetensors".into());
    };
    KINDS.iter().find(|k| k.name == kind).ok_or_else(|| format!("kind `{kind}` is not known").into())
}

fn sorted_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|p| p.extension().is_none_or(|e| e != "md"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Writes a golden file with one tensor and returns its folder.
    fn folder_with(kind: &str, config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let bytes = 1.5f32.to_le_bytes();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &bytes).unwrap();
        let metadata = HashMap::from([("kind".to_string(), kind.to_string()), ("config".to_string(), config.to_string())]);
        std::fs::write(folder.path().join("x.safetensors"), safetensors::serialize([("in.x", view)], Some(metadata)).unwrap())
            .unwrap();
        folder
    }

    /// What a check of `latte-video` gives for the files of such a folder, and the number of those of others.
    fn outcomes(folder: &Path) -> Result<(Vec<FileReport>, usize), String> {
        let check = |path: &Path, _: &str| -> Checked {
            let case = Case::read(path)?;
            Ok(vec![Check::new("x", &[1.5], case.tensor("in.x")?, 0.0)])
        };
        let (files, others) = files_of("latte-video", folder)?;
        Ok((files.iter().map(|file| file.report(check)).collect(), others))
    }

    fn outcome(kind: &str, config: &str) -> Result<Vec<Check>, String> {
        outcomes(folder_with(kind, config).path())?.0.remove(0).checks
    }

    #[test]
    fn a_known_kind_is_checked_by_its_owner_only() {
        assert!(outcome("transform", "{\"size\": 3}").is_ok_and(|checks| checks[0].passed()));
        assert!(outcome("latte", "{}").is_err_and(|e| e.contains("no golden file of latte-video")));
        let folder = folder_with("transform", "{}");
        std::fs::copy(folder_with("latte", "{}").path().join("x.safetensors"), folder.path().join("y.safetensors")).unwrap();
        let (outcomes, others) = outcomes(folder.path()).unwrap();
        assert_eq!((outcomes.len(), others), (1, 1));
    }

    #[test]
    fn an_unknown_kind_key_or_file_and_an_empty_folder_are_errors() {
        assert!(outcome("transforms", "{}").is_err_and(|e| e.contains("`transforms` is not known")));
        assert!(outcome("transform", "{\"sizes\": 3}").is_err_and(|e| e.contains("`sizes`")));
        assert!(kind_of(Path::new("notes.txt")).is_err());
        let empty = tempfile::tempdir().unwrap();
        assert!(outcomes(empty.path()).is_err_and(|e| e.contains("no golden file of latte-video")));
        assert!(outcomes(&empty.path().join("missing")).is_err_and(|e| e.contains("missing: ")));
    }

    #[test]
    fn errors_are_relative_to_the_largest_value_and_never_hide_a_nan() {
        assert_eq!(relative_error(&[1.0, 3.0], &[1.0, 4.0]), 0.25);
        assert_eq!(relative_error(&[], &[]), 0.0);
        assert_eq!(relative_error(&[f64::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0], &[0.0]), f64::INFINITY);
    }
}
