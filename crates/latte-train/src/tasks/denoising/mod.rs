//! The shared part of the training of all denoisers: noise and times of a step, and the gradient of the diffusion loss. A task adds its
//! network and the network's condition.

pub(crate) mod noising;
pub(crate) mod step;
