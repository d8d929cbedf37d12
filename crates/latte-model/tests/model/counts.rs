//! Parameter counts and names.

use super::*;

fn trainable(config: LatteConfig) -> Result<usize> {
    Ok(Latte::new(config)?.num_trainable())
}

#[test]
fn presets_have_the_published_counts() -> Result<()> {
    let expected = [
        ("Latte-S/2", 32_480_672),
        ("B/2", 129_547_040),
        ("L/2", 456_815_648),
        ("Latte-XL/2", 673_681_568),
        ("XL/4", 673_847_552),
        ("XL/8", 674_511_488),
    ];
    for (name, count) in expected {
        assert_eq!(trainable(LatteConfig::preset(name)?)?, count, "{name}");
    }
    assert_eq!(LatteConfig::preset_names().len(), 12);
    assert!(LatteConfig::preset_names().iter().all(|name| LatteConfig::preset(name).is_ok()));
    assert!(LatteConfig::preset("Latte-XL/3").is_err() && LatteConfig::preset("XXL/2").is_err());
    Ok(())
}

#[test]
fn stored_positions_and_class_tables_count_as_published() -> Result<()> {
    let stored = |config: LatteConfig| -> Result<usize> {
        Ok(Latte::new(config)?.parameters().iter().map(|s| s.shape.iter().product::<usize>()).sum())
    };
    assert_eq!(stored(LatteConfig::preset("XL/2")?)?, 673_994_912);
    assert_eq!(stored(LatteConfig::preset("S/2")?)?, 32_585_120);
    let condition = Condition::Class { num_classes: 101, dropout: 0.1 };
    assert_eq!(stored(LatteConfig { condition, ..LatteConfig::preset("XL/2")? })?, 674_112_416);
    Ok(())
}

#[test]
fn layouts_have_as_many_parameters_within_one_per_cent_at_xl() -> Result<()> {
    let xl = LatteConfig::preset("XL/2")?;
    let count = |layout| trainable(xl.clone().with_layout(layout));
    assert_eq!(count(BlockLayout::Interleaved)?, count(BlockLayout::LateFusion)?);
    let one = count(BlockLayout::Interleaved)? as f64;
    for layout in [BlockLayout::FactorisedAttention, BlockLayout::SplitHeads] {
        let ratio = count(layout)? as f64 / one;
        assert!((ratio - 1.0).abs() < 0.01, "{layout:?}: {ratio}");
    }
    // 23 blocks with one modulation for both attentions give the published 676.36 M.
    assert_eq!(xl.clone().with_layout(BlockLayout::FactorisedAttention).depth, 23);
    assert_eq!((count(BlockLayout::FactorisedAttention)? as f64 / 1e4).round(), 67_636.0);
    for name in LatteConfig::preset_names() {
        let config = LatteConfig::preset(&name)?;
        let there_and_back = config.clone().with_layout(BlockLayout::FactorisedAttention).with_layout(BlockLayout::Interleaved);
        assert_eq!(there_and_back, config);
    }
    Ok(())
}

#[test]
fn embeddings_injections_and_positions_change_the_count_by_their_own_weights() -> Result<()> {
    let base = tiny();
    let (d, c, p, out) = (8, 2, 2, 4);
    let difference = |config: LatteConfig| -> Result<i64> { Ok(trainable(config)? as i64 - trainable(tiny())? as i64) };
    // One more frame per patch, and the transposed convolution [out, out, 2, 1, 1] with its bias.
    let tubelets = PatchEmbedding::CompressionFrame { tubelet: 2 };
    assert_eq!(difference(LatteConfig { patch_embedding: tubelets, ..base.clone() })?, d * c * p * p + out * out * 2 + out);
    // Two norms of 2·d per block and one at the end instead of 6·d and 2·d outputs of a linear layer from d.
    let tokens = 2 * (4 * d - 6 * (d * d + d)) + 2 * d - 2 * (d * d + d);
    assert_eq!(difference(LatteConfig { injection: Injection::AllTokens, ..base.clone() })?, tokens);
    // Positions are fixed in both cases.
    assert_eq!(difference(LatteConfig { temporal_position: TemporalPosition::Rope, ..base.clone() })?, 0);
    assert_eq!(difference(LatteConfig { condition: Condition::Class { num_classes: 3, dropout: 0.0 }, ..base })?, -d);
    Ok(())
}

#[test]
fn tensors_that_do_not_fit_are_listed() -> Result<()> {
    let model = Latte::new(tiny())?;
    let mut weights = busy_weights(&model)?;
    assert_eq!(model.check(&weights), Ok(()));
    weights.remove("blocks.0.attn.qkv.bias");
    weights.insert("blocks.9.attn.qkv.bias", pseudo_random(&[24], 1)?);
    weights.insert("final_layer.linear.bias", pseudo_random(&[3], 1)?);
    let message = model.check(&weights).err().unwrap_or_default();
    for part in ["`blocks.0.attn.qkv.bias` is missing", "`blocks.9.attn.qkv.bias` is not known", "[16] but is [3]"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    Ok(())
}
