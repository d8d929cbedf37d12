//! What is made of a run's weights on the way: validation losses, samples, scores, TensorBoard's event files.

pub(crate) mod evaluation;
pub(crate) mod events;
pub(crate) mod sample_batch;
pub(crate) mod samples;
pub(crate) mod validation;
