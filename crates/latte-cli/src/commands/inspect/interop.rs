//! Describes the weights of other programs.

use std::path::Path;

use latte_model::model::t2v::T2vConfig;
use latte_model::model::{ConfigHints, Latte, LatteConfig};
use latte_model::weights::{Pretrained, STABLE_DIFFUSION_AUTOENCODER, TensorSource, WeightKind, listed};
use serde_json::Value;

use super::{field, model_lines};
use crate::terminal::say;

/// The list of parts in a folder of a whole model.
const INDEX: &str = "model_index.json";

/// Whether a folder has all parts of a model, each in its own folder.
pub(super) fn is_pipeline(path: &Path) -> bool {
    path.join(INDEX).is_file()
}

/// Prints what each part with weights is, one after the other, because hashing gigabytes takes a while.
pub(super) fn say_pipeline(path: &Path) -> anyhow::Result<()> {
    say(&format!("{}: a model in the diffusers layout; its parts with weights:", path.display()));
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(path)? {
        parts.push(entry?.path());
    }
    parts.sort();
    for part in parts.iter().filter(|part| is_folder_of_weights(part)) {
        say("");
        for line in lines(part)? {
            say(&line);
        }
    }
    Ok(())
}

/// Whether a folder has weights rather than frames.
pub(super) fn is_folder_of_weights(path: &Path) -> bool {
    let is_weights = |file: &Path| {
        file.extension().and_then(|e| e.to_str()).is_some_and(|e| ["safetensors", "pt", "pth", "bin", "ckpt"].contains(&e))
    };
    std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| is_weights(&entry.path())))
}

/// The kind, number and types of the weights, and the hashes of the files.
pub(super) fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let weights = Pretrained::open(path)?;
    let kind = weights.kind();
    let what = if kind == WeightKind::Unknown { "tensors".into() } else { format!("the weights of {kind}") };
    let mut lines = vec![format!("{}: {what}", path.display())];
    if let Some(part) = weights.part() {
        let others = match weights.num_left_out() {
            0 => String::new(),
            n => format!("; {n} tensors in other parts"),
        };
        lines.push(field("part", format!("`{part}`{others}")));
    }
    lines.extend(weights.choice().map(|choice| field("choice", choice)));
    lines.push(count(&weights));
    lines.push(types(&weights));
    lines.extend(not_finite(&weights)?);
    match kind {
        WeightKind::Latte => lines.extend(latte_lines(&weights)),
        WeightKind::StableDiffusion => lines.extend(networks(&weights)),
        _ => {}
    }
    if let Some(config) = weights.files().config()? {
        lines.push(field("config.json", choices(&config)));
    } else if kind == WeightKind::LatteT2v {
        lines.push(match T2vConfig::from_weights(&weights, None) {
            Ok(config) => field("model", choices(&config.to_diffusers())),
            Err(e) => field("not usable", e.to_string()),
        });
    }
    lines.extend(digests(&weights));
    if kind == WeightKind::Unknown {
        lines.push(field("not usable", "as a model: this program does not know it, or its tensors have other names"));
    }
    Ok(lines)
}

/// The number of tensors and of values; none is read.
pub(super) fn count(weights: &Pretrained) -> String {
    field("tensors", format!("{} with {} values", weights.names().len(), weights.num_values()))
}

/// The networks in a file of a whole Stable Diffusion model, one line each, and how they can be used.
fn networks(weights: &Pretrained) -> Vec<String> {
    const NETWORKS: [(&str, &[&str]); 4] = [
        ("denoiser", &["model.diffusion_model."]),
        ("its average", &["model_ema."]),
        ("autoencoder", &[STABLE_DIFFUSION_AUTOENCODER]),
        ("texts", &["cond_stage_model.", "conditioner."]),
    ];
    let names = weights.names();
    let mut lines = Vec::new();
    for (network, prefixes) in NETWORKS {
        let own: Vec<&String> = names.iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect();
        let values: usize = own.iter().filter_map(|name| weights.shape(name)).map(|shape| shape.iter().product::<usize>()).sum();
        lines.push(field(
            network,
            if own.is_empty() { "not in it".into() } else { format!("{} tensors with {values} values", own.len()) },
        ));
    }
    if names.iter().any(|name| name.starts_with(STABLE_DIFFUSION_AUTOENCODER)) {
        lines.push(field("usable", "its autoencoder, with --vae and autoencoder.path; other versions than Stable Diffusion 1 and 2 need its config.json beside the file"));
    } else {
        lines.push(field("not usable", "this program has none of its networks"));
    }
    lines
}

/// The number of tensors of each type.
pub(super) fn types(weights: &Pretrained) -> String {
    let dtypes: Vec<String> = weights.dtypes().iter().map(|(dtype, count)| format!("{count} of {dtype}")).collect();
    field("types", dtypes.join(", "))
}

/// The tensors with values that are not finite, one line for each of the first ones. Reads all values.
pub(super) fn not_finite(weights: &Pretrained) -> anyhow::Result<Vec<String>> {
    const MAX_SHOWN: usize = 8;
    let bad = weights.not_finite()?;
    let line = |(name, count, of): &(String, usize, usize)| format!("{count} of {of} in `{name}`");
    let bad: Vec<String> = bad.iter().map(line).collect();
    Ok(if bad.is_empty() { Vec::new() } else { vec![field("not finite", listed(&bad, MAX_SHOWN))] })
}

/// The SHA-256 of each file.
pub(super) fn digests(weights: &Pretrained) -> Vec<String> {
    let line =
        |(file, digest): (&Path, String)| field("sha256", format!("{digest} {}", file.file_name().unwrap_or_default().display()));
    weights.files().sha256().into_iter().map(line).collect()
}

/// The class and the keys of a configuration, without those that do not describe the model.
fn choices(config: &Value) -> String {
    let Some(keys) = config.as_object() else { return config.to_string() };
    let class = keys.get("_class_name").and_then(Value::as_str).unwrap_or("keys");
    let says = |(key, value): &(&String, &Value)| !key.starts_with('_') && !value.is_null();
    let choices: Vec<String> = keys.iter().filter(says).map(|(key, value)| format!("{key} {value}")).collect();
    format!("{class}: {}", choices.join(", "))
}

fn latte_lines(weights: &Pretrained) -> Vec<String> {
    let model = LatteConfig::from_weights(weights, ConfigHints::default()).and_then(Latte::new);
    match model {
        Err(e) => vec![field("not usable", e.to_string())],
        Ok(model) => {
            let mut lines = model_lines(model.config());
            let report = model.fit(weights);
            if !report.is_complete() {
                lines.push(field("not usable", report.to_string()));
            }
            lines
        }
    }
}
