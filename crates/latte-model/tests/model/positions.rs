//! Positions are computed for the actual shape; a checkpoint's own positions are used if the shape is the same.

use super::*;

fn run(model: &Latte, weights: &Parameters, x: &Tensor) -> Result<Tensor> {
    forward(model, weights, &Input { labels: Some(&[1]), ..Input::new(x, &[300.0]) })
}

#[test]
fn stored_positions_are_used_for_their_own_shape_only() -> Result<()> {
    let model = Latte::new(tiny())?;
    let weights = busy_weights(&model)?;
    let mut moved = weights.clone();
    moved.insert("pos_embed", (weights.get("pos_embed")?.to_host()? + 0.5)?);
    let mut moved_in_time = weights.clone();
    // Not a constant, which the norm would remove.
    moved_in_time.insert("temp_embed", (weights.get("temp_embed")?.to_host()? * 3.0)?);

    let same = pseudo_random(&[1, 4, 2, 4, 6], 3)?;
    let turned = pseudo_random(&[1, 4, 2, 6, 4], 3)?; // as many tokens, another grid
    let longer = pseudo_random(&[1, 6, 2, 4, 6], 3)?;
    let moves = |weights_b: &Parameters, x: &Tensor| -> Result<bool> {
        Ok(largest(&(run(&model, &weights, x)? - run(&model, weights_b, x)?)?)? > 0.0)
    };
    assert!(moves(&moved, &same)? && !moves(&moved, &turned)? && moves(&moved, &longer)?);
    assert!(moves(&moved_in_time, &same)? && moves(&moved_in_time, &turned)? && !moves(&moved_in_time, &longer)?);
    Ok(())
}

#[test]
fn weights_without_stored_positions_give_the_same() -> Result<()> {
    let model = Latte::new(tiny())?;
    let weights = busy_weights(&model)?;
    let mut bare = weights.clone();
    bare.remove("pos_embed");
    bare.remove("temp_embed");
    assert_eq!(model.check(&bare), Ok(()));
    let x = pseudo_random(&[1, 4, 2, 4, 6], 3)?;
    assert_eq!(largest(&(run(&model, &weights, &x)? - run(&model, &bare, &x)?)?)?, 0.0);
    Ok(())
}
