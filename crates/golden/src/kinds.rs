//! The one list of all kinds of golden files: who runs them, and which configuration keys they may have.

/// One kind of golden file.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The `kind` in the file's metadata, or a name for JSON files.
    pub name: &'static str,
    /// The crate whose `golden` test runs it.
    pub owner: &'static str,
    /// Every key that the file's `config` may have. Another one is an error: it would be silently ignored.
    config_keys: &'static [&'static [&'static str]],
}

impl Kind {
    /// Whether the file's `config` may have `key`.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.config_keys.iter().any(|keys| keys.contains(&key))
    }
}

/// The owner of kinds that are known and that no crate checks yet. Their files are reported by name.
pub(crate) const NO_RUNNER: &str = "no crate";

const fn kind(name: &'static str, owner: &'static str, config_keys: &'static [&'static [&'static str]]) -> Kind {
    Kind { name, owner, config_keys }
}

const MODEL_KEYS: &[&str] = &[
    "input_size",
    "patch_size",
    "in_channels",
    "hidden_size",
    "depth",
    "num_heads",
    "mlp_ratio",
    "num_frames",
    "class_dropout_prob",
    "num_classes",
    "learn_sigma",
    "extras",
];

/// The keys of optimiser steps, whatever is trained.
const STEP_KEYS: &[&str] = &["steps", "accumulate", "lr", "betas", "eps", "weight_decay", "clip_max_norm", "ema_decay"];

/// The keys of diffusers' `config.json`.
const T2V_KEYS: &[&str] = &[
    "num_attention_heads",
    "attention_head_dim",
    "in_channels",
    "out_channels",
    "num_layers",
    "dropout",
    "cross_attention_dim",
    "attention_bias",
    "sample_size",
    "patch_size",
    "activation_fn",
    "num_embeds_ada_norm",
    "norm_type",
    "norm_elementwise_affine",
    "norm_eps",
    "caption_channels",
    "video_length",
];

/// The keys of transformers' `config.json`; the last four do not matter to an encoder.
const T5_KEYS: &[&str] = &[
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "feed_forward_proj",
    "layer_norm_epsilon",
    "is_encoder_decoder",
    "use_cache",
    "dropout_rate",
    "tie_word_embeddings",
];

const VAE_KEYS: &[&str] = &[
    "in_channels",
    "out_channels",
    "down_block_types",
    "up_block_types",
    "block_out_channels",
    "layers_per_block",
    "act_fn",
    "latent_channels",
    "norm_num_groups",
    "sample_size",
    "scaling_factor",
    "shift_factor",
    "latents_mean",
    "latents_std",
    "force_upcast",
    "use_quant_conv",
    "use_post_quant_conv",
    "mid_block_add_attention",
];

const VAE_TEMPORAL_KEYS: &[&str] = &[
    "in_channels",
    "out_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "latent_channels",
    "sample_size",
    "scaling_factor",
    "force_upcast",
];

/// All kinds.
pub const KINDS: &[Kind] = &[
    kind("latte", "latte-selftest", &[MODEL_KEYS, &["images", "variant"]]),
    kind("latte_joint", "latte-selftest", &[MODEL_KEYS, &["images", "variant"]]),
    kind("train", "latte-selftest", &[MODEL_KEYS, STEP_KEYS, &["loss"]]),
    kind("t2v_train", "latte-selftest", &[T2V_KEYS, STEP_KEYS, &["variational", "num_images", "left_out"]]),
    kind(
        "sampler",
        "latte-selftest",
        &[&["respacing", "sampler", "eta", "learn_sigma", "clip_denoised", "toy_model", "noise_schedule", "predict_xstart"]],
    ),
    kind(
        "loss",
        "latte-selftest",
        &[&["noise_schedule", "toy_model", "learn_sigma", "use_kl", "predict_xstart", "rescale_learned_sigmas"]],
    ),
    kind("respacing", "latte-selftest", &[]),
    kind("torch_rng", "latte-selftest", &[&["note"]]),
    kind("transform", "latte-video", &[&["size", "note"]]),
    // The last key is an argument of the forward pass.
    kind("latte_t2v", "latte-selftest", &[T2V_KEYS, &["enable_temporal_attentions"]]),
    kind("vae", "latte-selftest", &[VAE_KEYS]),
    kind("vae_temporal", "latte-selftest", &[VAE_TEMPORAL_KEYS]),
    kind("t5", "latte-selftest", &[T5_KEYS]),
    kind("scheduler", "latte-selftest", &[&["class_name", "steps", "config", "eta", "toy_model", "noise_order"]]),
    kind("tiny-latte-t2v", "latte-selftest", &[]),
    kind(
        "t2v_pipeline",
        "latte-selftest",
        &[&[
            "prompt",
            "negative_prompt",
            "guidance_scale",
            "steps",
            "scheduler",
            "frames",
            "height",
            "width",
            "temporal_decoder",
            "note",
        ]],
    ),
    kind("tokens", "latte-selftest", &[]),
    kind("inception_fid", "latte-eval", &[&["pixels_tag", "size", "n", "formula", "resize", "normalise"]]),
    kind("i3d", "latte-eval", &[&["pixels_tag", "frames", "n", "size", "bn_eps", "normalise"]]),
    kind("detector_keys", "latte-eval", &[]),
    kind("set_metrics", "latte-eval", &[&["N1", "N2", "D", "is_splits", "kid"]]),
    // Adapters on a frozen text-to-video network, and the folders in which other programs keep them.
    kind("t2v_lora", NO_RUNNER, &[]),
    kind("t2v_lora_files", NO_RUNNER, &[]),
    // A time for every frame, given frames, flow matching, velocity prediction, consistency distillation.
    kind("t2v_frame_times", NO_RUNNER, &[]),
    kind("flow_matching", NO_RUNNER, &[]),
    kind("velocity", NO_RUNNER, &[]),
    kind("consistency", NO_RUNNER, &[]),
];
