//! Shapes of all combinations, and the effect of embeddings, injections and positions.

use super::*;

#[test]
fn every_combination_gives_the_shape_of_its_input() -> Result<()> {
    for config in all_combinations() {
        let model = Latte::new(config.clone())?;
        let weights = busy_weights(&model)?;
        // The configured shape; another frame count; other sizes, square and not.
        for (frames, h, w) in [(4, 4, 6), (6, 4, 6), (2, 8, 2), (4, 2, 2), (8, 6, 6)] {
            let x = pseudo_random(&[2, frames, 2, h, w], 5)?;
            let y = forward(&model, &weights, &Input { labels: Some(&[0, 3]), ..Input::new(&x, &[0.0, 999.0]) })?;
            assert_eq!(y.dims(), [2, frames, 4, h, w], "{config:?}");
            assert!(largest(&y)? > 1e-3 && largest(&y)?.is_finite(), "{config:?}");
        }
    }
    Ok(())
}

#[test]
fn fresh_weights_predict_zero() -> Result<()> {
    for config in all_combinations() {
        let model = Latte::new(config)?;
        let weights = model.init(&mut latte_model::noise::TorchRng::new(0))?;
        let x = pseudo_random(&[1, 4, 2, 4, 6], 5)?;
        assert_eq!(largest(&forward(&model, &weights, &Input { labels: Some(&[0]), ..Input::new(&x, &[5.0]) })?)?, 0.0);
    }
    Ok(())
}

#[test]
fn timestep_class_and_text_reach_the_output_by_both_injections() -> Result<()> {
    for injection in [Injection::SAdaln, Injection::AllTokens] {
        let model = Latte::new(LatteConfig { injection, ..tiny() })?;
        let weights = busy_weights(&model)?;
        let x = pseudo_random(&[1, 4, 2, 4, 6], 5)?;
        let run = |t: f64, y: u32| forward(&model, &weights, &Input { labels: Some(&[y]), ..Input::new(&x, &[t]) });
        assert!(largest(&(run(10.0, 0)? - run(700.0, 0)?)?)? > 1e-3);
        assert!(largest(&(run(10.0, 0)? - run(10.0, 2)?)?)? > 1e-3);

        let model = Latte::new(LatteConfig { injection, condition: Condition::Text { length: 3, width: 4 }, ..tiny() })?;
        let weights = busy_weights(&model)?;
        let run = |seed: u64| {
            let text = pseudo_random(&[1, 3, 4], seed)?;
            forward(&model, &weights, &Input { text: Some(&text), ..Input::new(&x, &[10.0]) })
        };
        assert!(largest(&(run(1)? - run(2)?)?)? > 1e-4);
    }
    Ok(())
}

#[test]
fn s_adaln_scales_and_shifts_where_all_tokens_attends() -> Result<()> {
    // With adaLN the condition has an effect even without attention and MLP: the final layer is modulated. As tokens it has an
    // effect only through attention.
    for (injection, acts) in [(Injection::SAdaln, true), (Injection::AllTokens, false)] {
        let model = Latte::new(LatteConfig { injection, ..tiny() })?;
        let mut weights = busy_weights(&model)?;
        for name in model.parameters().iter().map(|s| &s.name).filter(|n| n.contains("attn.proj")) {
            let zeros = weights.get(name)?.zeros_like()?;
            weights.insert(name.clone(), zeros);
        }
        let x = pseudo_random(&[1, 4, 2, 4, 6], 5)?;
        let run = |y: u32| forward(&model, &weights, &Input { labels: Some(&[y]), ..Input::new(&x, &[10.0]) });
        assert_eq!(largest(&(run(0)? - run(2)?)?)? > 0.0, acts, "{injection:?}");
    }
    Ok(())
}

#[test]
fn a_tubelet_mixes_its_frames_and_a_frame_patch_does_not() -> Result<()> {
    // Without temporal attention, frame 0 can reach frame 1 only through a shared tubelet, and never frame 2.
    for (patch_embedding, shared) in
        [(PatchEmbedding::UniformFrame, false), (PatchEmbedding::CompressionFrame { tubelet: 2 }, true)]
    {
        let model = Latte::new(LatteConfig { patch_embedding, ..tiny() })?;
        let mut weights = busy_weights(&model)?;
        for part in ["weight", "bias"] {
            let name = format!("blocks.1.attn.proj.{part}");
            let zeros = weights.get(&name)?.zeros_like()?;
            weights.insert(name, zeros);
        }
        assert_eq!(influence_on(&model, &weights, 1)? > 0.0, shared, "{patch_embedding:?}");
        assert_eq!(influence_on(&model, &weights, 2)?, 0.0, "{patch_embedding:?}");
    }
    Ok(())
}

#[test]
fn permuting_frames_shows_with_either_temporal_position_and_not_without() -> Result<()> {
    let order = [2u32, 0, 3, 1];
    let x = pseudo_random(&[1, 4, 2, 4, 6], 5)?;
    let gap = |model: &Latte, weights: &Parameters| -> Result<f32> {
        let run = |x: &Tensor| forward(model, weights, &Input { labels: Some(&[1]), ..Input::new(x, &[10.0]) });
        largest(&(frames_in_order(&run(&x)?, &order)? - run(&frames_in_order(&x, &order)?)?)?)
    };
    for temporal_position in [TemporalPosition::Absolute, TemporalPosition::Rope] {
        for layout in LAYOUTS {
            let model = Latte::new(LatteConfig { temporal_position, block_layout: layout, ..tiny() })?;
            let weights = busy_weights(&model)?;
            assert!(gap(&model, &weights)? > 1e-4, "{temporal_position:?} {layout:?}");
            if temporal_position == TemporalPosition::Absolute {
                // With a table of zeros as positions, order must not matter.
                let mut blind = weights.clone();
                blind.insert("temp_embed", weights.get("temp_embed")?.zeros_like()?);
                assert!(gap(&model, &blind)? < 1e-4, "{layout:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn permuting_tokens_shows_with_spatial_positions_only() -> Result<()> {
    let model = Latte::new(tiny())?;
    let weights = busy_weights(&model)?;
    let mut blind = weights.clone();
    blind.insert("pos_embed", weights.get("pos_embed")?.zeros_like()?);
    let x = pseudo_random(&[1, 4, 2, 4, 6], 5)?;
    // Swap the first and the last column of patches (2 wide).
    let swap =
        |x: &Tensor| -> Result<Tensor> { Ok(Tensor::cat(&[x.narrow(4, 4, 2)?, x.narrow(4, 2, 2)?, x.narrow(4, 0, 2)?], 4)?) };
    for (weights, shows) in [(&weights, true), (&blind, false)] {
        let run = |x: &Tensor| forward(&model, weights, &Input { labels: Some(&[1]), ..Input::new(x, &[10.0]) });
        let gap = largest(&(swap(&run(&x)?)? - run(&swap(&x)?)?)?)?;
        assert_eq!(gap > 1e-4, shows, "{gap}");
    }
    Ok(())
}

#[test]
fn input_that_does_not_fit_is_refused() -> Result<()> {
    let model = Latte::new(tiny())?;
    let weights = busy_weights(&model)?;
    let ok = pseudo_random(&[1, 4, 2, 4, 6], 5)?;
    let refused = |x: &Tensor, labels: Option<&[u32]>, expected: &str| {
        let message = forward(&model, &weights, &Input { labels, ..Input::new(x, &[10.0]) }).err().map(|e| e.to_string());
        assert!(message.as_ref().is_some_and(|m| m.contains(expected)), "{message:?} lacks {expected}");
    };
    refused(&pseudo_random(&[1, 4, 3, 4, 6], 5)?, Some(&[0]), "[1, 4, 3, 4, 6]");
    refused(&pseudo_random(&[1, 4, 2, 5, 6], 5)?, Some(&[0]), "multiples of 2");
    refused(&pseudo_random(&[4, 2, 4, 6], 5)?, Some(&[0]), "[4, 2, 4, 6]");
    refused(&ok, Some(&[4]), "0 to 3");
    refused(&ok, None, "labels");
    Ok(())
}

#[test]
fn configurations_that_describe_no_model_are_refused() {
    let cases = [
        (LatteConfig { input_size: [5, 6], ..tiny() }, "input_size"),
        (LatteConfig { num_heads: 3, ..tiny() }, "num_heads"),
        (LatteConfig { hidden_size: 6, num_heads: 2, ..tiny() }, "hidden_size"),
        (LatteConfig { depth: 3, ..tiny() }, "depth"),
        (LatteConfig { depth: 0, ..tiny() }, "depth"),
        (LatteConfig { patch_embedding: PatchEmbedding::CompressionFrame { tubelet: 3 }, ..tiny() }, "num_frames"),
        (LatteConfig { patch_embedding: PatchEmbedding::CompressionFrame { tubelet: 0 }, ..tiny() }, "tubelet"),
        (LatteConfig { block_layout: BlockLayout::SplitHeads, num_heads: 1, ..tiny() }, "num_heads"),
        (LatteConfig { hidden_size: 12, num_heads: 4, temporal_position: TemporalPosition::Rope, ..tiny() }, "temporal_position"),
        (LatteConfig { condition: Condition::Class { num_classes: 3, dropout: 1.5 }, ..tiny() }, "dropout"),
    ];
    for (config, key) in cases {
        let message = Latte::new(config).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(key), "{message} lacks {key}");
    }
}
