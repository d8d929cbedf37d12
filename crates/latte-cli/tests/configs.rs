//! The shipped configurations.

use std::path::Path;

use latte_train::{TrainConfig, VaeTrainConfig};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"))
}

#[test]
fn every_shipped_configuration_can_be_read() {
    let mut read = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        // The training of an autoencoder has its own configuration.
        if path.file_name().unwrap().to_string_lossy().starts_with("vae_") {
            VaeTrainConfig::load(&path, &[]).unwrap();
        } else {
            TrainConfig::load(&path, &[]).unwrap();
        }
        read += 1;
    }
    assert!(read >= 2, "{read} configurations");
}

/// All keys of a table, as `section.key`.
fn keys(table: &toml::Table, prefix: &str, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) if prefix.is_empty() => keys(inner, key, found),
            _ => found.push(format!("{prefix}.{key}")),
        }
    }
}

#[test]
fn the_commented_example_shows_every_key_with_its_default() {
    let text = std::fs::read_to_string(folder().join("folder.toml")).unwrap();
    let written: toml::Table = text.parse().unwrap();
    // The configuration with only the required keys and all defaults.
    let required = "[model]\npreset = \"Latte-S/2\"\n[data]\npath = \"my-videos\"\nsize = 64\n\
                    [train]\nmax_steps = 150000\nbatch_size = 2\n[output]\nrun = \"runs/folder\"\n";
    let defaults: toml::Table = TrainConfig::from_toml(required, "required", &[]).unwrap().to_toml().unwrap().parse().unwrap();
    let (mut shown, mut known) = (Vec::new(), Vec::new());
    keys(&written, "", &mut shown);
    keys(&defaults, "", &mut known);
    assert_eq!(shown.len(), known.len(), "shown: {shown:?}\nknown: {known:?}");
    let resolved: toml::Table = TrainConfig::from_toml(&text, "folder.toml", &[]).unwrap().to_toml().unwrap().parse().unwrap();
    assert_eq!(resolved, defaults, "the example's values are the defaults");
    // Keys without a default are in comments.
    let without = [
        "patch_size",
        "hidden_size",
        "depth",
        "num_heads",
        "num_classes",
        "latents",
        "guidance",
        "min_snr_gamma",
        "fraction",
        "every",
        "timesteps",
    ];
    for key in without {
        assert!(text.contains(&format!("# {key} = ")), "{key}");
    }
}

#[test]
fn the_papers_configurations_say_what_to_expect() {
    for data in ["ffs", "sky", "ucf101", "taichi"] {
        for kind in ["train", "joint"] {
            let text = std::fs::read_to_string(folder().join(format!("{data}_{kind}.toml"))).unwrap();
            for part in ["# Expected: FVD", "# Cost: ", "# Differs from the original, and why:", "Vchitect/Latte#"] {
                assert!(text.contains(part), "{data}_{kind}: {part}");
            }
        }
    }
}
