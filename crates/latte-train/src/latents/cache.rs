//! A latent cache, mapped into memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use latte::weights::{TensorSource, WeightFiles};

use super::manifest::{Manifest, MomentDtype};
use super::shard::tensor_name;
use crate::error::{Error, Result};

/// A finished latent cache. Its files are mapped, so that what is read often stays in memory as far as there is room, and what
/// is not needed costs none.
#[derive(Debug)]
pub struct LatentCache {
    folder: PathBuf,
    manifest: Manifest,
    /// `[m, h, w]` of a frame.
    frame_shape: [usize; 3],
    files: Vec<WeightFiles>,
    /// For each video, its file; `None` for those that could not be read.
    places: Vec<Option<usize>>,
}

impl LatentCache {
    /// Opens the cache in `folder`. Reads the manifest and the headers of all files.
    ///
    /// # Errors
    ///
    /// If it is not finished, a file is missing or damaged, or is not what the manifest says.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let frame_shape = manifest.header.frame_shape()?;
        let (mut files, mut numbers) = (Vec::new(), BTreeMap::new());
        let mut places = Vec::with_capacity(manifest.videos.len());
        for (video, record) in manifest.videos.iter().enumerate() {
            let (Some(name), Some(probe)) = (&record.file, &record.video) else {
                places.push(None);
                continue;
            };
            let path = folder.join(name);
            let file = match numbers.get(name) {
                Some(&file) => file,
                None => {
                    files.push(WeightFiles::open(&path)?);
                    numbers.insert(name, files.len() - 1);
                    files.len() - 1
                }
            };
            for flip in [false, true].into_iter().filter(|&flip| !flip || manifest.header.flips) {
                let name = tensor_name(video, flip);
                let expected = [&[probe.frames], frame_shape.as_slice()].concat();
                if files[file].shape(&name).as_ref() != Some(&expected)
                    || files[file].dtype(&name) != Some(manifest.header.dtype.stored())
                {
                    let what = format!("has no tensor `{name}` of shape {expected:?}, as the manifest says; encode again");
                    return Err(Error::data(path, what));
                }
            }
            places.push(Some(file));
        }
        Ok(Self { folder: folder.to_path_buf(), manifest, frame_shape, files, places })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The moments of the frames `indices` of video number `video` (its place in the manifest), mirrored or not: `[f, m, h, w]`.
    ///
    /// # Errors
    ///
    /// A sentence that names the video and says why it gives none.
    ///
    /// # Panics
    ///
    /// If there is no such video.
    pub fn moments(&self, video: usize, indices: &[usize], flip: bool) -> std::result::Result<Vec<f32>, String> {
        let record = &self.manifest.videos[video];
        let Some(file) = self.places[video] else {
            let why = record.error.as_deref().unwrap_or("it could not be read");
            return Err(format!("{} has no latents in {}: {why}", record.name, self.folder.display()));
        };
        let raw = self.files[file].raw(&tensor_name(video, flip)).map_err(|e| e.to_string())?;
        let dtype = self.manifest.header.dtype;
        let frame_values: usize = self.frame_shape.iter().product();
        let frame_bytes = frame_values * dtype.size();
        let mut moments = Vec::with_capacity(indices.len() * frame_values);
        for &index in indices {
            let bytes = index.checked_mul(frame_bytes).and_then(|start| raw.bytes.get(start..start + frame_bytes));
            let Some(bytes) = bytes else {
                let frames = raw.bytes.len() / frame_bytes;
                return Err(format!("{}: frame {index} was asked for, but the video has {frames} frames", record.name));
            };
            match dtype {
                MomentDtype::F32 => {
                    let (words, _) = bytes.as_chunks::<4>();
                    moments.extend(words.iter().map(|&word| f32::from_le_bytes(word)));
                }
                MomentDtype::F16 => moments.extend(widened(bytes, frame_values).map_err(|e| e.to_string())?),
            }
        }
        Ok(moments)
    }
}

/// Values of 16 bits as f32.
fn widened(bytes: &[u8], count: usize) -> candle_core::Result<Vec<f32>> {
    Tensor::from_raw_buffer(bytes, DType::F16, &[count], &Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
}
