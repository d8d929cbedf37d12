//! The same weights through every file format and every naming scheme.

mod clip_names;
mod torch_files;

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use latte_ops::Parameters;

use super::super::layers::{NORM_PARTS, Unit};
use super::super::{Clips, i3d, inception};
use super::*;
use torch_files::{Named, legacy, torch_script};

/// Weights of a kind under our names; the weights of normalisations are 1, which files without them imply.
fn weights(kind: Kind) -> Parameters {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = golden::formula_weight(&name, &shape);
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    kind.specification().into_iter().map(tensor).collect()
}

fn named(name: String, tensor: &Tensor) -> Named {
    (name, tensor.dims().to_vec(), tensor.flatten_all().unwrap().to_vec1().unwrap())
}

/// `weights` under the names `theirs` in place of `ours`; only the parts of normalisations that have a name are kept.
fn renamed(weights: &Parameters, ours: &[Unit], theirs: &[Unit], parts: [Option<&str>; 4], last: [&str; 2]) -> Vec<Named> {
    let get = |name: &str| weights.get(name).unwrap().to_host().unwrap();
    let mut tensors = Vec::new();
    for (ours, theirs) in ours.iter().zip(theirs) {
        tensors.push(named(format!("{}.weight", theirs.convolution), &get(&format!("{}.weight", ours.convolution))));
        for (part, name) in NORM_PARTS.iter().zip(parts) {
            let tensor = get(&format!("{}.{part}", ours.norm));
            tensors.extend(name.map(|name| named(format!("{}.{name}", theirs.norm), &tensor)));
        }
    }
    for part in ["weight", "bias"] {
        tensors.push(named(format!("{}.{part}", last[1]), &get(&format!("{}.{part}", last[0]))));
    }
    tensors
}

/// Files in a temporary folder.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a file of `kind` with these tensors.
    fn written(&self, name: &str, kind: &FileKind, tensors: &[Named]) -> PathBuf {
        let path = self.0.path().join(name);
        let names: Vec<&str> = tensors.iter().map(|(name, ..)| name.as_str()).collect();
        let read = |wanted: &str| {
            let (_, shape, values) = tensors.iter().find(|(name, ..)| name == wanted).unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(RawTensor { dtype: StoredDtype::F32, shape: shape.clone(), bytes: bytes.into() })
        };
        write_weights(&path, kind, &names, &read).unwrap();
        path
    }
}

/// Checks that a file holds `weights`, bit for bit, so that every output is the same too.
fn holds(path: &Path, kind: Kind, weights: &Parameters) {
    let found = import(path, Some(kind)).unwrap();
    assert_eq!(found.tensors.names().len(), weights.len(), "{}", path.display());
    for (name, tensor) in weights.iter() {
        let [ours, expected] =
            [found.tensors.f32_tensor(name).unwrap(), tensor.to_host().unwrap()].map(|t| named(String::new(), &t));
        assert!(ours == expected, "{name} of {}", path.display());
    }
}

const TORCH: FileKind = FileKind::Torch { part: None };

fn tensor_flow(weights: &Parameters) -> Vec<u8> {
    let (ours, theirs) = (i3d::units(i3d::Naming::Plain), i3d::units(i3d::Naming::TensorFlow));
    let parts = [None, Some("beta"), Some("moving_mean"), Some("moving_variance")];
    let last = [i3d::logits(i3d::Naming::Plain), i3d::logits(i3d::Naming::TensorFlow)];
    let mut variables: Vec<Named> = renamed(weights, &ours, &theirs, parts, last)
        .into_iter()
        .map(|(name, shape, values)| {
            let (module, part) = name.rsplit_once('.').unwrap();
            let part = match part {
                "weight" => "w",
                "bias" => "b",
                other => other,
            };
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            let tensor = if part == "w" { tensor.permute([2, 3, 4, 1, 0].as_slice()).unwrap() } else { tensor };
            named(format!("RGB/inception_i3d/{module}/{part}"), &tensor)
        })
        .collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    variables.into_iter().flat_map(|(.., values)| values.into_iter().flat_map(f32::to_le_bytes)).collect()
}

#[test]
fn i3d_is_the_same_from_every_file() {
    let (folder, weights) = (Folder::new(), weights(Kind::I3d));
    let plain = i3d::units(i3d::Naming::Plain);
    let all = NORM_PARTS.map(Some);
    let logits = i3d::logits(i3d::Naming::Plain);
    let as_ours = renamed(&weights, &plain, &plain, all, [logits; 2]);
    let without_weights = renamed(&weights, &plain, &plain, [None, all[1], all[2], all[3]], [logits; 2]);
    let branches = i3d::units(i3d::Naming::Branches);
    let branches = renamed(&weights, &plain, &branches, all, [logits, i3d::logits(i3d::Naming::Branches)]);
    let wrapped: Vec<Named> = as_ours.iter().cloned().map(|(name, s, v)| (format!("module.{name}"), s, v)).collect();

    holds(&folder.file("variables.data-00000-of-00001", &tensor_flow(&weights)), Kind::I3d, &weights);
    holds(&folder.written("i3d_pretrained_400.pt", &TORCH, &as_ours), Kind::I3d, &weights);
    holds(
        &folder.written("wrapped.safetensors", &FileKind::Safetensors { metadata: BTreeMap::new() }, &wrapped),
        Kind::I3d,
        &weights,
    );
    holds(&folder.file("rgb_legacy.pt", &legacy(&without_weights)), Kind::I3d, &weights);
    holds(&folder.file("i3d_torchscript.pt", &torch_script(&branches)), Kind::I3d, &weights);
}

#[test]
fn the_average_is_found_inside_any_wrapper() {
    let (folder, weights) = (Folder::new(), weights(Kind::InceptionFid));
    let as_ours: Vec<Named> = weights.iter().map(|(name, tensor)| named(name.into(), &tensor.to_host().unwrap())).collect();
    let under = |prefix: &str, factor: f32| {
        let moved = move |values: Vec<f32>| values.into_iter().map(|v| v * factor).collect::<Vec<_>>();
        as_ours.iter().cloned().map(move |(name, s, v)| (format!("{prefix}{name}"), s, moved(v))).collect::<Vec<Named>>()
    };
    for [plain, average] in [["model.", "ema_model."], ["_orig_mod.", "state_dict.ema.module._orig_mod."]] {
        let both = [under(plain, 0.5), under(average, 1.0)].concat();
        let file = folder.written("both.pt", &TORCH, &both);
        holds(&file, Kind::InceptionFid, &weights);
        let import = import(&file, None).unwrap();
        assert!(import.note().is_some_and(|note| note.contains("averaged weights")), "{:?}", import.note());
    }
}

#[test]
fn inception_is_the_same_from_every_file() {
    let (folder, weights) = (Folder::new(), weights(Kind::InceptionFid));
    let (plain, layers) = (inception::units(inception::Naming::Plain), inception::units(inception::Naming::Layers));
    let last = [inception::Naming::Plain, inception::Naming::Layers].map(inception::output);
    let as_ours = renamed(&weights, &plain, &plain, NORM_PARTS.map(Some), [last[0]; 2]);
    let parts = [None, Some("beta"), Some("mean"), Some("var")];
    let mut layers = renamed(&weights, &plain, &layers, parts, last);
    // The last blocks of the published file have names with fewer dots.
    for (name, ..) in &mut layers {
        if let Some((block, part)) = name.split_once("tower").map(|(a, b)| (a.to_string(), b.to_string()))
            && (block.contains("mixed_9") || block.contains("mixed_10"))
        {
            let (inner, value) = part.rsplit_once('.').unwrap();
            *name = format!("{block}tower{}.{value}", inner.replace('.', "_"));
        }
    }
    assert!(layers.iter().any(|(name, ..)| name == "layers.mixed_9.tower_1_mixed_conv_1.var"));
    holds(&folder.file("pt_inception.pth", &legacy(&as_ours)), Kind::InceptionFid, &weights);
    holds(&folder.file("inception-2015-12-05.pt", &torch_script(&layers)), Kind::InceptionFid, &weights);
    holds(&folder.written("weights.pth", &TORCH, &as_ours), Kind::InceptionFid, &weights);
}

/// An archive of NumPy arrays.
fn npz(arrays: &[Named]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, shape, values) in arrays {
        let sides = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}\n");
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        let mut bytes = [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes()].concat();
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        std::io::Write::write_all(&mut zip, &bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn c3d_is_imported_from_arrays_and_needs_its_mean() {
    let folder = Folder::new();
    let (weights, mean): (Vec<Named>, Vec<Named>) = Kind::C3d
        .specification()
        .into_iter()
        .map(|(name, shape)| {
            // The first value identifies the tensor; the others do not matter.
            let first = name.len() as f32;
            let values = (0..shape.iter().product()).map(|i: usize| first + (i % 1001) as f32).collect();
            (name, shape, values)
        })
        .partition(|(name, ..)| name != "mean");
    let theirs: Vec<Named> = weights
        .iter()
        .filter(|(name, ..)| !name.starts_with("fc6"))
        .map(|(name, s, v)| (name.replace(".weight", "/W").replace(".bias", "/b"), s.clone(), v.clone()))
        .collect();
    let file = folder.file("conv3d_deepnetA_ucf.npz", &npz(&theirs));
    let failed = |mean: Option<&Path>| import_with_mean(&file, None, mean).map(|_| ()).map_err(|e| e.to_string()).unwrap_err();
    assert!(failed(None).contains("mean2.npz"));
    let wide: Vec<f32> = (0..3 * 16 * 128 * 128).map(|i| (i % 128) as f32).collect();
    let wide = folder.file("mean2.npz", &npz(&[("mean".into(), vec![3, 16, 128, 128], wide)]));
    // All names are found, in each container; missing tensors are reported.
    let message = failed(Some(&wide));
    assert!(message.contains("`fc6.bias` is missing, `fc6.weight` is missing") && !message.contains("`conv"), "{message}");
    assert!(failed(Some(&file)).contains("expected an array `mean`"));
    let (cut, mean) = (read_mean(&wide).unwrap(), &mean[0]);
    assert_eq!(cut.dims(), mean.1.as_slice());
    assert_eq!(cut.flatten_all().unwrap().to_vec1::<f32>().unwrap()[..3], [8.0, 9.0, 10.0]);
}

#[test]
fn an_imported_file_gives_the_same_features_and_identity() {
    let (folder, weights) = (Folder::new(), weights(Kind::I3d));
    let source = folder.file("variables.data-00000-of-00001", &tensor_flow(&weights));
    let imported = import(&source, None).unwrap();
    let path = folder.0.path().join("i3d.safetensors");
    imported.save(&path).unwrap();
    let (direct, opened) = (imported.build(Setup::default()).unwrap(), open(&path, Setup::default()).unwrap());
    let expected = Identity {
        kind: "i3d".into(),
        source: "variables.data-00000-of-00001".into(),
        weights: hexadecimal(&Sha256::digest(std::fs::read(&source).unwrap())),
        batch_norm_eps: Some(1e-3),
    };
    assert_eq!((direct.identity(), opened.identity()), (&expected, &expected));
    let pixels = golden::formula_pixels("loader", [1, 9, 32, 32]);
    let clips = Clips { pixels: &pixels, shape: [1, 9, 32, 32] };
    let features = [&direct, &opened].map(|d| d.features(clips, &d.feature_layers()[..1]).unwrap()[0].to_vec2::<f32>().unwrap());
    assert_eq!(features[0], features[1]);
    // With another epsilon it is another detector, and its identity shows that.
    let other = open(&path, Setup { batch_norm_eps: Some(1e-5), ..Setup::default() }).unwrap();
    assert_eq!(other.identity().batch_norm_eps, Some(1e-5));
    assert_ne!(features[0], other.features(clips, &other.feature_layers()[..1]).unwrap()[0].to_vec2::<f32>().unwrap());
    let message = |e: Error| e.to_string();
    assert!(import(&path, None).map_err(message).unwrap_err().contains("already"));
    let not_imported = open(&source, Setup::default()).map(|_| ()).map_err(message).unwrap_err();
    assert!(not_imported.contains("latte eval import"), "{not_imported}");
}

#[test]
fn a_file_without_a_detector_is_one_clear_error() {
    let folder = Folder::new();
    let failed = |path: &Path, kind: Option<Kind>| import(path, kind).map(|_| ()).map_err(|e| e.to_string()).unwrap_err();
    let some = |names: &[&str]| names.iter().map(|n| (n.to_string(), vec![2], vec![1.0, 2.0])).collect::<Vec<Named>>();
    let foreign = folder.written("foreign.pt", &TORCH, &some(&["a.weight", "b"]));
    assert!(failed(&foreign, None).contains("no detector that is known (i3d, inception_fid, c3d, clip"));
    let partial = folder.written("partial.pt", &TORCH, &some(&["Conv3d_1a_7x7.conv3d.weight", "b"]));
    let message = failed(&partial, None);
    assert!(message.contains("`Conv3d_1a_7x7.conv3d.weight` should be [64, 3, 7, 7, 7] but is [2]"), "{message}");
    assert!(message.contains("is missing") && message.contains("more") && message.lines().count() == 1, "{message}");
    assert!(failed(&partial, Some(Kind::InceptionFid)).contains("holds i3d, not inception_fid"));
    let short = folder.file("model.ckpt.data-00000-of-00001", &[0; 100]);
    assert!(failed(&short, None).contains("50818176"));
    let script = torch_script(&some(&["conv3d_1a_7x7.conv3d.weight"]));
    for len in [0, 3, 40, script.len() / 2, script.len() - 1] {
        let message = failed(&folder.file("cut.pt", &script[..len]), None);
        assert!(message.contains("cut.pt") && message.lines().count() == 1, "{message}");
    }
    assert!(failed(&folder.0.path().join("missing.pt"), None).contains("missing.pt"));
    let opened = open(&foreign, Setup::default()).map(|_| ()).map_err(|e| e.to_string()).unwrap_err();
    assert!(opened.contains("does not say which detector"), "{opened}");
    let strange = |kind: &str, eps: &str| {
        let metadata = [("kind", kind), ("bn_eps", eps)].map(|(k, v)| (k.to_string(), v.to_string())).into();
        let path = folder.written("strange.safetensors", &FileKind::Safetensors { metadata }, &some(&["a"]));
        open(&path, Setup::default()).map(|_| ()).map_err(|e| e.to_string()).unwrap_err()
    };
    assert!(strange("yolo", "0.001").contains("`yolo`; known are i3d"));
    assert!(strange("i3d", "many").contains("bn_eps"));
    assert!(strange("i3d", "0.001").contains("is missing"));
}
