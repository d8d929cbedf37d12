//! Gradients of the whole network against finite differences, for every combination of the axes.

use super::*;

/// Moves every parameter along one random direction at a time and compares the change of a weighted sum of the output with the
/// change that the gradient predicts.
fn check(config: LatteConfig, num_images: usize) -> Result<()> {
    check_model(&Latte::new(config)?, num_images)
}

/// [`check`] for all parameters that training updates.
pub(super) fn check_model(model: &Latte, num_images: usize) -> Result<()> {
    const STEP: f64 = 1.0 / 256.0;
    let described = format!("{:?}, {num_images} images", model.config());
    let weights = busy_weights(model)?;
    let x = pseudo_random(&[2, 4 + num_images, 2, 4, 6], 5)?;
    let image_labels = [2, 3, 0, 1];
    let input = Input {
        labels: Some(&[0, 3]),
        image_labels: (num_images > 0).then_some(&image_labels[..2 * num_images]),
        num_images,
        ..Input::new(&x, &[30.0, 800.0])
    };
    let tape = Tape::recording();
    let y = model.forward(&tape, &weights, &input)?;
    let direction_of_output = pseudo_random(y.dims(), 11)?;
    let gradients = tape.backward(&y, &direction_of_output)?;
    let loss = |weights: &Parameters| -> Result<f64> {
        let y = forward(model, weights, &input)?;
        let (y, d) = (y.flatten_all()?.to_vec1::<f32>()?, direction_of_output.flatten_all()?.to_vec1::<f32>()?);
        Ok(y.iter().zip(&d).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
    };
    for (i, spec) in model.parameters().iter().enumerate().filter(|(_, s)| s.is_trainable()) {
        let direction = pseudo_random(&spec.shape, i as u64 + 100)?;
        let gradient =
            gradients.parameter(&spec.name).unwrap_or_else(|| panic!("{described}: no gradient of {}", spec.name)).to_host()?;
        let predicted = f64::from((&gradient * &direction)?.sum_all()?.to_scalar::<f32>()?);
        let moved = |step: f64| -> Result<f64> {
            let mut moved = weights.clone();
            moved.insert(spec.name.clone(), (weights.get(&spec.name)?.to_host()? + (&direction * step)?)?);
            loss(&moved)
        };
        let measured = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
        // Compared with the gradient's length, because a random direction may be almost orthogonal to the gradient.
        let length = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
        let error = (predicted - measured).abs() / length.max(predicted.abs()).max(0.05);
        assert!(error < 0.02, "{described}: {}: predicted {predicted}, measured {measured}", spec.name);
    }
    Ok(())
}

#[test]
fn gradients_of_every_combination_agree_with_finite_differences() -> Result<()> {
    all_combinations().into_iter().try_for_each(|config| check(config, 0))
}

#[test]
fn gradients_with_joint_images_agree_with_finite_differences() -> Result<()> {
    for block_layout in LAYOUTS {
        check(LatteConfig { block_layout, ..tiny() }, 2)?;
    }
    check(LatteConfig { injection: Injection::AllTokens, ..tiny() }, 1)?;
    check(LatteConfig { patch_embedding: PatchEmbedding::CompressionFrame { tubelet: 2 }, ..tiny() }, 1)
}

#[test]
fn recomputed_blocks_give_the_same_gradients_bit_for_bit() -> Result<()> {
    for block_layout in LAYOUTS {
        let model = Latte::new(LatteConfig { block_layout, ..tiny() })?;
        let weights = busy_weights(&model)?;
        let x = pseudo_random(&[2, 4, 2, 4, 6], 5)?;
        let input = Input { labels: Some(&[0, 3]), ..Input::new(&x, &[30.0, 800.0]) };
        let run = |recompute: bool| -> Result<Vec<(String, Vec<f32>)>> {
            let tape = Tape::recording().with_recompute(recompute);
            let y = model.forward(&tape, &weights, &input)?;
            let gradients = tape.backward(&y, pseudo_random(y.dims(), 11)?)?.into_parameters()?;
            gradients.iter().map(|(name, t)| Ok((name.to_string(), t.to_host()?.flatten_all()?.to_vec1()?))).collect()
        };
        assert_eq!(run(false)?, run(true)?, "{block_layout:?}");
    }
    Ok(())
}
