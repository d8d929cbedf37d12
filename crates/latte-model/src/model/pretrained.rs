//! Loads weights from files into a model, and reports what was loaded, missing or ignored.

use std::collections::BTreeSet;
use std::fmt;

use latte_ops::Parameters;

use super::Latte;
use crate::weights::{TensorSource, listed};
use crate::{Error, Result};

/// The tensors that were loaded, missing or ignored when weights were loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters that were loaded.
    pub used: Vec<String>,
    /// Tensors without a parameter in the model, and tensors that were left out on purpose.
    pub ignored: Vec<String>,
    /// Parameters without a tensor, except fixed positions, which are computed.
    pub missing: Vec<String>,
    /// Parameters whose tensor has another shape: name, expected, found.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// The number of names of each kind that an error or a report shows.
const MAX_SHOWN: usize = 5;

impl LoadReport {
    /// Whether every parameter was loaded and every tensor was used.
    pub fn is_complete(&self) -> bool {
        self.ignored.is_empty() && self.missing.is_empty() && self.wrong_shape.is_empty()
    }

    /// The report line by line: the number of each kind, and the first names of those that were not used.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} tensors used", self.used.len())];
        let wrong: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|(name, expected, found)| format!("`{name}` is {found:?} instead of {expected:?}"))
            .collect();
        let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        for (what, names) in [("ignored", quoted(&self.ignored)), ("missing", quoted(&self.missing)), ("of another shape", wrong)]
        {
            if !names.is_empty() {
                lines.push(format!("{} {what}: {}", names.len(), listed(&names, MAX_SHOWN)));
            }
        }
        lines
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

/// The kind of model from which a run takes its initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestor {
    /// An image DiT: its blocks become the model's blocks one to one (block 2i + 1 becomes a temporal block), as in the paper. Its
    /// label table, which is for other classes, is left out.
    Dit,
    /// Another Latte; tensors of another shape are left out.
    Latte,
}

impl Latte {
    /// The report that loading `source` would give, from names and shapes only.
    pub fn fit(&self, source: &dyn TensorSource) -> LoadReport {
        self.judge(source, |_| false)
    }

    /// Loads all parameters from `source`. Fixed positions may be missing or of another shape, because they are computed if the
    /// stored ones do not fit.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that lists the missing, unknown or wrongly shaped tensors, or if a tensor cannot be read.
    pub fn load(&self, source: &dyn TensorSource) -> Result<Parameters> {
        let mut parameters = Parameters::new();
        let report = self.fill(source, &mut parameters, |_| false)?;
        if !report.is_complete() {
            return Err(Error::config("weights", format!("the tensors do not fit the model: {report}")));
        }
        Ok(parameters)
    }

    /// As [`Latte::load`], but parameters that do not fit keep their values in `parameters`, and are reported.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read.
    pub fn load_what_fits(&self, source: &dyn TensorSource, parameters: &mut Parameters) -> Result<LoadReport> {
        self.fill(source, parameters, |_| false)
    }

    /// Replaces initial `parameters` by those of another model if they fit; the others keep their values.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read.
    pub fn inherit(&self, ancestor: Ancestor, source: &dyn TensorSource, parameters: &mut Parameters) -> Result<LoadReport> {
        self.fill(source, parameters, |name| ancestor == Ancestor::Dit && name.starts_with("y_embedder."))
    }

    /// Loads parameters, except from tensors that `leave_out` selects.
    fn fill(
        &self,
        source: &dyn TensorSource,
        parameters: &mut Parameters,
        leave_out: impl Fn(&str) -> bool,
    ) -> Result<LoadReport> {
        let report = self.judge(source, leave_out);
        for name in &report.used {
            parameters.insert(name.clone(), source.f32_tensor(name)?);
        }
        Ok(report)
    }

    fn judge(&self, source: &dyn TensorSource, leave_out: impl Fn(&str) -> bool) -> LoadReport {
        let mut report = LoadReport::default();
        for spec in self.parameters() {
            match source.shape(&spec.name).filter(|_| !leave_out(&spec.name)) {
                Some(shape) if shape == spec.shape => report.used.push(spec.name.clone()),
                // Computed for the actual shape.
                _ if spec.is_position() => {}
                Some(shape) => report.wrong_shape.push((spec.name.clone(), spec.shape.clone(), shape)),
                None => report.missing.push(spec.name.clone()),
            }
        }
        let known: BTreeSet<&str> = self.parameters().iter().map(|spec| spec.name.as_str()).collect();
        let is_known = |name: &str| name == "temp_embed" || known.contains(name);
        report.ignored = source.names().into_iter().filter(|name| !is_known(name) || leave_out(name)).collect();
        report
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::model::{Condition, LatteConfig};
    use crate::noise::TorchRng;

    fn model(condition: Condition) -> Result<Latte> {
        let preset = LatteConfig::preset("Latte-S/2")?;
        Latte::new(LatteConfig {
            input_size: [8, 8],
            num_frames: 4,
            hidden_size: 32,
            depth: 2,
            num_heads: 2,
            condition,
            ..preset
        })
    }

    fn filled(model: &Latte, value: f32) -> Result<Parameters> {
        let whole = |spec: &super::super::ParameterSpec| {
            Ok((spec.name.clone(), Tensor::full(value, spec.shape.as_slice(), &candle_core::Device::Cpu)?))
        };
        model.parameters().iter().map(whole).collect()
    }

    #[test]
    fn what_does_not_fit_is_refused_or_reported() -> Result<()> {
        let model = model(Condition::None)?;
        let mut source = filled(&model, 2.0)?;
        assert_eq!(model.load(&source)?.len(), model.parameters().len());
        // Positions are computed if the stored ones do not fit.
        let _ = source.remove("temp_embed");
        assert!(model.load(&source).is_ok());
        let _ = source.remove("blocks.1.mlp.fc2.bias");
        source.insert("more", Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu)?);
        source.insert("x_embedder.proj.bias", Tensor::zeros(31, candle_core::DType::F32, &candle_core::Device::Cpu)?);
        let message = model.load(&source).err().map(|e| e.to_string()).unwrap_or_default();
        for part in ["1 ignored: `more`", "1 missing: `blocks.1.mlp.fc2.bias`", "`x_embedder.proj.bias` is [31] instead of [32]"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
        let mut parameters = filled(&model, 1.0)?;
        let report = model.load_what_fits(&source, &mut parameters)?;
        assert_eq!((report.ignored.len(), report.missing.len(), report.wrong_shape.len()), (1, 1, 1));
        let first = |name: &str| Ok::<f32, Error>(parameters.get(name)?.to_host()?.flatten_all()?.to_vec1::<f32>()?[0]);
        assert_eq!((first("blocks.1.mlp.fc2.bias")?, first("blocks.1.mlp.fc2.weight")?), (1.0, 2.0));
        Ok(())
    }

    #[test]
    fn a_dit_gives_its_blocks_but_not_its_classes() -> Result<()> {
        let classes = Condition::Class { num_classes: 3, dropout: 0.1 };
        let model = model(classes)?;
        // An image DiT of the same width: without temporal positions, and with a label table that has the same shape.
        let mut dit = filled(&model, 2.0)?;
        let _ = dit.remove("temp_embed");
        let fresh = model.init(&mut TorchRng::new(1))?;
        let mut parameters = fresh.deep_copy()?;
        let report = model.inherit(Ancestor::Dit, &dit, &mut parameters)?;
        assert_eq!(report.ignored, ["y_embedder.embedding_table.weight"]);
        assert_eq!(report.missing, ["y_embedder.embedding_table.weight"]);
        assert_eq!(report.used.len(), model.parameters().len() - 2);
        let same = |name: &str, other: &Parameters| {
            Ok::<bool, Error>(
                parameters.get(name)?.to_host()?.flatten_all()?.to_vec1::<f32>()?
                    == other.get(name)?.to_host()?.flatten_all()?.to_vec1::<f32>()?,
            )
        };
        assert!(same("y_embedder.embedding_table.weight", &fresh)? && same("temp_embed", &fresh)?);
        assert!(same("blocks.1.attn.qkv.weight", &dit)? && same("final_layer.linear.weight", &dit)? && same("pos_embed", &dit)?);
        let report = model.inherit(Ancestor::Latte, &dit, &mut fresh.deep_copy()?)?;
        assert!(report.is_complete(), "{report}");
        Ok(())
    }
}
