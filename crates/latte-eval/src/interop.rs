//! Reads files of features and statistics of this program and of others.

use std::path::Path;

use latte_weights::{RawTensor, StoredDtype, WeightFiles};

use crate::clips::SetReport;
use crate::features::FeatureSet;
use crate::metric::{Features, Moments};
use crate::request::SetFeatures;
use crate::{Error, Result};

/// Extensions of files with features or statistics.
const ENDINGS: [&str; 2] = ["npz", "safetensors"];

/// Whether a path has the extension of a file of features or statistics.
pub fn is_feature_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Reads a file of features of this program, or one with `mu` and `sigma` in the format of pytorch-fid.
///
/// # Errors
///
/// If the file cannot be read, is damaged, or has neither.
pub fn open_features(path: &Path) -> Result<SetFeatures> {
    let files = WeightFiles::open(path)?;
    if files.dtype("mu").is_some() && files.dtype("sigma").is_some() {
        let (mean, covariance) = (values(&files, "mu")?, values(&files, "sigma")?);
        let moments = Moments::from_covariance(mean, covariance, &path.display().to_string())?;
        let report = SetReport {
            path: path.to_path_buf(),
            videos: 0,
            passed_over: None,
            too_short: 0,
            unreadable: Vec::new(),
            clips: 0,
            frames: 0,
            stride: None,
            selection: None,
            frame_size: None,
            decoder: None,
            content: String::new(),
        };
        return Ok(SetFeatures::Moments(Box::new(moments), Box::new(report)));
    }
    Ok(SetFeatures::Each(Box::new(FeatureSet::load(path)?)))
}

/// Reads a matrix of features from any file: the tensor `name`, or the only matrix in the file.
///
/// # Errors
///
/// If there is no such matrix, or several and no `name`, or values are not finite.
pub fn open_matrix(path: &Path, name: Option<&str>) -> Result<Features> {
    let files = WeightFiles::open(path)?;
    let wrong = |what: String| Error::File { path: path.to_path_buf(), what };
    let names = latte_weights::TensorSource::names(&files);
    let name = match (name, &names[..]) {
        (Some(name), _) if names.iter().any(|known| known == name) => name,
        (None, [only]) => only,
        (Some(name), _) => return Err(wrong(format!("holds no `{name}`; it holds {}", names.join(", ")))),
        (None, _) => return Err(wrong(format!("holds {}; say which of them to read", names.join(", ")))),
    };
    let raw = files.raw(name)?;
    let [_, width] = raw.shape[..] else {
        return Err(wrong(format!("`{name}` has shape {:?}; features are a matrix with a row for each clip", raw.shape)));
    };
    Features::new(values(&files, name)?.into_iter().map(|v| v as f32).collect(), width, &path.display().to_string())
}

/// All values of a tensor as f64.
fn values(files: &WeightFiles, name: &str) -> Result<Vec<f64>> {
    let RawTensor { dtype, bytes, .. } = files.raw(name)?;
    match dtype {
        StoredDtype::F64 => Ok(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        StoredDtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()),
        other => {
            let what = format!("`{name}` holds {other}; expected floats of 32 or 64 bits");
            Err(Error::File { path: files.path().to_path_buf(), what })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use latte_weights::{FileKind, write_weights};

    use super::*;

    fn write(path: &Path, tensors: &[(&str, &[usize], &[f64])]) {
        let read = |name: &str| {
            let (_, shape, values) = tensors.iter().find(|(known, ..)| *known == name).unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(RawTensor { dtype: StoredDtype::F64, shape: shape.to_vec(), bytes: bytes.into() })
        };
        let names: Vec<&str> = tensors.iter().map(|(name, ..)| *name).collect();
        write_weights(path, &FileKind::Safetensors { metadata: BTreeMap::new() }, &names, &read).unwrap();
    }

    /// An archive of arrays in the format of numpy's `savez`.
    fn npz(arrays: &[(&str, &str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, header, bytes) in arrays {
            let header = format!("{{{header}, }}\n");
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            let begin = [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes()].concat();
            std::io::Write::write_all(&mut zip, &[&begin, *bytes].concat()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn files_of_pytorch_fid_are_read_in_either_precision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        let (mean, sigma) = ([1.5, -2.0], [4.0, 1.0, 1.0, 9.0]);
        let wide = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let narrow = |values: &[f64]| values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect::<Vec<u8>>();
        let header = |dtype: &str, shape: &str| format!("'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}");
        for (dtype, bytes) in [("<f8", [wide(&mean), wide(&sigma)]), ("<f4", [narrow(&mean), narrow(&sigma)])] {
            let headers = [header(dtype, "(2,)"), header(dtype, "(2, 2)")];
            std::fs::write(&path, npz(&[("mu", &headers[0], &bytes[0]), ("sigma", &headers[1], &bytes[1])])).unwrap();
            let SetFeatures::Moments(moments, report) = open_features(&path).unwrap() else { panic!("statistics") };
            assert_eq!((moments.mean(), report.clips), (&mean[..], 0));
            assert_eq!(moments.covariance(crate::metric::Covariance::Unbiased).unwrap(), sigma);
        }
        // Another width, and integers.
        let header_of = |dtype, shape| header(dtype, shape);
        let sigma = header_of("<f8", "(1, 1)");
        std::fs::write(&path, npz(&[("mu", &header_of("<f8", "(2,)"), &wide(&mean)), ("sigma", &sigma, &wide(&[1.0]))])).unwrap();
        let said = open_features(&path).unwrap_err().to_string();
        assert!(said.contains("statistics.npz") && said.contains("expected 2 × 2"), "{said}");
        let said = {
            std::fs::write(&path, npz(&[("mu", &header_of("<i8", "(1,)"), &[0; 8]), ("sigma", &sigma, &wide(&[1.0]))])).unwrap();
            open_features(&path).unwrap_err().to_string()
        };
        assert!(said.contains("statistics.npz") && said.contains("floats of 32 or 64 bits"), "{said}");
    }

    #[test]
    fn statistics_and_matrices_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.safetensors");
        write(&path, &[("mu", &[2], &[1.0, 2.0]), ("sigma", &[2, 2], &[1.0, 1e-17, 1e-17, 4.0])]);
        let SetFeatures::Moments(moments, report) = open_features(&path).unwrap() else { panic!("statistics") };
        assert_eq!((moments.mean(), moments.count(), report.clips), (&[1.0, 2.0][..], None, 0));
        assert!(open_matrix(&path, None).unwrap_err().to_string().contains("mu, sigma"));
        assert_eq!(open_matrix(&path, Some("sigma")).unwrap().row(1), [1e-17, 4.0]);
        assert!(open_matrix(&path, Some("mu")).is_err() && open_matrix(&path, Some("nu")).is_err());
        write(&path, &[("mu", &[2], &[1.0, 2.0]), ("sigma", &[3], &[1.0, 0.0, 0.0])]);
        assert!(open_features(&path).is_err());
        assert!(is_feature_file(&path) && is_feature_file(Path::new("a.NPZ")) && !is_feature_file(folder.path()));
    }
}
