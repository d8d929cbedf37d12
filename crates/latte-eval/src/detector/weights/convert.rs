//! Converts names and layouts of other programs' files to ours.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::{DType, Device, Tensor};
use latte_weights::{Result, TensorSource, refuse};

use super::super::layers::{NORM_PARTS, Unit};
use super::super::{Kind, c3d, clip, i3d, inception};

/// Tensors under our names, converted from another file on request.
pub(super) struct Converted {
    kind: Kind,
    source: Box<dyn TensorSource>,
    tensors: BTreeMap<String, Origin>,
}

/// The source of a tensor.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The tensor with this name.
    Same(String),
    /// The tensor with this name, with permuted axes.
    Permuted(String, Vec<usize>),
    /// A part of the tensor with this name: its rows are split into parts of equal size.
    Part {
        /// The name in the file.
        name: String,
        /// Index of the part, from 0.
        part: usize,
        /// Number of parts.
        of: usize,
    },
    /// All values are 1, and the file has no such tensor.
    Ones(usize),
    /// This tensor, whatever the file has.
    Given(Tensor),
}

impl Converted {
    /// Detects the network by the names of its tensors.
    ///
    /// # Errors
    ///
    /// If the network is unknown, or not `kind`.
    pub(super) fn new(source: Box<dyn TensorSource>, kind: Option<Kind>) -> std::result::Result<Self, String> {
        let names = source.names();
        let found = ORIGINS.iter().find_map(|(found, first, origins)| {
            let name = names.iter().find(|name| is_last_part(name, first))?;
            Some((*found, &name[..name.len() - first.len()], origins))
        });
        let Some((found, prefix, origins)) = found else {
            let known = Kind::ALL.map(Kind::name).join(", ");
            let first = names.first().map_or("nothing", String::as_str);
            return Err(format!(
                "holds no detector that is known ({known}): it has {} tensors, the first is `{first}`",
                names.len()
            ));
        };
        if let Some(kind) = kind.filter(|kind| *kind != found) {
            return Err(format!("holds {}, not {}", found.name(), kind.name()));
        }
        let mut tensors = origins(&Names { source: source.as_ref(), prefix });
        // Tensors that the file lacks are reported together, under our names.
        tensors.retain(|_, origin| origin.name().is_none_or(|name| source.shape(name).is_some()));
        Ok(Self { kind: found, source, tensors })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Adds a tensor of another file.
    pub(super) fn give(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.into(), Origin::Given(tensor));
    }
}

impl fmt::Debug for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converted").field("kind", &self.kind).field("tensors", &self.tensors).finish_non_exhaustive()
    }
}

impl Origin {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Same(name) | Self::Permuted(name, _) | Self::Part { name, .. } => Some(name),
            Self::Ones(_) | Self::Given(_) => None,
        }
    }
}

impl TensorSource for Converted {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.tensors.get(name)? {
            Origin::Same(name) => self.source.shape(name),
            Origin::Permuted(name, order) => {
                let shape = self.source.shape(name)?;
                let permuted = order.iter().map(|&axis| shape.get(axis).copied()).collect::<Option<Vec<_>>>();
                // A tensor with another number of axes is reported with its own shape.
                Some(permuted.filter(|permuted| permuted.len() == shape.len()).unwrap_or(shape))
            }
            Origin::Part { name, of, .. } => {
                let mut shape = self.source.shape(name)?;
                // A tensor that cannot be split is reported with its own shape.
                if let Some(rows) = shape.first_mut().filter(|rows| **rows % of == 0) {
                    *rows /= of;
                }
                Some(shape)
            }
            Origin::Ones(len) => Some(vec![*len]),
            Origin::Given(tensor) => Some(tensor.dims().to_vec()),
        }
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let of_source = |name: &str| self.source.tensor(name, dtype, device);
        match self.tensors.get(name) {
            Some(Origin::Same(name)) => of_source(name),
            Some(Origin::Permuted(name, order)) => Ok(of_source(name)?.permute(order.as_slice())?.contiguous()?),
            Some(Origin::Part { name, part, of }) => {
                let whole = of_source(name)?;
                let rows = whole.dim(0)? / of;
                Ok(whole.narrow(0, part * rows, rows)?.contiguous()?)
            }
            Some(Origin::Ones(len)) => Ok(Tensor::ones(*len, dtype, device)?),
            Some(Origin::Given(tensor)) => Ok(tensor.to_dtype(dtype)?.to_device(device)?),
            None => Err(refuse(name.as_ref(), "is no tensor of this detector")),
        }
    }
}

/// The names in a file; all have the same prefix.
pub(super) struct Names<'n> {
    source: &'n dyn TensorSource,
    prefix: &'n str,
}

type Origins = fn(&Names<'_>) -> BTreeMap<String, Origin>;

/// For every network and naming scheme: a name that identifies it, and how its tensors are found.
const ORIGINS: [(Kind, &str, Origins); 9] = [
    (Kind::I3d, "Conv3d_1a_7x7.conv3d.weight", |names| i3d_of_torch(names, i3d::Naming::Plain)),
    (Kind::I3d, "conv3d_1a_7x7.conv3d.weight", |names| i3d_of_torch(names, i3d::Naming::Branches)),
    (Kind::I3d, "Conv3d_1a_7x7/conv_3d/w", i3d_of_tensor_flow),
    (Kind::InceptionFid, "Conv2d_1a_3x3.conv.weight", inception_of_ports),
    (Kind::InceptionFid, "layers.conv.weight", inception_of_layers),
    (Kind::C3d, "conv1a.weight", |names| c3d_of(names, ".weight", ".bias")),
    (Kind::Clip, "vision_model.embeddings.class_embedding", clip_of),
    (Kind::Clip, "visual.class_embedding", clip_of_openai),
    (Kind::C3d, "conv1a/W", |names| c3d_of(names, "/W", "/b")),
];

/// Whether a known detector is among the tensors `names`.
pub(super) fn is_detector(names: &[&str]) -> bool {
    ORIGINS.iter().any(|(_, first, _)| names.iter().any(|name| is_last_part(name, first)))
}

/// Whether `name` is `last`, or ends with it after a dot or a slash.
fn is_last_part(name: &str, last: &str) -> bool {
    name.strip_suffix(last).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['.', '/']))
}

impl Names<'_> {
    fn same(&self, name: &str) -> Origin {
        Origin::Same(format!("{}{name}", self.prefix))
    }

    /// The tensors of `ours` with their names in the file, `theirs`; `parts` are the names of the parts of its normalisation.
    fn unit(&self, ours: &Unit, theirs: &Unit, parts: [&str; 4]) -> Vec<(String, Origin)> {
        let mut tensors = vec![(format!("{}.weight", ours.convolution), self.same(&format!("{}.weight", theirs.convolution)))];
        for (our_part, their_part) in NORM_PARTS.iter().zip(parts) {
            tensors.push((format!("{}.{our_part}", ours.norm), self.same(&format!("{}.{their_part}", theirs.norm))));
        }
        // Normalisations that were trained without a weight have weight 1.
        if let Origin::Same(name) = &tensors[1].1
            && self.source.shape(name).is_none()
        {
            tensors[1].1 = Origin::Ones(ours.channels[1]);
        }
        tensors
    }

    fn last(&self, ours: &str, theirs: &str) -> impl Iterator<Item = (String, Origin)> {
        ["weight", "bias"].into_iter().map(move |part| (format!("{ours}.{part}"), self.same(&format!("{theirs}.{part}"))))
    }
}

fn i3d_of_torch(names: &Names<'_>, naming: i3d::Naming) -> BTreeMap<String, Origin> {
    let (ours, theirs) = (i3d::units(i3d::Naming::Plain), i3d::units(naming));
    let units = ours.iter().zip(&theirs).flat_map(|(ours, theirs)| names.unit(ours, theirs, NORM_PARTS));
    units.chain(names.last(i3d::logits(i3d::Naming::Plain), i3d::logits(naming))).collect()
}

fn i3d_of_tensor_flow(names: &Names<'_>) -> BTreeMap<String, Origin> {
    let full = |name: String| format!("{}{name}", names.prefix);
    // [time, height, width, in, out] to [out, in, time, height, width].
    let weight = |name: &str| Origin::Permuted(full(format!("{name}/w")), vec![4, 3, 0, 1, 2]);
    let (ours, theirs) = (i3d::units(i3d::Naming::Plain), i3d::units(i3d::Naming::TensorFlow));
    let mut tensors = BTreeMap::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        tensors.insert(format!("{}.weight", ours.convolution), weight(&theirs.convolution));
        tensors.insert(format!("{}.weight", ours.norm), Origin::Ones(ours.channels[1]));
        for (ours_part, part) in NORM_PARTS[1..].iter().zip(["beta", "moving_mean", "moving_variance"]) {
            tensors.insert(format!("{}.{ours_part}", ours.norm), names.same(&format!("{}/{part}", theirs.norm)));
        }
    }
    let (ours, theirs) = (i3d::logits(i3d::Naming::Plain), i3d::logits(i3d::Naming::TensorFlow));
    tensors.insert(format!("{ours}.weight"), weight(theirs));
    tensors.insert(format!("{ours}.bias"), names.same(&format!("{theirs}/b")));
    tensors
}

fn inception_of_ports(names: &Names<'_>) -> BTreeMap<String, Origin> {
    let units = inception::units(inception::Naming::Plain);
    let name = inception::output(inception::Naming::Plain);
    units.iter().flat_map(|unit| names.unit(unit, unit, NORM_PARTS)).chain(names.last(name, name)).collect()
}

fn inception_of_layers(names: &Names<'_>) -> BTreeMap<String, Origin> {
    use inception::Naming::{Layers, Plain};
    let (ours, theirs) = (inception::units(Plain), inception::units(Layers));
    let units = ours.iter().zip(&theirs).flat_map(|(ours, theirs)| names.unit(ours, theirs, ["gamma", "beta", "mean", "var"]));
    let mut tensors: BTreeMap<String, Origin> =
        units.chain(names.last(inception::output(Plain), inception::output(Layers))).collect();
    // Some blocks have `tower_conv` instead of `tower.conv`.
    let known: BTreeMap<String, String> = names.source.names().into_iter().map(|name| (name.replace('.', "_"), name)).collect();
    for origin in tensors.values_mut() {
        if let Origin::Same(name) = origin
            && let Some(other) = known.get(&name.replace('.', "_"))
        {
            name.clone_from(other);
        }
    }
    tensors
}

fn c3d_of(names: &Names<'_>, weight: &str, bias: &str) -> BTreeMap<String, Origin> {
    let theirs = |name: &str| match name.strip_suffix(".weight") {
        Some(layer) => format!("{layer}{weight}"),
        None => name.replace(".bias", bias),
    };
    c3d::tensors().into_iter().map(|(name, _)| (name.clone(), names.same(&theirs(&name)))).collect()
}

fn clip_of(names: &Names<'_>) -> BTreeMap<String, Origin> {
    clip::tensors().into_iter().map(|(name, _)| (name.clone(), names.same(&name))).collect()
}

/// The names of OpenAI's own files and of open_clip: queries, keys and values are one tensor, and both projections are transposed.
fn clip_of_openai(names: &Names<'_>) -> BTreeMap<String, Origin> {
    const PARTS: [(&str, &str); 13] = [
        ("text_model.encoder.layers.", "transformer.resblocks."),
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_model.final_layer_norm", "ln_final"),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding", "visual.conv1"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.pre_layrnorm", "visual.ln_pre"),
        ("vision_model.post_layernorm", "visual.ln_post"),
        (".layer_norm", ".ln_"),
        (".mlp.fc1", ".mlp.c_fc"),
        (".mlp.fc2", ".mlp.c_proj"),
    ];
    let full = |name: &str| format!("{}{name}", names.prefix);
    let theirs = |name: &str| PARTS.iter().fold(name.to_string(), |name, (ours, theirs)| name.replace(ours, theirs));
    let origin = |name: &str| match name {
        "text_projection.weight" => Origin::Permuted(full("text_projection"), vec![1, 0]),
        "visual_projection.weight" => Origin::Permuted(full("visual.proj"), vec![1, 0]),
        name => {
            let packed = ["q_proj.", "k_proj.", "v_proj."].iter().position(|projection| name.contains(projection));
            let Some(part) = packed else { return names.same(&theirs(name).replace(".self_attn.", ".attn.")) };
            let (layer, _) = name.split_once(".self_attn.").unwrap_or((name, ""));
            let kind = name.rsplit('.').next().unwrap_or_default();
            Origin::Part { name: full(&format!("{}.attn.in_proj_{kind}", theirs(layer))), part, of: 3 }
        }
    };
    clip::tensors().into_iter().map(|(name, _)| (name.clone(), origin(&name))).collect()
}
