//! Extracts features from clips, once, in groups that are cached in files and divided among processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use latte_progress::{Progress, Stage};
use latte_video::Clip;
use latte_video::dataset::WorkShard;

use crate::clips::ClipList;
use crate::detector::{Clips, Detector, FeatureLayer, Kind, Preparation};
use crate::features::{FeatureOrigin, FeatureSet, read, write};
use crate::metric::Features;
use crate::{Error, Result};

/// Approximate number of frames of a group, which are in memory at a time.
const GROUP_FRAMES: usize = 256;

/// A cache of features: each set of features has a folder named by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The folder.
    pub folder: PathBuf,
    /// The part of the work for this process.
    pub shard: WorkShard,
}

/// The outputs of a detector that are cached: those that scores are computed from. The others would double the size.
pub fn kept_layers(detector: &dyn Detector) -> Vec<FeatureLayer> {
    const LEFT_OUT: [&str; 4] = ["logits", "768", "192", "64"];
    let is_inception = detector.identity().kind == Kind::InceptionFid.name();
    detector.feature_layers().iter().filter(|layer| !(is_inception && LEFT_OUT.contains(&layer.name))).copied().collect()
}

/// The result of an extraction.
#[derive(Debug)]
pub enum Extraction {
    /// All features.
    Whole(Box<FeatureSet>),
    /// This process has finished its part; other processes have not.
    Part {
        /// Number of groups that are missing.
        missing: usize,
        /// The folder of the cached groups.
        folder: PathBuf,
    },
}

/// Extracts features of all `clips` at the outputs `layers`. With a cache, groups in the cache are reused, and only the part of
/// this process is computed. Groups depend on the list of clips only and are joined in its order, so the features, and every score,
/// do not depend on the number of processes or their order.
///
/// # Errors
///
/// If clips are too short for the detector, no clip can be read, or the disk fails. Cached groups stay valid.
pub fn extract(
    clips: &dyn ClipList,
    detector: &dyn Detector,
    preparation: Preparation,
    layers: &[FeatureLayer],
    cache: Option<&Cache>,
    progress: &mut dyn Progress,
) -> Result<Extraction> {
    let origin = FeatureOrigin { detector: detector.identity().clone(), preparation, set: clips.report().clone() };
    let (frames, least) = (origin.set.frames, detector.min_frames());
    if frames < least {
        let what = format!("has {frames} frames, and {} needs at least {least}; take clips of more frames", origin.detector.kind);
        return Err(Error::refused(format!("a clip of {}", origin.set.path.display()), what));
    }
    let size = GROUP_FRAMES.div_ceil(frames);
    let groups = clips.len().div_ceil(size);
    let range = |group: usize| group * size..((group + 1) * size).min(clips.len());
    let folder = cache.map(|cache| cache.folder.join(origin.key()));
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).map_err(|e| Error::File {
            path: folder.clone(),
            what: format!("features are to be kept here, and the folder cannot be made ({e}); name one that can be written to"),
        })?;
    }
    let shard = cache.map_or_else(WorkShard::default, |cache| cache.shard);
    let mut done: BTreeMap<usize, Group> = BTreeMap::new();
    let mut open = Vec::new();
    for group in 0..groups {
        match folder.as_deref().map(|folder| cached(folder, [group, groups], &origin, layers, progress)) {
            Some(Some(found)) => _ = done.insert(group, found),
            _ if shard.has(group) => open.push(group),
            _ => {}
        }
    }
    let total: usize = open.iter().map(|&group| range(group).len()).sum();
    let mut count = 0;
    let work = Work { clips, detector, layers, origin: &origin };
    // One group is decoded while the previous one is processed.
    std::thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = sync_channel(1);
        let open = &open;
        scope.spawn(move || {
            for &group in open {
                if sender.send((group, clips.read(range(group)))).is_err() {
                    return;
                }
            }
        });
        for (group, decoded) in receiver {
            let found = work.group(range(group), decoded, progress)?;
            if let Some(folder) = &folder {
                write(&file(folder, group), &found.set, found.unreadable.clone(), Some([group, groups]))?;
            }
            count += range(group).len();
            progress.stage(Stage::Features, count as u64, total as u64);
            done.insert(group, found);
        }
        Ok(())
    })?;
    match folder {
        Some(folder) if done.len() < groups => Ok(Extraction::Part { missing: groups - done.len(), folder }),
        _ => Ok(Extraction::Whole(Box::new(join(done.into_values(), &origin)?))),
    }
}

/// Joins the cached groups of one set of features from several folders, possibly of several machines.
///
/// # Errors
///
/// If groups are missing, or belong to different sets.
pub fn merge(folders: &[PathBuf]) -> Result<FeatureSet> {
    let mut done: BTreeMap<usize, Group> = BTreeMap::new();
    let mut whole: Option<(FeatureOrigin, usize)> = None;
    for folder in folders {
        let io = |source| Error::Io { path: folder.clone(), source };
        let mut paths = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
            .map_err(io)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        paths.sort();
        for path in paths {
            let (set, description) = read(&path)?;
            let wrong = |what: String| Error::File { path: path.clone(), what };
            let [number, of] =
                description.group.ok_or_else(|| wrong("is no part of a set; name folders of parts only".into()))?;
            let (origin, groups) = whole.get_or_insert_with(|| (set.origin.clone(), of));
            if set.origin.key() != origin.key() || of != *groups {
                return Err(wrong(
                    "holds features of other clips or another detector than the parts before; merge one set at a time".into(),
                ));
            }
            done.insert(number, Group { set, unreadable: description.unreadable });
        }
    }
    let Some((origin, groups)) = whole else {
        let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        return Err(Error::refused(
            names.join(", "),
            "no parts of features; expected the folders that `latte eval` keeps them in",
        ));
    };
    let missing: Vec<String> =
        (0..groups).filter(|group| !done.contains_key(group)).map(|group| (group + 1).to_string()).collect();
    if !missing.is_empty() {
        let what =
            format!("{} of {groups} parts are missing ({}); finish the other shards first", missing.len(), missing.join(", "));
        return Err(Error::refused("parts", what));
    }
    join(done.into_values(), &origin)
}

/// The features of some clips.
struct Group {
    set: FeatureSet,
    unreadable: Vec<String>,
}

fn file(folder: &Path, group: usize) -> PathBuf {
    folder.join(format!("group-{group:06}.safetensors"))
}

/// A group from the cache. A damaged one is computed again.
fn cached(
    folder: &Path,
    group: [usize; 2],
    origin: &FeatureOrigin,
    layers: &[FeatureLayer],
    progress: &mut dyn Progress,
) -> Option<Group> {
    let path = file(folder, group[0]);
    if !path.is_file() {
        return None;
    }
    match read(&path) {
        Ok((mut set, description)) => {
            let has = |layer: &FeatureLayer| set.outputs.get(layer.name).is_some_and(|features| features.width() == layer.width);
            let whole = set.names.is_empty() || layers.iter().all(has);
            // Files may have been moved between folders.
            if description.group != Some(group) || set.origin.key() != origin.key() || !whole {
                return None;
            }
            // A cached group may have outputs that are not requested now.
            set.outputs.retain(|name, _| layers.iter().any(|layer| layer.name == name));
            Some(Group { set, unreadable: description.unreadable })
        }
        Err(e) => {
            progress.warning(&format!("{e}; it is made again"));
            None
        }
    }
}

/// Joins groups in their order.
fn join(groups: impl Iterator<Item = Group>, origin: &FeatureOrigin) -> Result<FeatureSet> {
    let mut origin = origin.clone();
    let (mut names, mut brightest) = (Vec::new(), 0);
    let mut values: BTreeMap<String, (Vec<f32>, usize)> = BTreeMap::new();
    for Group { set, unreadable } in groups {
        names.extend(set.names);
        origin.set.unreadable.extend(unreadable);
        brightest = brightest.max(set.brightest);
        for (name, features) in set.outputs {
            let (all, width) = values.entry(name).or_insert_with(|| (Vec::new(), features.width()));
            if *width != features.width() {
                return Err(Error::refused("parts", "the widths of features differ between parts; make them again"));
            }
            all.extend_from_slice(features.values());
        }
    }
    let subject = origin.set.path.display().to_string();
    if names.is_empty() {
        let first = origin.set.unreadable.first().cloned().unwrap_or_default();
        return Err(Error::refused(subject, format!("none of its clips can be read; the first one: {first}")));
    }
    if let Some((name, (values, width))) = values.iter().find(|(_, (values, width))| values.len() != names.len() * width) {
        let what = format!(
            "there are {} rows of the output `{name}` for {} clips: some parts lack it; make them again",
            values.len() / width,
            names.len()
        );
        return Err(Error::refused("parts", what));
    }
    origin.set.clips = names.len();
    let outputs = values
        .into_iter()
        .map(|(name, (values, width))| Ok((name, Features::new(values, width, &subject)?)))
        .collect::<Result<_>>()?;
    Ok(FeatureSet { origin, names, outputs, brightest })
}

struct Work<'a> {
    clips: &'a dyn ClipList,
    detector: &'a dyn Detector,
    layers: &'a [FeatureLayer],
    origin: &'a FeatureOrigin,
}

impl Work<'_> {
    /// The features of the clips `range`, decoded.
    fn group(
        &self,
        range: std::ops::Range<usize>,
        decoded: Vec<std::result::Result<Clip, String>>,
        progress: &mut dyn Progress,
    ) -> Result<Group> {
        let (mut names, mut pixels, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        let [height, width] = self.origin.set.frame_size.unwrap_or_default();
        let frames = self.origin.set.frames;
        for (index, clip) in range.zip(decoded) {
            let name = self.clips.name(index);
            match clip {
                Ok(clip) if clip.shape() == [frames, height, width, 3] => {
                    names.push(name);
                    pixels.extend(clip.into_pixels());
                }
                Ok(clip) => unreadable.push(format!(
                    "{name}: its frames are {:?}, expected {:?}",
                    clip.shape(),
                    [frames, height, width, 3]
                )),
                Err(why) => unreadable.push(why),
            }
        }
        for why in &unreadable {
            progress.warning(why);
        }
        let mut outputs = BTreeMap::new();
        if !names.is_empty() {
            let clips = Clips { pixels: &pixels, shape: [names.len(), frames, height, width] };
            for (layer, tensor) in self.layers.iter().zip(self.detector.features(clips, self.layers)?) {
                let values = tensor.flatten_all()?.to_vec1()?;
                outputs.insert(layer.name.to_string(), self.rows(values, layer, &names)?);
            }
        }
        let brightest = pixels.iter().copied().max().unwrap_or_default();
        Ok(Group { set: FeatureSet { origin: self.origin.clone(), names, outputs, brightest }, unreadable })
    }

    /// The detector's output for the clips `names`. The error for a value that is not finite names the clip.
    fn rows(&self, values: Vec<f32>, layer: &FeatureLayer, names: &[String]) -> Result<Features> {
        let subject = self.origin.set.path.display().to_string();
        if let Some(at) = values.iter().position(|value| !value.is_finite())
            && let Some(clip) = names.get(at / layer.width)
        {
            let FeatureLayer { name, width } = layer;
            let kind = &self.origin.detector.kind;
            let what = format!(
                "value {} of the output `{name}` of {kind} for the clip {clip} is {}, no finite number; look at the detector's weights",
                at % width,
                values[at]
            );
            return Err(Error::refused(subject, what));
        }
        Features::new(values, layer.width, &subject)
    }
}
