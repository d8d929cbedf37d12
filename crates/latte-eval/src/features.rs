//! Features of a set of clips: their values, their origin, and the file that stores them.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use latte_ops::Parameters;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clips::SetReport;
use crate::detector::{Identity, Preparation};
use crate::metric::Features;
use crate::{Error, Result};

/// The identifier of the format in the description of a file of features.
pub(crate) const FORMAT: &str = "latte-features";

/// Everything that determines features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureOrigin {
    /// The network and its weights.
    pub detector: Identity,
    /// How pixels were prepared for the detector.
    pub preparation: Preparation,
    /// The clips.
    pub set: SetReport,
}

impl FeatureOrigin {
    /// A hash of the clips' contents, the detector and the preparation: independent of where the clips lie and of other files
    /// beside them. 32 hexadecimal digits.
    pub fn key(&self) -> String {
        let Identity { kind, weights, batch_norm_eps, source: _ } = &self.detector;
        let SetReport { frames, stride, selection, frame_size, decoder, content, .. } = &self.set;
        let framing = selection.and_then(|selection| selection.framing);
        let decisive = (kind, weights, batch_norm_eps, self.preparation, frames, stride, framing, frame_size, decoder, content);
        // Serialising numbers and texts to JSON cannot fail.
        let text = serde_json::to_string(&decisive).unwrap_or_default();
        latte_weights::hexadecimal(&Sha256::digest(format!("{FORMAT} 2\n{text}")))[..32].to_string()
    }
}

/// Features of clips at one or more outputs of a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    /// What the features were computed from.
    pub origin: FeatureOrigin,
    /// The names of the clips, in the order of the rows.
    pub names: Vec<String>,
    /// The features of each output, one row per clip.
    pub outputs: BTreeMap<String, Features>,
    /// The maximum of all pixels.
    pub brightest: u8,
}

/// The metadata of a file of features.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) format: String,
    pub(crate) origin: FeatureOrigin,
    /// Index of this group, and number of groups; absent in a file of a whole set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<[usize; 2]>,
    pub(crate) names: Vec<String>,
    /// Clips that could not be read, with the reasons.
    pub(crate) unreadable: Vec<String>,
    pub(crate) brightest: u8,
}

impl FeatureSet {
    /// The features of one output.
    ///
    /// # Errors
    ///
    /// If the set has no such output.
    pub fn output(&self, name: &str) -> Result<&Features> {
        self.outputs.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.outputs.keys().map(String::as_str).collect();
            let what = format!("there are none of the output `{name}`; there are of {}", known.join(", "));
            Error::refused(format!("features of {}", self.origin.set.path.display()), what)
        })
    }

    /// Writes everything into one safetensors file: a tensor `[n, d]` for each output, and the origin in the header.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write(path, self, Vec::new(), None)
    }

    /// Reads a file that [`FeatureSet::save`] wrote.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is damaged, or holds something else.
    pub fn load(path: &Path) -> Result<Self> {
        let (set, description) = read(path)?;
        if let Some([number, of]) = description.group {
            let what = format!("holds part {} of {of}; put all parts together first: latte eval merge", number + 1);
            return Err(Error::File { path: path.to_path_buf(), what });
        }
        let (rows, clips) = (set.names.len(), set.origin.set.clips);
        if rows != clips {
            return Err(wrong(path, format!("says that it is of {clips} clips and has {rows}; make the file again")));
        }
        Ok(set)
    }
}

/// Writes a set or a group of it.
pub(crate) fn write(path: &Path, set: &FeatureSet, unreadable: Vec<String>, group: Option<[usize; 2]>) -> Result<()> {
    let description = Description {
        format: FORMAT.into(),
        origin: set.origin.clone(),
        group,
        names: set.names.clone(),
        unreadable,
        brightest: set.brightest,
    };
    let tensor = |(name, features): (&String, &Features)| -> Result<(String, Tensor)> {
        Ok((name.clone(), Tensor::from_slice(features.values(), (features.len(), features.width()), &Device::Cpu)?))
    };
    let tensors = set.outputs.iter().map(tensor).collect::<Result<Parameters>>()?;
    let description = serde_json::to_value(description).map_err(|e| wrong(path, e.to_string()))?;
    Ok(latte_weights::save(path, &tensors, Some(&description))?)
}

/// Reads a set or a group of it. A group in which no clip could be read has no outputs.
pub(crate) fn read(path: &Path) -> Result<(FeatureSet, Description)> {
    let (tensors, description) = latte_weights::load(path)?;
    let description = description.ok_or_else(|| wrong(path, "holds no features of this program; its header does not say so"))?;
    let description: Description = serde_json::from_value(description)
        .map_err(|e| wrong(path, format!("holds no features of this program: {e}; make them again")))?;
    if description.format != FORMAT {
        return Err(wrong(path, format!("holds `{}`, expected `{FORMAT}`; make it again with this version", description.format)));
    }
    let mut outputs = BTreeMap::new();
    for (name, tensor) in tensors.iter() {
        let [rows, width] = *tensor.dims() else {
            return Err(wrong(path, format!("`{name}` is no matrix; make the file again")));
        };
        if rows != description.names.len() {
            let what = format!("`{name}` has {rows} rows for {} clips; make the file again", description.names.len());
            return Err(wrong(path, what));
        }
        let values = tensor.to_host()?.flatten_all()?.to_vec1()?;
        outputs.insert(name.to_string(), Features::new(values, width, &path.display().to_string())?);
    }
    if outputs.is_empty() && !description.names.is_empty() {
        return Err(wrong(path, "names clips but holds no features of them; make the file again"));
    }
    let Description { origin, names, brightest, .. } = &description;
    Ok((FeatureSet { origin: origin.clone(), names: names.clone(), outputs, brightest: *brightest }, description))
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::File { path: path.to_path_buf(), what: what.into() }
}

#[cfg(test)]
pub(crate) mod tests {
    use latte_video::Transform;

    use super::*;
    use crate::clips::ClipSelection;
    use crate::detector::ValueMap;
    use crate::protocol::{Framing, Protocol, Task};
    use crate::resize::Resize;

    pub(crate) fn origin(clips: usize) -> FeatureOrigin {
        let set = SetReport {
            path: "a/b".into(),
            videos: clips,
            passed_over: None,
            too_short: 0,
            unreadable: Vec::new(),
            clips,
            frames: 16,
            stride: Some(1),
            selection: None,
            frame_size: Some([8, 8]),
            decoder: None,
            content: "abc".into(),
        };
        let detector = Identity { kind: "test".into(), source: "nowhere".into(), weights: "seed 1".into(), batch_norm_eps: None };
        FeatureOrigin {
            detector,
            preparation: Preparation { resize: Resize::HalfPixelBilinear, values: ValueMap::MinusOneToOne },
            set,
        }
    }

    pub(crate) fn set(rows: usize) -> FeatureSet {
        let values = |width: usize| Features::new((0..rows * width).map(|i| i as f32 * 0.5).collect(), width, "x").unwrap();
        FeatureSet {
            origin: origin(rows),
            names: (0..rows).map(|i| format!("clip {i}")).collect(),
            outputs: BTreeMap::from([("logits".to_string(), values(3)), ("pool".to_string(), values(5))]),
            brightest: 200,
        }
    }

    #[test]
    fn a_written_file_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        set(4).save(&path).unwrap();
        assert_eq!(FeatureSet::load(&path).unwrap(), set(4));
        let said = set(4).output("2048").unwrap_err().to_string();
        assert!(said.contains("logits, pool"), "{said}");
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        let said = |path: &Path| FeatureSet::load(path).unwrap_err().to_string();
        set(4).save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 9, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(said(&path).contains("f.safetensors"), "{len}");
        }
        // Values that are not finite.
        let mut broken = bytes.clone();
        let end = broken.len();
        broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, &broken).unwrap();
        assert!(said(&path).contains("NaN"));
        // A number of rows that differs from the number of names; a group instead of a set; another format.
        let mut fewer = set(4);
        fewer.names.pop();
        fewer.save(&path).unwrap();
        assert!(said(&path).contains("4 rows for 3 clips"));
        write(&path, &set(4), Vec::new(), Some([1, 5])).unwrap();
        assert!(said(&path).contains("part 2 of 5"));
        let tensors: Parameters = [("x".to_string(), Tensor::new(&[[1_f32]], &Device::Cpu).unwrap())].into_iter().collect();
        latte_weights::save(&path, &tensors, None).unwrap();
        assert!(said(&path).contains("no features"));
        latte_weights::save(&path, &tensors, Some(&serde_json::json!({"format": "latte"}))).unwrap();
        assert!(said(&path).contains("no features"));
    }

    #[test]
    fn the_key_depends_on_content_and_not_on_location() {
        let elsewhere = |change: fn(&mut FeatureOrigin)| {
            let mut other = origin(4);
            change(&mut other);
            other.key() == origin(4).key()
        };
        assert!(elsewhere(|o| o.set.path = "c".into()));
        assert!(elsewhere(|o| o.detector.source = "a copy".into()));
        // Other files beside the clips do not matter, and messages contain paths.
        assert!(elsewhere(|o| (o.set.videos, o.set.too_short, o.set.unreadable) = (9, 2, vec!["/a/b.mp4: cut off".into()])));
        assert!(!elsewhere(|o| o.set.content = "abd".into()));
        assert!(!elsewhere(|o| o.set.stride = Some(2)));
        assert!(!elsewhere(|o| o.set.frames = 9));
        assert!(!elsewhere(|o| o.set.frame_size = Some([8, 9])));
        assert!(!elsewhere(|o| o.set.decoder = Some("another".into())));
        assert!(!elsewhere(|o| o.detector.kind = "tset".into()));
        assert!(!elsewhere(|o| o.detector.weights = "seed 2".into()));
        assert!(!elsewhere(|o| o.detector.batch_norm_eps = Some(1e-5)));
        assert!(!elsewhere(|o| o.preparation.resize = Resize::TfBilinear));
        assert!(!elsewhere(|o| o.preparation.values = ValueMap::ZeroToOne));
        // One size, reached in two ways.
        let framed = |transform| {
            let mut origin = origin(4);
            let protocol = Protocol::named("latte", Task::Fvd, Some(1)).unwrap();
            let protocol = protocol.changed(|p| p.framing = Some(Framing { size: [8, 8], transform }));
            origin.set.selection = Some(ClipSelection::by(&protocol, &protocol.fake));
            origin.key()
        };
        assert_ne!(framed(Transform::CropResize.into()), framed(Transform::ResizeCrop.into()));
    }
}
