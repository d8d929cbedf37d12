//! A latent cache, mapped into memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use latte_model::weights::{TensorSource, WeightFiles};

use super::manifest::{Manifest, MomentDtype};
use super::shard::tensor_name;
use crate::error::{Error, Result};

/// A finished latent cache. Its files are memory-mapped: the system keeps pages that are read often in memory while there is room.
#[derive(Debug)]
pub struct LatentCache {
    folder: PathBuf,
    manifest: Manifest,
    /// `[m, h, w]` of a frame.
    frame_shape: [usize; 3],
    files: Vec<WeightFiles>,
    /// The file of each video; `None` for videos that could not be read.
    places: Vec<Option<usize>>,
}

impl LatentCache {
    /// Opens the cache in `folder`. Reads the manifest and the headers of all files.
    ///
    /// # Errors
    ///
    /// If it is not finished, a file is missing or damaged, or a file does not match the manifest.
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

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The moments of the frames `indices` of video number `video` (its index in the manifest), mirrored or not: `[f, m, h, w]`.
    ///
    /// # Errors
    ///
    /// A sentence that names the video and says why its moments cannot be read.
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
                MomentDtype::F16 => {
                    let (words, _) = bytes.as_chunks::<2>();
                    moments.extend(words.iter().map(|&word| widened(u16::from_le_bytes(word))));
                }
            }
        }
        Ok(moments)
    }
}

/// Converts a 16-bit float with 5 bits of exponent to f32. It has no branch, so the compiler can vectorize it.
fn widened(half: u16) -> f32 {
    /// 2¹¹², the difference of the two exponent biases: the product is exact.
    const REBIAS: f32 = f32::from_bits(0x7780_0000);
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    let finite = (f32::from_bits(rest) * REBIAS).to_bits();
    let magnitude = if half & 0x7c00 == 0x7c00 { rest | 0x7f80_0000 } else { finite };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn every_16_bit_float_is_widened_exactly() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let wide = Tensor::from_raw_buffer(&all, DType::F16, &[1 << 16], &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        for (half, expected) in (0..=u16::MAX).zip(wide.to_vec1::<f32>().unwrap()) {
            let value = widened(half);
            assert!(
                value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan(),
                "{half:#x}: {value} {expected}"
            );
        }
    }
}
