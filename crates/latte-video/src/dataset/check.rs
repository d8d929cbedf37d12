//! Checks a data set for problems before a long training run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Diagnostic, ImageList, Index, IndexEntry, Layout, Location, MediaLocation, Probe, Severity, Signature};
use crate::{ClipWindow, FrameRule, Result, Transform, read_image};

/// How training will use a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The frames of a clip.
    pub window: ClipWindow,
    /// How frames are brought to `size`.
    pub transform: Transform,
    /// Height and width of training, in pixels; `None` if they are not known.
    pub size: Option<[usize; 2]>,
    /// Number of classes of the model; `None` if it is not known or the model has no classes.
    pub num_classes: Option<usize>,
}

/// Lists the problems of the data set that `index` describes, errors first. Duplicate contents are found if the index has hashes.
pub fn check(index: &Index, expected: &Expected) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    unreadable(index, &mut diagnostics);
    let usable = usable(index, expected, &mut diagnostics);
    sizes(&usable, expected, &mut diagnostics);
    classes(index, &usable, expected, &mut diagnostics);
    duplicates(index, &mut diagnostics);
    rates(&usable, &mut diagnostics);
    // Some videos cannot be read and all others are too short, for example.
    if !diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
        && !usable.iter().any(|video| has_size(video, expected))
    {
        let what = format!("none of the {} videos gives a clip", index.entries.len());
        diagnostics.push(Diagnostic { severity: Severity::Error, what });
    }
    sort(diagnostics)
}

/// Lists what has changed at `location` since `index` was made: files that are missing or have another size, and videos that the
/// index does not have.
///
/// # Errors
///
/// If the data set cannot be listed.
pub fn check_files(index: &Index, location: &Location) -> Result<Vec<Diagnostic>> {
    let (dataset, skipped) = location.list()?;
    let mut diagnostics = skipped.diagnostic().into_iter().collect::<Vec<_>>();
    let mut unknown: BTreeSet<String> = dataset.items.into_iter().map(|item| item.name).collect();
    let (mut stale, mut gone) = (Vec::new(), 0);
    for entry in &index.entries {
        unknown.remove(&entry.name);
        let place = entry.place_in(location.base());
        if Signature::of(place.path()).ok() != Some(entry.signature) {
            stale.push(entry.name.as_str());
            // Training accepts a file of which only the time has changed, as long as it matches the index.
            gone += usize::from(entry.signature.stale(place.path()).is_some());
        }
    }
    if !stale.is_empty() {
        let severity = if gone == index.entries.len() { Severity::Error } else { Severity::Warning };
        let count = count(stale.len(), index.entries.len(), "videos are gone or have changed", "is gone or has changed");
        diagnostics.push(Diagnostic {
            severity,
            what: format!("{count} since the index was made; run `latte data index` again: {}", some(stale)),
        });
    }
    if !unknown.is_empty() {
        let what = format!("{} videos are not in the index: {}", unknown.len(), some(unknown.iter().map(String::as_str)));
        diagnostics.push(Diagnostic { severity: Severity::Warning, what });
    }
    Ok(diagnostics)
}

/// Lists the problems of the images of joint training, errors first. All images must exist and have `size` (height, width);
/// `samples` of them, evenly spread, are decoded.
pub fn check_images(images: &ImageList, size: Option<[usize; 2]>, samples: usize) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let missing: Vec<String> =
        (0..images.len()).map(|i| images.path(i)).filter(|p| !p.is_file()).map(|p| p.display().to_string()).collect();
    if !missing.is_empty() {
        let count = count(missing.len(), images.len(), "images of the list are missing", "is missing");
        let severity = if missing.len() == images.len() { Severity::Error } else { Severity::Warning };
        diagnostics.push(Diagnostic { severity, what: format!("{count}: {}", some(missing.iter().map(String::as_str))) });
    }
    let (mut bad, mut tried) = (Vec::new(), 0);
    for path in (0..images.len()).step_by(images.len().div_ceil(samples.max(1))).map(|i| images.path(i)).filter(|p| p.is_file()) {
        tried += 1;
        match read_image(&path) {
            Err(e) => bad.push(e.to_string()),
            Ok(image) if size.is_some_and(|size| [image.height(), image.width()] != size) => {
                bad.push(format!("{} is {} × {}", path.display(), image.height(), image.width()));
            }
            Ok(_) => {}
        }
    }
    if !bad.is_empty() {
        let wanted = size.map_or_else(String::new, |[h, w]| format!(" or not {h} × {w} (height × width), as training has it"));
        let what = format!(
            "{} of {tried} images that were tried are unreadable{wanted}: {}",
            bad.len(),
            some(bad.iter().map(String::as_str))
        );
        diagnostics.push(Diagnostic { severity: if bad.len() == tried { Severity::Error } else { Severity::Warning }, what });
    }
    sort(diagnostics)
}

/// A video that training can read.
type Usable<'a> = (&'a IndexEntry, &'a Probe);

/// Whether a video has the size of training, where the layout requires that.
fn has_size((_, video): &Usable<'_>, expected: &Expected) -> bool {
    expected.transform != Transform::None || expected.size.is_none_or(|size| size == [video.height, video.width])
}

fn unreadable(index: &Index, diagnostics: &mut Vec<Diagnostic>) {
    let bad: Vec<&IndexEntry> = index.entries.iter().filter(|entry| entry.video.is_none()).collect();
    if bad.is_empty() {
        return;
    }
    let severity = if bad.len() == index.entries.len() { Severity::Error } else { Severity::Warning };
    let said = bad.iter().map(|entry| entry.error.as_deref().unwrap_or(&entry.name));
    let count = count(bad.len(), index.entries.len(), "videos cannot be read", "cannot be read");
    diagnostics.push(Diagnostic { severity, what: format!("{count}: {}", some(said)) });
}

/// The readable videos that are long enough; reports the others.
fn usable<'a>(index: &'a Index, expected: &Expected, diagnostics: &mut Vec<Diagnostic>) -> Vec<Usable<'a>> {
    let readable: Vec<Usable<'a>> =
        index.entries.iter().filter_map(|entry| entry.video.as_ref().map(|video| (entry, video))).collect();
    let window = expected.window;
    let covered = window.num_frames.saturating_mul(window.frame_interval);
    let (least, rule) = match index.layout {
        Layout::SkyTimelapse => (window.least_frames().max(covered + 1), ", and the layout asks for more than a window covers"),
        _ => (window.least_frames(), ""),
    };
    // The rule of the layout applies to folders of frames only.
    let needs = |video: &Probe| if video.container == "frames" { least } else { window.least_frames() };
    let (long, short): (Vec<Usable<'a>>, Vec<Usable<'a>>) = readable.iter().partition(|(_, video)| video.frames >= needs(video));
    let told = |videos: &[Usable<'a>]| {
        let told: Vec<String> = videos.iter().map(|(entry, video)| format!("{} ({})", entry.name, video.frames)).collect();
        some(told.iter().map(String::as_str))
    };
    if !short.is_empty() {
        let what = format!(
            "{} for a clip of {} frames, {} apart, which needs {least}{rule}: {}",
            count(short.len(), readable.len(), "videos are too short", "is too short"),
            window.num_frames,
            window.frame_interval,
            told(&short)
        );
        diagnostics.push(Diagnostic { severity: if long.is_empty() { Severity::Error } else { Severity::Warning }, what });
    }
    let dense: Vec<Usable<'a>> = long.iter().filter(|(_, video)| video.frames < covered).copied().collect();
    if window.rule == FrameRule::Linspace && !dense.is_empty() {
        let what = format!(
            "{} than the {covered} frames of a window, and sampled more densely: {}",
            count(dense.len(), readable.len(), "videos are shorter", "is shorter"),
            told(&dense)
        );
        diagnostics.push(Diagnostic { severity: Severity::Warning, what });
    }
    long
}

fn sizes(usable: &[Usable<'_>], expected: &Expected, diagnostics: &mut Vec<Diagnostic>) {
    let mut found: BTreeMap<[usize; 2], Vec<&str>> = BTreeMap::new();
    for (entry, video) in usable {
        found.entry([video.height, video.width]).or_default().push(&entry.name);
    }
    let tell = |wrong: &[(&[usize; 2], &Vec<&str>)]| {
        let told: Vec<String> =
            wrong.iter().map(|([h, w], names)| format!("{h} × {w} ({} videos, as {})", names.len(), names[0])).collect();
        some(told.iter().map(String::as_str))
    };
    let of = |wrong: &[(&[usize; 2], &Vec<&str>)]| wrong.iter().map(|(_, names)| names.len()).sum::<usize>();
    match (expected.transform, expected.size) {
        (Transform::None, Some(size)) => {
            let wrong: Vec<_> = found.iter().filter(|(other, _)| **other != size).collect();
            if !wrong.is_empty() {
                let severity = if wrong.len() == found.len() { Severity::Error } else { Severity::Warning };
                let what = format!(
                    "{} (height × width) and are skipped, for there is no transform: {}",
                    count(
                        of(&wrong),
                        usable.len(),
                        &format!("videos are not {} × {}", size[0], size[1]),
                        &format!("is not {} × {}", size[0], size[1])
                    ),
                    tell(&wrong)
                );
                diagnostics.push(Diagnostic { severity, what });
            }
        }
        (Transform::None, None) if found.len() > 1 => {
            let all: Vec<_> = found.iter().collect();
            let what = format!("videos have {} sizes (height × width), and there is no transform: {}", found.len(), tell(&all));
            diagnostics.push(Diagnostic { severity: Severity::Warning, what });
        }
        (_, Some(size)) => {
            let small: Vec<_> = found.iter().filter(|(other, _)| other[0] < size[0] || other[1] < size[1]).collect();
            if !small.is_empty() {
                let what = format!(
                    "{} than the {} × {} of training (height × width), and enlarged: {}",
                    count(of(&small), usable.len(), "videos are smaller", "is smaller"),
                    size[0],
                    size[1],
                    tell(&small)
                );
                diagnostics.push(Diagnostic { severity: Severity::Warning, what });
            }
        }
        _ => {}
    }
}

fn classes(index: &Index, usable: &[Usable<'_>], expected: &Expected, diagnostics: &mut Vec<Diagnostic>) {
    let found = index.classes.len();
    let mut add = |severity, what| diagnostics.push(Diagnostic { severity, what });
    if let Some(wanted) = expected.num_classes.filter(|&wanted| wanted != found) {
        add(Severity::Error, format!("{found} classes, where the model has {wanted}"));
    } else if let Some(published) = index.layout.num_classes().filter(|&published| published != found) {
        add(Severity::Warning, format!("{found} classes, where the published data set has {published}"));
    }
    if found == 0 {
        return;
    }
    let outside: Vec<&str> = index.entries.iter().filter(|e| e.label.is_none()).map(|e| e.name.as_str()).collect();
    if !outside.is_empty() {
        let (many, one) = if index.layout.classes_are_folders() {
            ("videos lie in no sub-folder", "lies in no sub-folder")
        } else {
            ("videos have no label", "has no label")
        };
        let count = count(outside.len(), index.entries.len(), many, one);
        add(Severity::Warning, format!("{count}: without a class, and skipped where classes are trained: {}", some(outside)));
    }
    let mut sizes = vec![0; found];
    for label in usable.iter().filter_map(|(entry, _)| entry.label) {
        sizes[label as usize] += 1;
    }
    let named = |keep: &dyn Fn(usize) -> bool| {
        let names = index.classes.iter().zip(&sizes).filter(|(_, size)| keep(**size));
        names.map(|(name, size)| format!("{name} ({size})")).collect::<Vec<_>>()
    };
    let empty = named(&|size| size == 0);
    if !empty.is_empty() {
        // Training refuses a class without videos. It notices unusable videos only when it reads them.
        let is_refused = expected.num_classes.is_some() && !index.empty_classes().is_empty();
        let severity = if is_refused { Severity::Error } else { Severity::Warning };
        let what = format!(
            "{} and cannot be trained: {}",
            count(empty.len(), found, "classes have no usable video", "has no usable video"),
            some(empty.iter().map(String::as_str))
        );
        add(severity, what);
    }
    // Fewer than a tenth of an even share is probably a mistake.
    let few = usable.len() / found / 10;
    let rare = named(&|size| size > 0 && size <= few);
    if !rare.is_empty() {
        let what = format!(
            "{}, less than a tenth of an even share: {}",
            count(rare.len(), found, "classes have few videos", "has few videos"),
            some(rare.iter().map(String::as_str))
        );
        add(Severity::Warning, what);
    }
}

fn duplicates(index: &Index, diagnostics: &mut Vec<Diagnostic>) {
    // Grouped by location: a manifest may list one video with several captions.
    let mut by_hash: BTreeMap<&str, BTreeMap<MediaLocation, &str>> = BTreeMap::new();
    for entry in &index.entries {
        if let Some(hash) = &entry.hash {
            by_hash.entry(hash).or_default().entry(entry.place_in(Path::new(""))).or_insert(&entry.name);
        }
    }
    let groups = by_hash.values().filter(|places| places.len() > 1);
    let mut groups: Vec<String> = groups.map(|places| places.values().copied().collect::<Vec<_>>().join(" = ")).collect();
    groups.sort();
    if !groups.is_empty() {
        let what = format!("the same content {} times over: {}", groups.len(), some(groups.iter().map(String::as_str)));
        diagnostics.push(Diagnostic { severity: Severity::Warning, what });
    }
}

fn rates(usable: &[Usable<'_>], diagnostics: &mut Vec<Diagnostic>) {
    // In hundredths of a frame per second, so that rounding in containers makes no difference.
    let mut rates: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, video) in usable {
        *rates.entry((video.fps * 100.0).round() as u64).or_default() += 1;
    }
    if rates.len() > 1 {
        let told: Vec<String> = rates.iter().map(|(rate, n)| format!("{} ({n} videos)", *rate as f64 / 100.0)).collect();
        let what = format!(
            "videos have {} frame rates, and clips count frames, not seconds: {}",
            rates.len(),
            some(told.iter().map(String::as_str))
        );
        diagnostics.push(Diagnostic { severity: Severity::Warning, what });
    }
    let uneven: Vec<&str> = usable.iter().filter(|(_, v)| v.variable_frame_rate).map(|(e, _)| e.name.as_str()).collect();
    if !uneven.is_empty() {
        let count = count(uneven.len(), usable.len(), "videos have a variable frame rate", "has a variable frame rate");
        diagnostics.push(Diagnostic { severity: Severity::Warning, what: format!("{count}: {}", some(uneven)) });
    }
}

/// `3 of 20 videos are …`, `1 of 20 is …`.
fn count(part: usize, all: usize, many: &str, one: &str) -> String {
    format!("{part} of {all} {}", if part == 1 { one } else { many })
}

/// The first five items, and the number of the others.
fn some<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = items.into_iter().collect();
    let shown = all.iter().take(5).copied().collect::<Vec<_>>().join("; ");
    if all.len() > 5 { format!("{shown}; and {} more", all.len() - 5) } else { shown }
}

fn sort(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
    diagnostics
}
