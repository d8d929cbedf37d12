//! The generator: values that PyTorch publishes, exact saving, independent forks.

use latte_model::noise::{RngState, TorchRng};

/// Draws of every kind: two generators with the same draws have the same state.
fn mixed_draws(rng: &mut TorchRng) -> Vec<f64> {
    let mut values = vec![rng.uniform_f64()];
    values.extend(rng.randn_f32(3).iter().map(|&v| f64::from(v))); // odd: leaves a cached value
    values.extend(rng.randn_f32(37).iter().map(|&v| f64::from(v)));
    values.extend(rng.rand_f32(5).iter().map(|&v| f64::from(v)));
    values.extend(rng.randperm(7).iter().map(|&v| v as f64));
    values
}

#[test]
fn torch_documented_values() -> latte_model::Result<()> {
    let rand: Vec<f32> = TorchRng::new(0).rand_f32(3).iter().map(|v| (v * 1e4).round() / 1e4).collect();
    assert_eq!(rand, [0.4963, 0.7682, 0.0885]);
    assert_eq!(TorchRng::new(0).randint(0, 10, 5)?, [4, 9, 3, 0, 3]);
    assert_eq!(TorchRng::new(0).randperm(10), [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]);
    Ok(())
}

#[test]
fn a_saved_generator_continues_exactly() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = TorchRng::new(3407);
    for round in 0..40 {
        mixed_draws(&mut rng);
        let text = serde_json::to_string(&rng.state())?;
        let mut restored = TorchRng::from_state(&serde_json::from_str::<RngState>(&text)?)?;
        assert_eq!(restored, rng);
        assert_eq!(mixed_draws(&mut restored), mixed_draws(&mut rng), "round {round}");
    }
    // The cached normal is part of the state: without it the next small draw would differ.
    let mut rng = TorchRng::new(1);
    rng.randn_f32(1);
    let mut restored = TorchRng::from_state(&rng.state())?;
    assert_eq!(restored.randn_f32(2), rng.randn_f32(2));
    Ok(())
}

#[test]
fn a_damaged_state_is_refused() -> Result<(), Box<dyn std::error::Error>> {
    let mut json = serde_json::to_value(TorchRng::new(0).state())?;
    json["words"].as_array_mut().expect("an array").pop();
    let state: RngState = serde_json::from_value(json)?;
    let message = TorchRng::from_state(&state).expect_err("623 words").to_string();
    assert!(message.contains("624 words") && message.contains("623"), "{message}");
    Ok(())
}

#[test]
fn forks_depend_on_seed_and_stream_only() {
    let mut used = TorchRng::new(7);
    mixed_draws(&mut used);
    let draws = |rng: &TorchRng, stream| mixed_draws(&mut rng.fork(stream));
    assert_eq!(draws(&used, 3), draws(&TorchRng::new(7), 3));
    let all = [
        draws(&used, 0),
        draws(&used, 1),
        draws(&used, 1 << 40),
        draws(&TorchRng::new(8), 0),
        draws(&TorchRng::new(7 | 1 << 32), 0),
        draws(&used.fork(0), 0),
        draws(&used.fork(0), 1),
        mixed_draws(&mut TorchRng::new(7)),
    ];
    for (i, a) in all.iter().enumerate() {
        for b in &all[..i] {
            assert!(a.iter().zip(b).filter(|(x, y)| x == y).count() < 8, "two streams are the same");
        }
    }
}

#[test]
fn normal_values_are_normal() {
    let mut rng = TorchRng::new(12).fork(5);
    let n = 200_000;
    let values: Vec<f64> = rng.randn_f32(n).iter().map(|&v| f64::from(v)).collect();
    let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / n as f64;
    // Four standard errors of each moment.
    let bound = |variance: f64| 4.0 * (variance / n as f64).sqrt();
    assert!(moment(1).abs() < bound(1.0));
    assert!((moment(2) - 1.0).abs() < bound(2.0));
    assert!(moment(3).abs() < bound(15.0));
    assert!((moment(4) - 3.0).abs() < bound(96.0));
}

#[test]
fn integers_fill_their_range() -> latte_model::Result<()> {
    let mut rng = TorchRng::new(2);
    let drawn = rng.randint(-3, 4, 10_000)?;
    for value in -3..4 {
        let count = drawn.iter().filter(|&&v| v == value).count();
        assert!((1200..1660).contains(&count), "{value}: {count}");
    }
    assert!(drawn.iter().all(|v| (-3..4).contains(v)));
    assert!(rng.randint(0, 1 << 40, 100)?.iter().any(|&v| v > 1 << 32));
    assert!(rng.randint(5, 5, 1).is_err());
    Ok(())
}
