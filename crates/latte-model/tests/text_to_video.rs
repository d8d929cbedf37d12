//! Properties of the text-to-video transformer that no golden file covers.

use candle_core::{D, Device, Tensor};
use latte_model::guidance::{Guidance, GuidedChannels};
use latte_model::model::t2v::{LatteT2v, PromptEmbeddings, T2vConfig, T2vDenoiser, T2vInput, text_bias};
use latte_model::noise::TorchRng;
use latte_model::weights::TensorSource;
use latte_model::{Denoiser, Result};
use latte_ops::{PackedWeightCache, Parameters, Precision, Tape};

fn tiny() -> Result<(LatteT2v, Parameters, TorchRng)> {
    let model = LatteT2v::new(T2vConfig {
        num_attention_heads: 2,
        attention_head_dim: 8,
        num_layers: 2,
        cross_attention_dim: 16,
        sample_size: 8,
        caption_channels: 6,
        video_length: 4,
        ..T2vConfig::latte_1()
    })?;
    let mut rng = TorchRng::new(1);
    let parameters = model.init(&mut rng)?;
    Ok((model, parameters, rng))
}

fn run(model: &LatteT2v, parameters: &Parameters, x: &Tensor, text: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let tape = Tape::inference();
    let context = model.context(&tape, parameters, text, bias)?;
    let times = vec![300.0; x.dims()[0]];
    let input = T2vInput { x, timesteps: &times, text: &context, temporal: true };
    Ok(model.forward(&tape, parameters, &input)?.to_host()?)
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.flatten_all()?.max(D::Minus1)?.to_scalar()?)
}

#[test]
fn masked_tokens_have_no_effect() -> Result<()> {
    let (model, parameters, mut rng) = tiny()?;
    let x = rng.randn((1, 3, 4, 4, 6))?; // [b, f, c, h, w]
    let text = rng.randn((1, 5, 6))?; // [b, l, caption_channels]
    let mask = Tensor::new(&[[1f32, 1., 1., 0., 0.]], &Device::Cpu)?;
    let masked = run(&model, &parameters, &x, &text, Some(&text_bias(&mask)?))?;
    let cut = run(&model, &parameters, &x, &text.narrow(1, 0, 3)?.contiguous()?, None)?;
    assert!(distance(&masked, &cut)? < 1e-5);
    assert!(distance(&masked, &run(&model, &parameters, &x, &text, None)?)? > 1e-3, "the mask changed nothing");
    Ok(())
}

#[test]
fn clips_of_a_batch_do_not_see_each_other_and_guidance_1_is_the_prompt_alone() -> Result<()> {
    let (model, parameters, mut rng) = tiny()?;
    let x = rng.randn((2, 2, 4, 4, 4))?;
    let (text, negative) = (rng.randn((2, 5, 6))?, rng.randn((2, 5, 6))?);
    let both = run(&model, &parameters, &x, &text, None)?;
    for i in 0..2 {
        let alone = run(&model, &parameters, &x.narrow(0, i, 1)?.contiguous()?, &text.narrow(0, i, 1)?.contiguous()?, None)?;
        assert!(distance(&alone, &both.narrow(0, i, 1)?)? < 1e-5);
    }
    let guided = |scale: f64| -> Result<Tensor> {
        let texts = |text| PromptEmbeddings { text, mask: None };
        let guidance = Some((texts(&negative), Guidance::new(scale, GuidedChannels::All)));
        let denoiser = T2vDenoiser::new(&model, &parameters, texts(&text), guidance, Precision::F32, &PackedWeightCache::new())?;
        denoiser.predict(&x, &[300.0; 2])
    };
    assert!(distance(&guided(1.0)?, &both)? < 1e-4);
    assert!(distance(&guided(0.0)?, &run(&model, &parameters, &x, &negative, None)?)? < 1e-4);
    assert!(distance(&guided(2.0)?, &both)? > 1e-3);
    Ok(())
}

/// At timesteps without guidance the network gets the prompts only, with their masks.
#[test]
fn outside_its_interval_guidance_has_no_effect() -> Result<()> {
    let (model, parameters, mut rng) = tiny()?;
    let x = rng.randn((2, 2, 4, 4, 4))?;
    let (text, negative) = (rng.randn((2, 5, 6))?, rng.randn((2, 5, 6))?);
    let mask = Tensor::new(&[[1f32, 1., 1., 0., 0.], [1., 1., 1., 1., 0.]], &Device::Cpu)?;
    let prompt = PromptEmbeddings { text: &text, mask: Some(&mask) };
    let predict = |guidance: Option<Guidance>, timestep: f64| -> Result<Tensor> {
        let guidance = guidance.map(|guidance| (PromptEmbeddings { text: &negative, mask: None }, guidance));
        T2vDenoiser::new(&model, &parameters, prompt, guidance, Precision::F32, &PackedWeightCache::new())?
            .predict(&x, &[timestep; 2])
    };
    let always = Guidance::new(3.0, GuidedChannels::All);
    let early = Guidance { interval: Some([500.0, 999.0]), ..always.clone() };
    assert!(distance(&predict(Some(early.clone()), 300.0)?, &predict(None, 300.0)?)? < 1e-5);
    assert_eq!(distance(&predict(Some(early), 600.0)?, &predict(Some(always.clone()), 600.0)?)?, 0.0);
    assert!(distance(&predict(Some(always), 300.0)?, &predict(None, 300.0)?)? > 1e-3);
    Ok(())
}

#[test]
fn frames_and_sizes_other_than_those_of_training_work() -> Result<()> {
    let (model, parameters, mut rng) = tiny()?;
    let text = rng.randn((1, 3, 6))?;
    for [f, h, w] in [[1, 2, 2], [1, 8, 8], [5, 2, 14], [16, 6, 4]] {
        let x = rng.randn((1, f, 4, h, w))?;
        assert_eq!(run(&model, &parameters, &x, &text, None)?.dims(), [1, f, 8, h, w]);
    }
    for shape in [(1, 2, 4, 3, 4), (1, 2, 3, 4, 4), (1, 0, 4, 4, 4)] {
        let x = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?;
        let message = run(&model, &parameters, &x, &text, None).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("[b, f, 4, h, w]"), "{shape:?}: {message}");
    }
    Ok(())
}

#[test]
fn weights_that_do_not_fit_are_listed() -> Result<()> {
    let (model, _, _) = tiny()?;
    let all: Parameters = model
        .parameters()
        .iter()
        .map(|spec| Ok((spec.name.clone(), Tensor::zeros(spec.shape.clone(), candle_core::DType::F32, &Device::Cpu)?)))
        .collect::<Result<_>>()?;
    assert_eq!(all.names().len(), model.parameters().len());
    assert_eq!(model.check(&all), Ok(()));
    let mut wrong = all.clone();
    wrong.remove("proj_out.bias");
    wrong.insert("transformer_blocks.0.attn1.to_q.bias", Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?);
    wrong.insert("something", Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?);
    let message = model.check(&wrong).err().unwrap_or_default();
    for part in ["`proj_out.bias` is missing", "attn1.to_q.bias` should be [16] but is [3]", "`something` is not known"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(model.load(&wrong).is_err());
    // Positions that old files store are computed instead of read.
    let mut old = all;
    old.insert("pos_embed.pos_embed", Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?);
    assert_eq!(model.check(&old), Ok(()));
    Ok(())
}

#[test]
fn the_published_model_has_the_published_size() -> Result<()> {
    let model = LatteT2v::new(T2vConfig::latte_1())?;
    let count: usize = model.parameters().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
    assert_eq!(count, 1_057_246_880);
    Ok(())
}
