//! Images beside the clip: spatial layers and the final layer only.

use super::*;

#[test]
fn images_do_not_touch_the_clip_nor_each_other_and_a_clip_alone_is_the_same() -> Result<()> {
    for config in all_combinations() {
        let described = format!("{config:?}");
        let model = Latte::new(config)?;
        let weights = busy_weights(&model)?;
        let x = pseudo_random(&[2, 7, 2, 4, 6], 3)?; // 4 frames and 3 images
        let joint = |x: &Tensor| {
            let input = Input {
                labels: Some(&[1, 2]),
                image_labels: Some(&[0, 1, 2, 3, 0, 1]),
                num_images: 3,
                ..Input::new(x, &[300.0, 20.0])
            };
            forward(&model, &weights, &input)
        };
        let out = joint(&x)?;
        assert_eq!(out.dims(), [2, 7, 4, 4, 6], "{described}");
        let clip = x.narrow(1, 0, 4)?.contiguous()?;
        let alone = forward(&model, &weights, &Input { labels: Some(&[1, 2]), ..Input::new(&clip, &[300.0, 20.0]) })?;
        assert!(largest(&(out.narrow(1, 0, 4)? - alone)?)? < 1e-4, "{described}: the clip is what it is alone");

        let changed = Tensor::cat(&[x.narrow(1, 0, 4)?, (x.narrow(1, 4, 1)? + 1.0)?, x.narrow(1, 5, 2)?], 1)?;
        let difference = (joint(&changed)? - out)?;
        assert!(largest(&difference.narrow(1, 4, 1)?)? > 1e-3, "{described}: the changed image");
        assert_eq!(largest(&difference.narrow(1, 5, 2)?)?, 0.0, "{described}: the other images");
        assert_eq!(largest(&difference.narrow(1, 0, 4)?)?, 0.0, "{described}: the clip");
    }
    Ok(())
}

#[test]
fn each_image_has_its_own_label() -> Result<()> {
    let model = Latte::new(tiny())?;
    let weights = busy_weights(&model)?;
    let x = pseudo_random(&[1, 6, 2, 4, 6], 3)?;
    let run = |image_labels: &[u32]| {
        let input = Input { labels: Some(&[1]), image_labels: Some(image_labels), num_images: 2, ..Input::new(&x, &[300.0]) };
        forward(&model, &weights, &input)
    };
    let difference = (run(&[0, 2])? - run(&[0, 3])?)?;
    assert_eq!(largest(&difference.narrow(1, 0, 5)?)?, 0.0);
    assert!(largest(&difference.narrow(1, 5, 1)?)? > 1e-3);
    Ok(())
}
