//! The panels of one plot have the same range of steps.

use crate::case;

/// The texts of an svg with their positions: `(x, y, text)`.
fn texts(svg: &str) -> Vec<(f64, f64, String)> {
    let attribute = |tag: &str, name: &str| tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
    let text = |part: &str| -> Option<(f64, f64, String)> {
        let (tag, rest) = part.split_once('>')?;
        let tag = format!(" {tag}");
        Some((attribute(&tag, "x")?, attribute(&tag, "y")?, rest.split('<').next()?.to_string()))
    };
    svg.split("<text").skip(1).filter_map(text).collect()
}

#[test]
fn a_step_has_the_same_position_in_every_panel() {
    let place = case("plot-axes");
    let drawn = place.ok(&["plot", "run", "--metric", "loss,fvd", "--out", "c.svg", "--out", "c.png"]);
    // In the terminal, both panels have the same line of steps below them.
    let lines: Vec<&str> = drawn.lines().collect();
    let steps: Vec<&str> = lines.windows(2).filter(|pair| pair[0].contains("+---")).map(|pair| pair[1]).collect();
    assert!(steps.len() == 2 && steps[0] == steps[1] && steps[0].contains('0'), "{drawn}");
    // The scores begin at step 139, to the right of the middle.
    let fvd = lines.iter().skip_while(|line| !line.contains("fvd")).skip(1);
    let first = fvd.filter_map(|line| line.find('o')).min().unwrap();
    assert!(first > 11 + 69 / 2, "{drawn}");
    // In the file, the steps below the panels have the same positions.
    let svg = std::fs::read_to_string(place.path("c.svg")).unwrap();
    let numbers: Vec<(f64, f64, String)> = texts(&svg).into_iter().filter(|(.., text)| text == "100" || text == "200").collect();
    let under = |step: &str| numbers.iter().filter(|(.., text)| text == step).map(|(x, ..)| *x).collect::<Vec<f64>>();
    for step in ["100", "200"] {
        let xs = under(step);
        assert!(xs.iter().filter(|x| **x > 80.0).count() >= 2, "{step}: {numbers:?}");
        let below: Vec<f64> = xs.into_iter().filter(|x| *x > 80.0).collect();
        assert!(below.iter().all(|x| *x == below[0]), "{step}: {below:?}");
    }
}
