//! What the training of all denoisers shares: noise and times of a step, and the gradient of the diffusion loss. A task adds its network
//! and what the network reads beside the latents.

pub(crate) mod noising;
pub(crate) mod step;
