//! What is in weights that other programs wrote.

use std::path::Path;

use latte::model::{Hints, Latte, LatteConfig};
use latte::weights::{Pretrained, TensorSource, WeightKind};

use super::{field, model_lines};

/// Whether a folder holds weights rather than frames.
pub(super) fn is_folder_of_weights(path: &Path) -> bool {
    let is_weights = |file: &Path| {
        file.extension().and_then(|e| e.to_str()).is_some_and(|e| ["safetensors", "pt", "pth", "bin", "ckpt"].contains(&e))
    };
    std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| is_weights(&entry.path())))
}

/// Whose weights they are, how many, of which types, and the files' fingerprints.
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
    lines.push(field("tensors", format!("{} with {} values", weights.names().len(), weights.num_values())));
    let dtypes: Vec<String> = weights.dtypes().iter().map(|(dtype, count)| format!("{count} of {dtype}")).collect();
    lines.push(field("types", dtypes.join(", ")));
    if kind == WeightKind::Latte {
        lines.extend(latte_lines(&weights));
    }
    let class = weights.files().config().and_then(|config| config.get("_class_name")).and_then(|name| name.as_str());
    if let Some(class) = class {
        lines.push(field("config.json", class));
    }
    for (file, digest) in weights.files().sha256() {
        lines.push(field("sha256", format!("{digest} {}", file.file_name().unwrap_or_default().display())));
    }
    if kind == WeightKind::Unknown {
        lines.push(field("not usable", "as a model: it is none that this program knows, or under other names"));
    }
    Ok(lines)
}

fn latte_lines(weights: &Pretrained) -> Vec<String> {
    let model = LatteConfig::from_weights(weights, Hints::default()).and_then(Latte::new);
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
