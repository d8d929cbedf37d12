//! The tape: records what a forward pass did, so that a backward pass can be run over it.
//!
//! Why not the tensor library's own: it allocates zeros for every gradient and adds to them on one thread, keeps every
//! intermediate, and cuts gradients silently at fused operations. Here each operation brings its own backward function,
//! a gradient's first contribution is moved into place, later ones are added to it in place, and a segment may choose to
//! keep only its inputs and run again in the backward pass.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use candle_core::Tensor;

use crate::backend::cpu::slices::{add_assign, is_cpu_f32};
use crate::{Error, PackedWeightCache, Precision, Result};

/// A value on a tape: a tensor, and where its gradient goes.
#[derive(Debug, Clone)]
pub struct Var {
    tensor: Tensor,
    target: Target,
    is_parameter: bool,
}

impl Var {
    /// The value.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Whether it came from [`Tape::parameter`], so that its tensor is the same in the next pass.
    pub(crate) fn is_parameter(&self) -> bool {
        self.is_parameter
    }
}

/// Where the gradient of a value goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Nowhere,
    Node(usize),
    Parameter(Rc<str>),
}

impl Target {
    pub(crate) fn is_wanted(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }
}

type Backward<'a> = Box<dyn FnOnce(Tensor, &mut Gradients) -> Result<()> + 'a>;

/// Records operations in the order in which they ran. `'a` is the life of what recomputed segments borrow.
pub struct Tape<'a> {
    /// The backward function of each recorded value; `None` for an input whose gradient is kept.
    nodes: RefCell<Vec<Option<Backward<'a>>>>,
    recording: bool,
    precision: Precision,
    recompute: bool,
    packed_weights: Option<PackedWeightCache>,
}

impl fmt::Debug for Tape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("nodes", &self.nodes.borrow().len())
            .field("recording", &self.recording)
            .field("precision", &self.precision)
            .field("recompute", &self.recompute)
            .field("packed_weights", &self.packed_weights)
            .finish()
    }
}

impl<'a> Tape<'a> {
    /// A tape that records, for training.
    pub fn recording() -> Self {
        Self { nodes: RefCell::default(), recording: true, precision: Precision::F32, recompute: false, packed_weights: None }
    }

    /// A tape that keeps nothing, for sampling.
    pub fn inference() -> Self {
        Self { recording: false, ..Self::recording() }
    }

    /// The same tape with matrix products in `precision`.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same tape with [`Tape::segment`]s that keep only their inputs and run again in the backward pass.
    #[must_use]
    pub fn with_recompute(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// The same tape with weights that are packed once for all passes that share `packed`.
    #[must_use]
    pub fn with_packed_weight_cache(self, packed: &PackedWeightCache) -> Self {
        Self { packed_weights: Some(packed.clone()), ..self }
    }

    /// Where packed weights are kept, if they are.
    pub(crate) fn packed_weights(&self) -> Option<&PackedWeightCache> {
        self.packed_weights.as_ref()
    }

    /// Whether operations are recorded.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording
    }

    /// In which precision products are formed.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// A value that needs no gradient.
    pub fn constant(&self, tensor: Tensor) -> Var {
        Var { tensor, target: Target::Nowhere, is_parameter: false }
    }

    /// A parameter: its gradient is summed over all uses and found under `name` in [`Gradients`].
    pub fn parameter(&self, name: &str, tensor: &Tensor) -> Var {
        let target = if self.recording { Target::Parameter(name.into()) } else { Target::Nowhere };
        Var { tensor: tensor.clone(), target, is_parameter: true }
    }

    /// An input whose gradient is wanted, found by [`Gradients::input`].
    pub fn input(&self, tensor: Tensor) -> Var {
        let target = if self.recording { self.push(None) } else { Target::Nowhere };
        Var { tensor, target, is_parameter: false }
    }

    fn push(&self, backward: Option<Backward<'a>>) -> Target {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(backward);
        Target::Node(nodes.len() - 1)
    }

    /// Records an operation: `value` came from `parents`, and `backward` hands the gradient of `value` on to them.
    pub(crate) fn record(
        &self,
        value: Tensor,
        parents: &[Target],
        backward: impl FnOnce(Tensor, &mut Gradients) -> Result<()> + 'a,
    ) -> Var {
        let wanted = self.recording && parents.iter().any(Target::is_wanted);
        let target = if wanted { self.push(Some(Box::new(backward))) } else { Target::Nowhere };
        Var { tensor: value, target, is_parameter: false }
    }

    /// Runs `forward` on `inputs`. If the tape recomputes, only `inputs` are kept, and the backward pass runs `forward`
    /// again: less memory for one more forward pass, and the same gradients bit for bit.
    ///
    /// # Errors
    ///
    /// Those of `forward`.
    pub fn segment<E>(
        &self,
        inputs: &[&Var],
        forward: impl Fn(&Self, &[Var]) -> std::result::Result<Var, E> + 'a,
    ) -> std::result::Result<Var, E>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let inputs: Vec<Var> = inputs.iter().map(|&v| v.clone()).collect();
        if !(self.recompute && self.recording) {
            return forward(self, &inputs);
        }
        let (precision, packed_weights) = (self.precision, self.packed_weights.clone());
        let plain = Tape { precision, packed_weights: packed_weights.clone(), ..Tape::inference() };
        let value = forward(&plain, &inputs)?.tensor;
        let backward = move |gradient: Tensor, gradients: &mut Gradients| {
            let tape = Tape { precision, packed_weights, ..Tape::recording() };
            let inner: Vec<Var> = inputs
                .iter()
                .map(|v| if v.target.is_wanted() { tape.input(v.tensor.clone()) } else { tape.constant(v.tensor.clone()) })
                .collect();
            let output = forward(&tape, &inner).map_err(|e| Error::Recompute(Box::new(e)))?;
            let mut found = tape.backward(&output, gradient)?;
            for (outer, inner) in inputs.iter().zip(&inner) {
                if let Target::Node(index) = inner.target
                    && let Some(gradient) = found.nodes.get_mut(index).and_then(Option::take)
                {
                    gradients.put(&outer.target, gradient)?;
                }
            }
            for (name, gradient) in found.parameters {
                gradients.put(&Target::Parameter(name), gradient)?;
            }
            Ok(())
        };
        // Parameters inside want gradients even where no input does.
        Ok(Var { tensor: value, target: self.push(Some(Box::new(backward))), is_parameter: false })
    }

    /// Goes back over the tape from `output`, whose gradient is `gradient`, and uses the tape up.
    ///
    /// # Errors
    ///
    /// If `gradient` has another shape than `output`, or an operation fails.
    pub fn backward(self, output: &Var, gradient: Tensor) -> Result<Gradients> {
        if gradient.dims() != output.dims() {
            return Err(Error::shape("backward", format!("a gradient of shape {:?}", output.dims()), gradient.dims()));
        }
        let nodes = self.nodes.into_inner();
        let mut gradients = Gradients { nodes: Vec::new(), parameters: BTreeMap::new() };
        gradients.nodes.resize_with(nodes.len(), || None);
        gradients.share(&output.target, gradient)?;
        for (index, node) in nodes.into_iter().enumerate().rev() {
            let Some(backward) = node else { continue };
            if let Some(gradient) = gradients.nodes[index].take() {
                backward(gradient.tensor, &mut gradients)?;
            }
        }
        Ok(gradients)
    }
}

/// A gradient, and whether its memory is its own (then further contributions are added in place).
#[derive(Debug)]
struct Gradient {
    tensor: Tensor,
    owned: bool,
}

/// The gradients that a backward pass found.
#[derive(Debug)]
pub struct Gradients {
    nodes: Vec<Option<Gradient>>,
    parameters: BTreeMap<Rc<str>, Gradient>,
}

impl Gradients {
    /// The gradient of the parameter called `name`; `None` if it was not used.
    pub fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.parameters.get(name).map(|g| &g.tensor)
    }

    /// The gradient of a [`Tape::input`]; `None` if it was not used.
    pub fn input(&self, input: &Var) -> Option<&Tensor> {
        match input.target {
            Target::Node(index) => self.nodes.get(index)?.as_ref().map(|g| &g.tensor),
            Target::Nowhere | Target::Parameter(_) => None,
        }
    }

    /// The gradients of all parameters that were used, by name.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn into_parameters(self) -> Result<crate::Parameters> {
        // Each gets memory of its own, so that the caller may add to it in place.
        let own = |g: Gradient| if g.owned { g.tensor.contiguous() } else { g.tensor.copy() };
        self.parameters.into_iter().map(|(name, g)| Ok((name.to_string(), own(g)?))).collect()
    }

    /// Adds a contribution that nothing else holds on to.
    pub(crate) fn give(&mut self, target: &Target, tensor: Tensor) -> Result<()> {
        self.put(target, Gradient { tensor, owned: true })
    }

    /// Adds a contribution whose memory something else may hold too.
    pub(crate) fn share(&mut self, target: &Target, tensor: Tensor) -> Result<()> {
        self.put(target, Gradient { tensor, owned: false })
    }

    fn put(&mut self, target: &Target, gradient: Gradient) -> Result<()> {
        let slot = match target {
            Target::Nowhere => return Ok(()),
            Target::Node(index) => &mut self.nodes[*index],
            Target::Parameter(name) => {
                if let Some(held) = self.parameters.get_mut(name) {
                    return held.add(&gradient);
                }
                self.parameters.insert(name.clone(), gradient);
                return Ok(());
            }
        };
        match slot {
            Some(held) => held.add(&gradient)?,
            None => *slot = Some(gradient),
        }
        Ok(())
    }
}

impl Gradient {
    fn add(&mut self, other: &Self) -> Result<()> {
        if self.owned && self.tensor.is_contiguous() && is_cpu_f32(&self.tensor) {
            add_assign(&self.tensor, &other.tensor)
        } else {
            *self = Self { tensor: (&self.tensor + &other.tensor)?, owned: true };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::undisturbed;
    use crate::finite_difference::{check, pseudo_random};
    use crate::{add, linear_gelu, silu};

    fn two_layers<'a>(tape: &Tape<'a>, x: &Var, c: &Var, weights: &'a [Tensor; 2]) -> Result<Var> {
        let mut x = x.clone();
        for (i, weight) in weights.iter().enumerate() {
            let layer = move |tape: &Tape<'a>, v: &[Var]| -> Result<Var> {
                let y = linear_gelu(tape, &v[0], &tape.parameter(&format!("w{i}"), weight), None)?;
                add(tape, &add(tape, &v[0], &y)?, &v[1])
            };
            x = tape.segment(&[&x, c], layer)?;
        }
        Ok(x)
    }

    #[test]
    fn recomputed_segments_give_the_same_gradients_bit_for_bit() -> Result<()> {
        undisturbed(|| {
            let weights = [pseudo_random(&[5, 5], 1)?, pseudo_random(&[5, 5], 2)?];
            let run = |recompute: bool| -> Result<Vec<Vec<f32>>> {
                let tape = Tape::recording().with_recompute(recompute);
                let (x, c) = (tape.input(pseudo_random(&[3, 5], 3)?), tape.input(pseudo_random(&[1, 5], 4)?));
                let c_active = silu(&tape, &c)?;
                let y = two_layers(&tape, &x, &c_active, &weights)?;
                let gradients = tape.backward(&y, pseudo_random(&[3, 5], 5)?)?;
                let found = [gradients.input(&x), gradients.input(&c), gradients.parameter("w0"), gradients.parameter("w1")];
                found
                    .into_iter()
                    .map(|t| Ok(t.ok_or(Error::MissingParameter("gradient".into()))?.flatten_all()?.to_vec1()?))
                    .collect()
            };
            assert_eq!(run(false)?, run(true)?);
            Ok(())
        })
    }

    #[test]
    fn gradients_that_meet_are_summed_without_harming_their_sources() -> Result<()> {
        // x reaches the output along three paths, two of which share one gradient tensor.
        check(&[pseudo_random(&[2, 3], 1)?], |tape, v| {
            let twice = add(tape, &v[0], &v[0])?;
            let gated = silu(tape, &v[0])?;
            let sum = add(tape, &twice, &gated)?;
            add(tape, &sum, &v[0])
        })
    }

    #[test]
    fn nothing_is_kept_where_no_gradient_is_wanted() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.input(pseudo_random(&[2, 3], 1)?);
        silu(&tape, &x)?;
        assert_eq!(tape.nodes.borrow().len(), 0);
        let tape = Tape::recording();
        silu(&tape, &tape.constant(pseudo_random(&[2, 3], 1)?))?;
        assert_eq!(tape.nodes.borrow().len(), 0);
        Ok(())
    }

    #[test]
    fn a_gradient_of_another_shape_is_refused() -> Result<()> {
        let tape = Tape::recording();
        let x = tape.input(pseudo_random(&[2, 3], 1)?);
        let y = silu(&tape, &x)?;
        assert!(tape.backward(&y, Tensor::new(&[1f32], &Device::Cpu)?).is_err());
        Ok(())
    }
}
