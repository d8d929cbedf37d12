//! The tape records a forward pass so that a backward pass can compute its gradients.
//!
//! The tensor library's own backward pass allocates zeros for every gradient and adds to them on one thread, keeps every
//! intermediate, and cuts gradients silently at fused operations. Here each operation brings its own backward function, a
//! gradient's first contribution is moved into place and later ones are added to it in place, and a segment may keep only its
//! inputs and run again in the backward pass.

mod gradients;
mod op;
mod segment;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

pub(crate) use gradients::Gradient;
pub use gradients::Gradients;
pub(crate) use op::Computed;
pub use op::Op;

use crate::{CancelToken, Error, PackedWeightCache, Precision, Result, Value};

/// A value on a tape, and the target of its gradient.
#[derive(Debug, Clone)]
pub struct Var {
    value: Value,
    target: Target,
    is_parameter: bool,
    /// The cache of its packed form, if it is frozen; otherwise the tape's cache is used.
    packed: Option<PackedWeightCache>,
}

impl Var {
    /// The value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value as a tensor on the CPU.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn to_host(&self) -> Result<Tensor> {
        self.value.to_host()
    }

    /// The lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }

    /// Whether its gradient is wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.target.is_wanted()
    }

    /// Whether it came from [`Tape::parameter`] or [`Tape::frozen`], so that its values are the same in the next pass.
    pub(crate) fn is_parameter(&self) -> bool {
        self.is_parameter
    }

    /// The cache of the packed form of a [frozen](Tape::frozen) parameter.
    pub(crate) fn packed(&self) -> Option<&PackedWeightCache> {
        self.packed.as_ref()
    }
}

/// The target of a value's gradient.
#[derive(Debug, Clone)]
enum Target {
    Nowhere,
    Node(usize),
    Parameter(Arc<str>),
}

impl Target {
    fn is_wanted(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }
}

type Backward<'a> = Box<dyn FnOnce(Gradient, &mut Gradients) -> Result<()> + 'a>;

/// Records operations in the order in which they ran. `'a` is the lifetime of the data that recomputed segments borrow.
pub struct Tape<'a> {
    /// The backward function of each recorded value; `None` for an input whose gradient is kept.
    nodes: RefCell<Vec<Option<Backward<'a>>>>,
    recording: bool,
    precision: Precision,
    recompute: bool,
    packed_weights: Option<PackedWeightCache>,
    cancel: CancelToken,
}

/// The settings of a tape that an operation needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'t> {
    /// The precision of matmuls.
    pub(crate) precision: Precision,
    /// Whether a backward pass may follow, which needs all results in f32.
    pub(crate) recording: bool,
    /// The cache of packed weights, if there is one.
    pub(crate) packed_weights: Option<&'t PackedWeightCache>,
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
        Self {
            nodes: RefCell::default(),
            recording: true,
            precision: Precision::F32,
            recompute: false,
            packed_weights: None,
            cancel: CancelToken::new(),
        }
    }

    /// A tape that records nothing, for sampling.
    pub fn inference() -> Self {
        Self { recording: false, ..Self::recording() }
    }

    /// The same tape with matmuls in `precision`.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same tape with activation checkpointing: each [`Tape::segment`] keeps only its inputs and runs again in the backward
    /// pass.
    #[must_use]
    pub fn with_recompute(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// The same tape with a cache of packed weights, which all passes that share `packed` use.
    #[must_use]
    pub fn with_packed_weight_cache(self, packed: &PackedWeightCache) -> Self {
        Self { packed_weights: Some(packed.clone()), ..self }
    }

    /// The same tape, whose [`Tape::segment`]s fail with [`Error::Cancelled`] once `cancel` is cancelled.
    #[must_use]
    pub fn with_cancel(self, cancel: &CancelToken) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// Whether operations are recorded.
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// The precision of matmuls.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The settings that an operation needs.
    pub(crate) fn context(&self) -> Context<'_> {
        Context { precision: self.precision, recording: self.recording, packed_weights: self.packed_weights.as_ref() }
    }

    /// A value that needs no gradient.
    pub fn constant(&self, value: impl Into<Value>) -> Var {
        Var { value: value.into(), target: Target::Nowhere, is_parameter: false, packed: None }
    }

    /// A frozen parameter: it has no gradient, and its packed form is cached in `packed` for all tapes that get it with the same
    /// cache.
    pub fn frozen(&self, value: impl Into<Value>, packed: &PackedWeightCache) -> Var {
        Var { is_parameter: true, packed: Some(packed.clone()), ..self.constant(value) }
    }

    /// A tensor from the CPU that needs no gradient, on the device of `beside`.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn from_host(&self, tensor: &Tensor, beside: &Value) -> Result<Var> {
        Ok(self.constant(beside.beside(tensor)?))
    }

    /// A parameter: its gradient is summed over all uses and stored under `name` in [`Gradients`].
    pub fn parameter(&self, name: &str, value: impl Into<Value>) -> Var {
        let target = if self.recording { Target::Parameter(name.into()) } else { Target::Nowhere };
        Var { value: value.into(), target, is_parameter: true, packed: None }
    }

    /// An input whose gradient is wanted; [`Gradients::input`] returns it.
    pub fn input(&self, value: impl Into<Value>) -> Var {
        let target = if self.recording { self.push(None) } else { Target::Nowhere };
        Var { value: value.into(), target, is_parameter: false, packed: None }
    }

    fn push(&self, backward: Option<Backward<'a>>) -> Target {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(backward);
        Target::Node(nodes.len() - 1)
    }

    /// Records a result that was computed from `parents`. Its backward function returns one gradient for each parent, in order.
    ///
    /// # Errors
    ///
    /// If a gradient is wanted and `op` has none.
    pub(crate) fn record(&self, op: &'static str, parents: &[&Var], computed: Computed<'a>) -> Result<Var> {
        let Computed { value, backward } = computed;
        if !self.recording || !parents.iter().any(|parent| parent.is_wanted()) {
            return Ok(self.constant(value));
        }
        let backward = backward.ok_or(Error::NoGradient(op))?;
        let targets: Vec<Target> = parents.iter().map(|parent| parent.target.clone()).collect();
        let target = self.push(Some(Box::new(move |gradient, gradients| {
            let wanted: Vec<bool> = targets.iter().map(Target::is_wanted).collect();
            let found = backward(gradient, &wanted)?;
            for (target, gradient) in targets.iter().zip(found) {
                if let Some(gradient) = gradient {
                    gradients.put(target, gradient)?;
                }
            }
            Ok(())
        })));
        Ok(Var { value, target, is_parameter: false, packed: None })
    }

    /// Runs the backward pass from `output`, whose gradient is `gradient`, and consumes the tape.
    ///
    /// # Errors
    ///
    /// If `gradient` has another shape than `output`, or an operation fails.
    pub fn backward(self, output: &Var, gradient: impl Into<Value>) -> Result<Gradients> {
        self.back(output, Gradient::shared(gradient))
    }

    fn back(self, output: &Var, gradient: Gradient) -> Result<Gradients> {
        if gradient.value.dims() != output.dims() {
            let expected = format!("a gradient of shape {:?}", output.dims());
            return Err(Error::shape("backward", expected, gradient.value.dims()));
        }
        let nodes = self.nodes.into_inner();
        let mut gradients = Gradients { nodes: Vec::new(), parameters: BTreeMap::new() };
        gradients.nodes.resize_with(nodes.len(), || None);
        gradients.put(&output.target, gradient)?;
        for (index, node) in nodes.into_iter().enumerate().rev() {
            let Some(backward) = node else { continue };
            if let Some(gradient) = gradients.nodes[index].take() {
                backward(gradient, &mut gradients)?;
            }
        }
        Ok(gradients)
    }
}
