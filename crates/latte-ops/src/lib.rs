//! The operations of latent diffusion transformers, each with forward and backward.
