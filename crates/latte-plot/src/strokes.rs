//! Letters as strokes of a pen, for pictures that are made of lines only; they are smooth at any size.
//!
//! A glyph stands in a grid of 12 rows from the top of capitals (0) to the baseline (12 = `c`); small letters begin at 4, and
//! tails end at 16 (`g`). A point is two digits of base 17, column and row. Strokes are separated by spaces: a plain one goes
//! straight from point to point; `~` makes a curve that begins and ends at its outer points and is drawn towards those between; `o` makes
//! a closed curve.

/// Rows from the top of capitals to the baseline.
const ROWS: f64 = 12.0;
/// The height of capitals, as a part of a font's size.
const CAPITALS: f64 = 0.72;
/// Columns between two letters.
const GAP: f64 = 3.2;
/// How often a curve's corners are cut.
const CUTS: usize = 3;

/// Character, width in columns, strokes.
const GLYPHS: &[(char, u8, &str)] = &[
    (' ', 3, ""),
    ('0', 8, "o00808c0c"),
    ('1', 5, "03303c"),
    ('2', 8, "~030080850c 0c8c"),
    ('3', 8, "~0200707636 ~36868c0c0a"),
    ('4', 8, "600888 606c"),
    ('5', 8, "701006 ~0624848c0c0a"),
    ('6', 8, "~70000c8c850508"),
    ('7', 8, "00803c"),
    ('8', 8, "o10707616 o06868c0c"),
    ('9', 8, "~1c8c8000078784"),
    ('.', 1, "0b0c"),
    (',', 2, "1b0e"),
    (':', 1, "0506 0b0c"),
    ('-', 7, "1767"),
    ('+', 8, "0787 434b"),
    ('=', 8, "0585 0989"),
    ('_', 8, "0d8d"),
    ('/', 6, "0d60"),
    ('\\', 6, "006d"),
    ('%', 10, "0ca0 o00404505 o67a7ac6c"),
    ('(', 3, "~30073e"),
    (')', 3, "~00370e"),
    ('[', 3, "30000e3e"),
    (']', 3, "00303e0e"),
    ('?', 7, "~020070763639 3b3c"),
    ('a', 7, "o04747c0c 747c"),
    ('b', 7, "000c o04747c0c"),
    ('c', 7, "~7674040c7c7a"),
    ('d', 7, "707c o04747c0c"),
    ('e', 7, "0878 ~7874040c7c7a"),
    ('f', 5, "~502025 252c 0454"),
    ('g', 7, "o04747c0c 747c ~7c7g0g"),
    ('h', 7, "000c ~09047478 787c"),
    ('i', 2, "141c 1011"),
    ('j', 3, "242c ~2c2g0g 2021"),
    ('k', 6, "000c 6409 376c"),
    ('l', 2, "101c"),
    ('m', 11, "040c ~09045458 585c ~5954a4a8 a8ac"),
    ('n', 7, "040c ~09047478 787c"),
    ('o', 7, "o04747c0c"),
    ('p', 7, "040g o04747c0c"),
    ('q', 7, "747g o04747c0c"),
    ('r', 5, "040c ~090454"),
    ('s', 6, "~66640408686c0c0a"),
    ('t', 5, "2029 ~292c5c 0454"),
    ('u', 7, "0408 ~080c7c77 747c"),
    ('v', 6, "043c64"),
    ('w', 10, "042c548ca4"),
    ('x', 6, "046c 640c"),
    ('y', 6, "043c 642f"),
    ('z', 6, "04640c6c"),
    ('A', 8, "0c408c 1979"),
    ('B', 8, "000c 0030 ~30707636 3606 ~36868c3c 3c0c"),
    ('C', 8, "~8380000c8c89"),
    ('D', 8, "000c 0030 ~30808c3c 3c0c"),
    ('E', 7, "70000c7c 0666"),
    ('F', 7, "70000c 0666"),
    ('G', 8, "~8380000c8c87 8757"),
    ('H', 8, "000c 808c 0686"),
    ('I', 2, "101c"),
    ('J', 6, "6068 ~686c0c09"),
    ('K', 8, "000c 8007 348c"),
    ('L', 7, "000c7c"),
    ('M', 10, "0c0058a0ac"),
    ('N', 8, "0c008c80"),
    ('O', 9, "o00909c0c"),
    ('P', 8, "000c 0040 ~40808747 4707"),
    ('Q', 9, "o00909c0c 699d"),
    ('R', 8, "000c 0040 ~40808747 4707 478c"),
    ('S', 8, "~83800006868c0c09"),
    ('T', 8, "0080 404c"),
    ('U', 8, "0007 ~070c8c87 8780"),
    ('V', 8, "004c80"),
    ('W', 12, "003c619cc0"),
    ('X', 8, "008c 800c"),
    ('Y', 8, "004680 464c"),
    ('Z', 8, "00800c8c"),
];

/// How wide `text` is in a font of `size` pixels.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let columns: f64 = text.chars().map(|c| f64::from(glyph(c).0) + GAP).sum();
    (columns - GAP).max(0.0) * unit(size)
}

/// The lines of `text` that begins at `x` on the baseline `y`, in a font of `size` pixels.
pub(super) fn text_lines(text: &str, [x, y]: [f64; 2], size: f64) -> Vec<Vec<[f64; 2]>> {
    let unit = unit(size);
    let mut column = 0.0;
    let mut lines = Vec::new();
    for character in text.chars() {
        let (width, strokes) = glyph(character);
        for stroke in strokes.split_whitespace() {
            let place = |[c, row]: [f64; 2]| [x + (column + c) * unit, y + (row - ROWS) * unit];
            lines.push(points(stroke).into_iter().map(place).collect());
        }
        column += f64::from(width) + GAP;
    }
    lines
}

/// Pixels of a row of the grid.
fn unit(size: f64) -> f64 {
    size * CAPITALS / ROWS
}

/// What the font lacks is a question mark.
fn glyph(character: char) -> (u8, &'static str) {
    let find = |wanted: char| GLYPHS.iter().find(|(c, _, _)| *c == wanted).map(|(_, width, strokes)| (*width, *strokes));
    find(character).or_else(|| find('?')).unwrap_or((0, ""))
}

/// The points of a stroke, `[column, row]`.
fn points(stroke: &str) -> Vec<[f64; 2]> {
    let (digits, closed, curved) = match stroke.strip_prefix('o') {
        Some(digits) => (digits, true, true),
        None => (stroke.trim_start_matches('~'), false, stroke.starts_with('~')),
    };
    let numbers: Vec<f64> = digits.chars().filter_map(|c| c.to_digit(17)).map(f64::from).collect();
    let mut points: Vec<[f64; 2]> = numbers.chunks_exact(2).map(|p| [p[0], p[1]]).collect();
    for _ in 0..if curved { CUTS } else { 0 } {
        points = with_cut_corners(&points, closed);
    }
    if closed {
        points.extend(points.first().copied());
    }
    points
}

/// A quarter of each edge is cut off at its ends; an open line keeps its outer points. Again and again, that gives a quadratic
/// spline.
fn with_cut_corners(points: &[[f64; 2]], closed: bool) -> Vec<[f64; 2]> {
    let mix = |a: [f64; 2], b: [f64; 2], t: f64| [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])];
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else { return Vec::new() };
    let mut edges: Vec<[[f64; 2]; 2]> = points.windows(2).map(|p| [p[0], p[1]]).collect();
    if closed {
        edges.push([last, first]);
    }
    let cut: Vec<[f64; 2]> = edges.iter().flat_map(|[a, b]| [mix(*a, *b, 0.25), mix(*a, *b, 0.75)]).collect();
    if closed { cut } else { [&[first], cut.as_slice(), &[last]].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_is_within_its_cell() {
        for (character, width, strokes) in GLYPHS {
            for stroke in strokes.split_whitespace() {
                let digits = stroke.trim_start_matches(['o', '~']);
                assert!(digits.len() >= 4 && digits.len().is_multiple_of(2), "{character}: {stroke}");
                assert!(digits.chars().all(|c| c.is_digit(17)), "{character}: {stroke}");
                for [column, row] in points(stroke) {
                    assert!((0.0..=f64::from(*width)).contains(&column) && (0.0..=16.0).contains(&row), "{character}: {stroke}");
                }
            }
        }
        let mut characters: Vec<char> = GLYPHS.iter().map(|(c, _, _)| *c).collect();
        characters.sort_unstable();
        characters.dedup();
        assert_eq!(characters.len(), GLYPHS.len());
        let needed = "0123456789.-+_/:=()%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ";
        assert!(needed.chars().all(|c| characters.contains(&c)));
    }

    #[test]
    fn text_is_as_wide_as_its_lines() {
        let lines = text_lines("loss/H", [10.0, 20.0], 12.0);
        let right = lines.iter().flatten().map(|[x, _]| *x).fold(0.0, f64::max);
        assert!((right - 10.0 - text_width("loss/H", 12.0)).abs() < 1e-9, "{right}");
        let lowest = lines.iter().flatten().map(|[_, y]| *y).fold(0.0, f64::max);
        let highest = lines.iter().flatten().map(|[_, y]| *y).fold(99.0, f64::min);
        // The slash reaches a row below the baseline.
        assert!((lowest - 20.0 - unit(12.0)).abs() < 1e-9 && (20.0 - highest - 12.0 * CAPITALS).abs() < 1e-9);
        assert_eq!((text_width("", 12.0), text_width("é", 12.0)), (0.0, text_width("?", 12.0)));
    }
}
