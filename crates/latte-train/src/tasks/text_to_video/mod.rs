//! Text-to-video models.

pub(crate) mod network;
