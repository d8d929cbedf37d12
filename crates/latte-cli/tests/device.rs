//! Runs `--device` and `latte selftest` with the built program.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden")
}

fn latte(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latte"));
    command.args(args).env_remove("RUST_BACKTRACE").env_remove("LATTE_GOLDEN_DIR").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs, expects the refusal of bad input, and returns the one line of standard error.
fn refused(args: &[&str]) -> String {
    let output = latte(args);
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "latte {}: {stderr}", args.join(" "));
    stderr
}

/// A folder with copies of some golden files.
fn some_golden(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(golden().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn a_missing_device_is_one_line_and_exit_code_2() {
    // No machine has that many GPUs; a program without CUDA has none.
    for args in [
        &["selftest", "--device", "cuda:4095"][..],
        &["bench", "--model", "S/8", "--device", "cuda:4095"],
        &["demo", "--device", "cuda:4095", "--out", "/nowhere"],
    ] {
        let line = refused(args);
        assert!(line.contains("cuda:4095") && line.contains("--device cpu"), "{line}");
        assert!(latte_ops::BUILT_WITH_CUDA || line.contains("built without CUDA"), "{line}");
    }
    assert!(refused(&["selftest", "--device", "gpu"]).contains("auto, cpu or cuda:N"));
    for args in [
        &["eval", "flicker", "--fake", ".", "--device", "cuda:0"][..],
        &["train-vae", "--config", "x.toml", "--device", "cuda:0"],
    ] {
        assert!(refused(args).contains("only on the CPU so far"), "{args:?}");
    }
}

#[test]
fn the_selftest_passes_here_and_says_so_line_by_line() {
    let folder = some_golden(&["latte_class.safetensors", "transform_up.safetensors"]);
    let output = latte(&["selftest", "--device", "cpu", "--golden", folder.path().to_str().unwrap()]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    assert!(
        stdout.contains("operation linear: ok: value ") && stdout.contains("golden latte_class.safetensors: ok: out "),
        "{stdout}"
    );
    assert!(stdout.contains("golden: 1 files of pixels and detectors"), "{stdout}");
    let table: Vec<&str> = stdout.lines().rev().take(4).collect();
    assert!(
        table[1].starts_with("golden files") && table[2].starts_with("operations") && table[3].contains("failed"),
        "{table:?}"
    );
}

/// The path of a device without kernels of its own, tested on the CPU.
#[test]
fn reference_formulations_pass_the_golden_files_of_networks_and_trainer() {
    let folder = some_golden(&[
        "latte_class.safetensors",
        "latte_joint_class.safetensors",
        "t2v_video.safetensors",
        "t5_encoder.safetensors",
        "train_clip_accumulate.safetensors",
        "vae_kl.safetensors",
        "vae_temporal.safetensors",
    ]);
    let output = latte(&["selftest", "--device", "cpu", "--reference", "--golden", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().filter(|line| line.starts_with("golden ") && line.contains(": ok: ")).count(), 7, "{stdout}");
}

#[test]
fn a_value_that_is_off_fails_the_selftest() {
    let folder = some_golden(&["latte_uncond.safetensors"]);
    let path = folder.path().join("latte_uncond.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let names: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = 8 + header + names["out.out"]["data_offsets"][0].as_u64().unwrap() as usize;
    let value = f32::from_le_bytes(bytes[start..start + 4].try_into().unwrap());
    bytes[start..start + 4].copy_from_slice(&(value + 1e-3).to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let output = latte(&["selftest", "--device", "cpu", "--golden", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("golden latte_uncond.safetensors: FAILED"));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("1 of ") && stderr.contains("checks failed: latte_uncond.safetensors"), "{stderr}");
}

#[test]
fn missing_golden_files_are_an_error() {
    let line = refused(&["selftest", "--device", "cpu", "--golden", "/nowhere"]);
    assert!(line.contains("/nowhere") && line.contains("--golden FOLDER"), "{line}");
}
