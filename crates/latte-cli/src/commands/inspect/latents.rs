//! Describes a latent cache.

use std::path::Path;

use latte_train::LatentCache;

use super::field;

/// The number of unreadable videos that are named.
const NAMED: usize = 10;

pub(super) fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let cache = LatentCache::open(path)?;
    let (header, videos) = (&cache.manifest().header, &cache.manifest().videos);
    let frames: usize = videos.iter().filter_map(|video| video.video.as_ref()).map(|video| video.frames).sum();
    let classes = match header.classes.len() {
        0 => String::new(),
        n => format!(" of {n} classes"),
    };
    let ([height, width], [channels, h, w]) = (header.size, header.frame_shape()?);
    let (space, vae) = (header.space()?, &header.autoencoder);
    let mut files: Vec<&String> = videos.iter().filter_map(|video| video.file.as_ref()).collect();
    files.dedup();
    let bytes: u64 = files.iter().filter_map(|file| std::fs::metadata(path.join(file)).ok()).map(|meta| meta.len()).sum();
    let mut lines = vec![
        format!("{}: a latent cache", path.display()),
        field("videos", format!("{}{classes}, {frames} frames", videos.len())),
        field("frames", format!("{width} × {height} pixels ({})", word(&header.transform))),
        field("moments", format!("{channels} × {h} × {w} of {} for each frame", header.dtype)),
        field(
            "flips",
            if header.flips { "every video is also stored mirrored" } else { "none: for training with `data.flip = false`" },
        ),
        field(
            "autoencoder",
            format!(
                "{} (SHA-256 {}…, {} channels for {s} × {s} pixels, matmuls in {})",
                header.autoencoder_path.display(),
                vae.sha256.chars().take(12).collect::<String>(),
                space.channels(),
                word(&header.precision),
                s = space.downsample_factor(),
            ),
        ),
        field("data set", format!("{} ({})", header.root.display(), header.layout)),
        field("files", format!("{} with {:.1} MiB", files.len(), bytes as f64 / f64::from(1 << 20))),
    ];
    let unreadable: Vec<_> = videos.iter().filter_map(|video| Some((&video.name, video.error.as_ref()?))).collect();
    lines.extend(unreadable.iter().take(NAMED).map(|(name, why)| field("unreadable", format!("{name}: {why}"))));
    if unreadable.len() > NAMED {
        lines.push(field("unreadable", format!("and {} more; latents.jsonl names them", unreadable.len() - NAMED)));
    }
    Ok(lines)
}

/// A choice as a configuration writes it.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_string()
}
