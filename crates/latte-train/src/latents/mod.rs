//! Training on latents: clips through a frozen encoder, as they are loaded or once and for all.

mod encoded;

pub(crate) use encoded::EncodedSource;
