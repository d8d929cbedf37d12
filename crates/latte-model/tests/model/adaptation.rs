//! Frozen parameters and low-rank adapters: their effect, and that they change nothing else.

use latte_model::layers::Adaptation;
use latte_model::model::t2v::LatteT2v;
use latte_model::noise::TorchRng;
use latte_ops::{Precision, Value};

use super::t2v_gradients::{Inputs, tiny_t2v};
use super::*;

/// Adapters on all layers with a fused form: with GELU, with a gate, in low precision.
fn adapters(scale: f64) -> Adaptation {
    ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1", "x_embedder.proj", "final_layer.linear"]
        .into_iter()
        .fold(Adaptation::new(), |adaptation, layer| adaptation.adapt(layer, 2, scale))
}

fn adapters_of_t2v(scale: f64) -> Adaptation {
    ["attn1.to_qkv", "attn2.to_q", "attn2.to_kv", "to_out.0", "ff.net.0.proj", "ff.net.2", "pos_embed.proj", "linear_2"]
        .into_iter()
        .fold(Adaptation::new(), |adaptation, layer| adaptation.adapt(layer, 2, scale))
}

fn bits(value: &Value) -> Result<Vec<u32>> {
    Ok(value.to_host()?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

fn input(x: &Tensor) -> Input<'_> {
    Input { labels: Some(&[0, 3]), ..Input::new(x, &[30.0, 800.0]) }
}

/// The names of parameters and the bits of their gradients.
type Gradients = Vec<(String, Vec<u32>)>;

/// The output's bits, and the gradient of every parameter that has one.
fn pass<'a>(model: &'a Latte, weights: &'a Parameters, tape: Tape<'a>) -> Result<(Vec<u32>, Gradients)> {
    let x = pseudo_random(&[2, 4, 2, 4, 6], 5)?;
    let y = model.forward(&tape, weights, &input(&x))?;
    let output = bits(y.value())?;
    if !tape.is_recording() {
        return Ok((output, Vec::new()));
    }
    let gradients = tape.backward(&y, pseudo_random(y.dims(), 11)?)?.into_parameters()?;
    let gradients = gradients.iter().map(|(name, value)| Ok((name.to_string(), bits(value)?))).collect::<Result<_>>()?;
    Ok((output, gradients))
}

#[test]
fn frozen_parameters_have_no_gradient_and_change_no_other() -> Result<()> {
    for block_layout in LAYOUTS {
        let model = Latte::new(LatteConfig { block_layout, ..tiny() })?;
        let weights = busy_weights(&model)?;
        let is_frozen =
            |name: &str| name.starts_with("blocks.0.") || name == "blocks.1.mlp.fc1.weight" || name.starts_with("t_emb");
        let adaptation = Adaptation::new().freeze("blocks.0").freeze("blocks.1.mlp.fc1.weight").freeze("t_embedder");
        let frozen = model.adapted(&adaptation)?;
        for recompute in [false, true] {
            let tape = || Tape::recording().with_recompute(recompute);
            let ((all_output, all), (output, found)) = (pass(&model, &weights, tape())?, pass(&frozen, &weights, tape())?);
            assert_eq!(output, all_output, "{block_layout:?}");
            let others: Vec<_> = all.iter().filter(|(name, _)| !is_frozen(name)).cloned().collect();
            assert!(others.len() + 10 < all.len(), "{block_layout:?}: {} of {}", others.len(), all.len());
            assert_eq!(found, others, "{block_layout:?}, recompute {recompute}");
        }
        let trainable = model.trainable().into_iter().filter(|name| !is_frozen(name)).collect::<Vec<_>>();
        assert_eq!(frozen.trainable(), trainable);
        assert!(trainable.len() < model.trainable().len() && !trainable.iter().any(|name| name == "pos_embed"));
        // Frozen positions are still computed if the stored ones do not fit, and other weights are still required.
        let mut incomplete = weights.clone();
        assert!(incomplete.remove("temp_embed").is_some() && frozen.check(&incomplete).is_ok());
        assert!(incomplete.remove("blocks.0.mlp.fc1.weight").is_some() && frozen.check(&incomplete).is_err());
    }
    Ok(())
}

#[test]
fn joined_layers_are_frozen_together() -> Result<()> {
    let (model, inputs) = (LatteT2v::new(tiny_t2v())?, Inputs::new(3, true)?);
    let weights = model.init(&mut TorchRng::new(3))?;
    let list = "transformer_blocks.0.attn1";
    let by_parts = ["to_q", "to_k", "to_v"].map(|part| format!("{list}.{part}"));
    let whole = Adaptation::new().freeze(format!("{list}.to_qkv"));
    let above = Adaptation::new().freeze("transformer_blocks.0");
    for adaptation in [whole, above] {
        let frozen = model.adapted(&adaptation)?;
        let tape = Tape::recording();
        let y = inputs.run(&frozen, &weights, &tape)?;
        let gradients = tape.backward(&y, pseudo_random(y.dims(), 11)?)?;
        assert!(gradients.parameter(&format!("{list}.to_qkv.weight")).is_none());
        assert!(gradients.parameter("transformer_blocks.1.attn1.to_qkv.weight").is_some());
        let of_file = frozen.parameters().iter().filter(|spec| !spec.is_trainable());
        assert!(by_parts.iter().all(|part| of_file.clone().any(|spec| spec.name == format!("{part}.weight"))));
    }
    // A part of a joined parameter cannot be frozen alone.
    let message = model.adapted(&Adaptation::new().freeze(&by_parts[0])).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("attn1.to_q`") && message.contains("attn1.to_qkv.weight"), "{message}");
    Ok(())
}

#[test]
fn fresh_adapters_change_no_bit() -> Result<()> {
    for injection in [Injection::SAdaln, Injection::AllTokens] {
        let model = Latte::new(LatteConfig { injection, ..tiny() })?;
        let rules = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "x_embedder.proj", "final_layer.linear"];
        let adaptation = rules.into_iter().fold(Adaptation::new(), |all, layer| all.adapt(layer, 2, 0.5));
        let adapted = model.adapted(&adaptation)?;
        // The draws of all other parameters are the same.
        let (base, fresh) = (model.init(&mut TorchRng::new(4))?, adapted.init(&mut TorchRng::new(4))?);
        for (name, value) in base.iter() {
            assert_eq!(bits(value)?, bits(fresh.get(name)?)?, "{name}");
        }
        assert!(fresh.len() > base.len());
        let mut weights = busy_weights(&model)?;
        for (name, value) in fresh.iter().filter(|(name, _)| name.contains(".lora_")) {
            let is_zero = bits(value)?.iter().all(|&bits| bits == 0);
            assert_eq!(is_zero, name.ends_with(".lora_B.weight"), "{name}");
            weights.insert(name, value);
        }
        for precision in [Precision::F32, Precision::Bf16] {
            for tape in [Tape::inference, Tape::recording] {
                let with = pass(&adapted, &weights, tape().with_precision(precision))?;
                let without = pass(&model, &weights, tape().with_precision(precision))?;
                assert_eq!(with.0, without.0, "{injection:?}, {precision:?}");
            }
        }
    }
    let (model, inputs) = (LatteT2v::new(tiny_t2v())?, Inputs::new(3, true)?);
    let adapted = model.adapted(&adapters_of_t2v(2.0))?;
    let weights = adapted.init(&mut TorchRng::new(3))?;
    for precision in [Precision::F32, Precision::Bf16] {
        let run = |model| bits(inputs.run(model, &weights, &Tape::inference().with_precision(precision))?.value());
        assert_eq!(run(&adapted)?, run(&model)?, "{precision:?}");
    }
    Ok(())
}

/// `weight + scale · B A`, with the adapter's matrices of `part`.
fn merged(weights: &Parameters, part: &str, scale: f64) -> Result<Tensor> {
    let get = |half: &str| weights.get(&format!("{part}.lora_{half}.weight"))?.to_host();
    Ok((get("B")?.matmul(&get("A")?)? * scale)?)
}

#[test]
fn an_adapter_adds_its_product_to_the_weight() -> Result<()> {
    let scale = 1.5;
    for block_layout in LAYOUTS {
        let model = Latte::new(LatteConfig { block_layout, ..tiny() })?.adapted(&adapters(scale))?;
        let weights = busy_weights(&model)?;
        let mut whole = weights.clone();
        for spec in model.parameters() {
            let Some(layer) = spec.name.strip_suffix(".lora_A.weight") else { continue };
            let name = format!("{layer}.weight");
            let weight = weights.get(&name)?.to_host()?;
            whole.insert(name, (&weight + merged(&weights, layer, scale)?.reshape(weight.dims())?)?);
        }
        let x = pseudo_random(&[2, 4, 2, 4, 6], 5)?;
        let base = Latte::new(model.config().clone())?;
        let expected = forward(&base, &whole, &input(&x))?;
        assert_close(&forward(&model, &weights, &input(&x))?, &expected, 1e-4)?;
        // The adapter changes the output, so the test compares something.
        assert!(assert_close(&forward(&base, &weights, &input(&x))?, &expected, 0.05).is_err());
    }
    Ok(())
}

#[test]
fn an_adapter_of_a_joined_layer_has_matrices_for_each_part() -> Result<()> {
    let (scale, inputs) = (0.5, Inputs::new(3, true)?);
    let base = LatteT2v::new(tiny_t2v())?;
    let model = base.adapted(&adapters_of_t2v(scale))?;
    let mut weights = Parameters::new();
    for (i, (name, value)) in model.init(&mut TorchRng::new(1))?.iter().enumerate() {
        weights.insert(name, (pseudo_random(value.dims(), i as u64 + 7)? * 0.4)?);
    }
    let mut whole = weights.clone();
    for (name, value) in weights.iter().filter(|(name, _)| !name.contains(".lora_")) {
        let Some(layer) = name.strip_suffix(".weight") else { continue };
        let parts: Vec<String> = match layer.rsplit_once('.') {
            Some((above, "to_qkv")) => ["to_q", "to_k", "to_v"].map(|part| format!("{above}.{part}")).to_vec(),
            Some((above, "to_kv")) => ["to_k", "to_v"].map(|part| format!("{above}.{part}")).to_vec(),
            _ => vec![layer.to_string()],
        };
        if weights.contains(&format!("{}.lora_A.weight", parts[0])) {
            let added = parts.iter().map(|part| merged(&weights, part, scale)).collect::<Result<Vec<_>>>()?;
            whole.insert(name, (value.to_host()? + Tensor::cat(&added, 0)?)?);
        }
    }
    let run = |model, weights| Ok::<_, latte_model::Error>(inputs.run(model, weights, &Tape::inference())?.to_host()?);
    let expected = run(&base, &whole)?;
    assert_close(&run(&model, &weights)?, &expected, 1e-4)?;
    assert!(assert_close(&run(&base, &weights)?, &expected, 0.05).is_err());
    Ok(())
}

#[test]
fn gradients_of_adapters_agree_with_finite_differences() -> Result<()> {
    for injection in [Injection::SAdaln, Injection::AllTokens] {
        let mut adaptation = adapters(1.5);
        if injection == Injection::AllTokens {
            adaptation = Adaptation::new().adapt("mlp.fc2", 3, 1.5).adapt("attn.qkv", 2, 0.5);
        }
        let model = Latte::new(LatteConfig { injection, ..tiny() })?;
        gradients::check_model(&model.adapted(&adaptation)?, 1)?;
        // Only adapters are trained: as many gradients as matrices.
        let model = model.adapted(&adaptation.freeze(""))?;
        let trainable = model.trainable();
        assert!(!trainable.is_empty() && trainable.iter().all(|name| name.contains(".lora_")), "{trainable:?}");
        gradients::check_model(&model, 0)?;
        let found = pass(&model, &busy_weights(&model)?, Tape::recording())?.1;
        let names = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(names(found.into_iter().map(|(name, _)| name).collect()), names(trainable));
    }
    Ok(())
}

#[test]
fn gradients_of_adapters_of_joined_layers_agree_with_finite_differences() -> Result<()> {
    let model = LatteT2v::new(tiny_t2v())?.adapted(&adapters_of_t2v(1.5))?;
    let all = model.init(&mut TorchRng::new(1))?.len();
    assert_eq!(t2v_gradients::check(&model, &Inputs::new(3, true)?)?, all);
    Ok(())
}

#[test]
fn unknown_parameters_and_layers_are_refused() -> Result<()> {
    let model = Latte::new(tiny())?;
    for (adaptation, expected) in [
        (Adaptation::new().freeze("blocks.7"), "no parameter begins with `blocks.7`"),
        (Adaptation::new().freeze("blocks.0.mlp.fc"), "no parameter begins with `blocks.0.mlp.fc`"),
        (Adaptation::new().adapt("fc3", 2, 1.0), "no linear layer ends with `fc3`"),
        (Adaptation::new().adapt("fc1", 0, 1.0), "`fc1`: expected a rank of at least 1 and a finite scale, got 0 and 1"),
        (Adaptation::new().adapt("fc1", 1, f64::NAN), "got 1 and NaN"),
    ] {
        let message = model.adapted(&adaptation).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    Ok(())
}
