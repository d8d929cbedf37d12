//! TensorFlow's file of I3D's variables, `….data-00000-of-00001`: consecutive values in the order of the variables' names. The
//! index file is not needed, because names and shapes are those of the network.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use latte_weights::{Result, TensorSource, mixed_up, refuse};

use super::super::i3d;
use crate::Error;

/// Prefix of the names.
const PREFIX: &str = "RGB/inception_i3d/";
/// The first bytes of other kinds of weights files, or the bytes after the header length.
const OTHERS: [&[u8]; 2] = [b"PK", b"\x80"];

/// The variables of I3D.
pub(super) struct TensorFlowData {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
    /// Offset in bytes and shape of each variable.
    variables: BTreeMap<String, (usize, Vec<usize>)>,
}

impl TensorFlowData {
    /// Reads a file that has the size of I3D's variables or a name like TensorFlow's files; `None` for another file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or has such a name but another size.
    pub(super) fn open(path: &Path) -> crate::Result<Option<Self>> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        if path.is_dir() {
            return Ok(None);
        }
        let (variables, expected) = layout();
        let len = std::fs::metadata(path).map_err(io)?.len();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".data-0"));
        if len != expected as u64 {
            if named {
                // Only the start is read: the file may be anything.
                let mut begin = Vec::new();
                std::fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut begin)).map_err(io)?;
                if let Some(what) = mixed_up(&begin) {
                    return Err(Error::File { path: path.to_path_buf(), what: what.into() });
                }
                let what =
                    format!("has {len} bytes; the variables of I3D, the only file of TensorFlow that is read, have {expected}");
                return Err(Error::File { path: path.to_path_buf(), what });
            }
            return Ok(None);
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let other = OTHERS.iter().any(|begin| bytes.starts_with(begin)) || bytes.get(8) == Some(&b'{');
        Ok((named || !other).then(|| Self { path: path.to_path_buf(), bytes, variables }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The offset of each variable, and the total number of bytes.
fn layout() -> (BTreeMap<String, (usize, Vec<usize>)>, usize) {
    let mut shapes = BTreeMap::new();
    let weight = |[input, output]: [usize; 2], kernel: &[usize]| [kernel, &[input, output]].concat();
    for unit in i3d::units(i3d::Naming::TensorFlow) {
        shapes.insert(format!("{PREFIX}{}/w", unit.convolution), weight(unit.channels, &unit.kernel));
        for part in ["beta", "moving_mean", "moving_variance"] {
            shapes.insert(format!("{PREFIX}{}/{part}", unit.norm), vec![unit.channels[1]]);
        }
    }
    let logits = i3d::logits(i3d::Naming::TensorFlow);
    shapes.insert(format!("{PREFIX}{logits}/w"), weight([1024, 400], &[1; 3]));
    shapes.insert(format!("{PREFIX}{logits}/b"), vec![400]);
    let mut end = 0;
    let mut place = |shape: Vec<usize>| {
        let start = end;
        end += shape.iter().product::<usize>() * size_of::<f32>();
        (start, shape)
    };
    // A map sorts names by their bytes, as the file does.
    let variables = shapes.into_iter().map(|(name, shape)| (name, place(shape))).collect();
    (variables, end)
}

impl fmt::Debug for TensorFlowData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorFlowData").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TensorSource for TensorFlowData {
    fn names(&self) -> Vec<String> {
        self.variables.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.variables.get(name).map(|(_, shape)| shape.clone())
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some((start, shape)) = self.variables.get(name) else {
            return Err(refuse(&self.path, format!("there is no tensor `{name}` in it")));
        };
        let len = shape.iter().product::<usize>() * size_of::<f32>();
        let tensor = Tensor::from_raw_buffer(&self.bytes[*start..start + len], DType::F32, shape, &Device::Cpu)?;
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_have_the_size_of_the_published_file() {
        let (variables, bytes) = layout();
        assert_eq!((variables.len(), bytes), (230, 50_818_176));
        // Capital letters sort before small ones, and `/` before both.
        let first: Vec<&str> = variables.keys().take(2).map(String::as_str).collect();
        assert_eq!(
            first,
            ["RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta", "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/moving_mean"]
        );
        assert!(variables.contains_key("RGB/inception_i3d/Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w"));
    }
}
