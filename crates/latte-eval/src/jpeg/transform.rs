//! The integer DCT of JPEG blocks and its inverse, by the algorithm of Loeffler, Ligtenberg and Moschytz with 11 multiplications
//! per eight values. Rounding is part of the result, so both follow the order of operations of libjpeg's accurate transform
//! (`islow`).

/// Height and width of a block.
pub(super) const BLOCK: usize = 8;
/// A block in row-major order.
pub(super) type Block = [i32; BLOCK * BLOCK];

/// Fraction bits of the factors.
const PLACES: u32 = 13;
/// Fraction bits that values keep between rows and columns.
const KEPT: u32 = 2;

/// A factor with [`PLACES`] fraction bits.
const fn factor(value: f64) -> i32 {
    (value * (1 << PLACES) as f64 + 0.5) as i32
}

/// Removes fraction bits, rounding halves up.
fn shortened(value: i32, places: u32) -> i32 {
    (value + (1 << (places - 1))) >> places
}

/// The indices of each row or column of a block.
fn lines(of_rows: bool) -> impl Iterator<Item = [usize; BLOCK]> {
    (0..BLOCK).map(move |line| std::array::from_fn(|i| if of_rows { line * BLOCK + i } else { i * BLOCK + line }))
}

/// The odd part of either direction, from four values; results are not rounded.
fn odd(values: [i32; 4]) -> [i32; 4] {
    let [a, b, c, d] = values;
    let both = (a + c + b + d) * factor(1.175_875_602);
    let ad = -(a + d) * factor(0.899_976_223);
    let bc = -(b + c) * factor(2.562_915_447);
    let ac = both - (a + c) * factor(1.961_570_560);
    let bd = both - (b + d) * factor(0.390_180_644);
    [
        a * factor(0.298_631_336) + ad + ac,
        b * factor(2.053_119_869) + bc + bd,
        c * factor(3.072_711_026) + bc + ac,
        d * factor(1.501_321_110) + ad + bd,
    ]
}

/// The coefficients of a block, scaled by eight.
pub(super) fn forward(block: &mut Block) {
    for of_rows in [true, false] {
        let last = if of_rows { PLACES - KEPT } else { PLACES + KEPT };
        for at in lines(of_rows) {
            let v = at.map(|i| block[i]);
            let sums: [i32; 4] = std::array::from_fn(|i| v[i] + v[7 - i]);
            let differences: [i32; 4] = std::array::from_fn(|i| v[i] - v[7 - i]);
            let [a, b] = [sums[0] + sums[3], sums[1] + sums[2]];
            let [c, d] = [sums[1] - sums[2], sums[0] - sums[3]];
            let whole = |value: i32| if of_rows { value << KEPT } else { shortened(value, KEPT) };
            block[at[0]] = whole(a + b);
            block[at[4]] = whole(a - b);
            let common = (c + d) * factor(0.541_196_100);
            block[at[2]] = shortened(common + d * factor(0.765_366_865), last);
            block[at[6]] = shortened(common - c * factor(1.847_759_065), last);
            let [d0, d1, d2, d3] = differences;
            for (place, value) in [7, 5, 3, 1].into_iter().zip(odd([d3, d2, d1, d0])) {
                block[at[place]] = shortened(value, last);
            }
        }
    }
}

/// The values of a block from its coefficients.
pub(super) fn backward(block: &mut Block) {
    for of_rows in [false, true] {
        let last = if of_rows { PLACES + KEPT + 3 } else { PLACES - KEPT };
        for at in lines(of_rows) {
            let v = at.map(|i| block[i]);
            let common = (v[2] + v[6]) * factor(0.541_196_100);
            let [c, d] = [common - v[6] * factor(1.847_759_065), common + v[2] * factor(0.765_366_865)];
            let [a, b] = [(v[0] + v[4]) << PLACES, (v[0] - v[4]) << PLACES];
            let even = [a + d, b + c, b - c, a - d];
            let [o0, o1, o2, o3] = odd([v[7], v[5], v[3], v[1]]);
            for (i, (even, odd)) in even.into_iter().zip([o3, o2, o1, o0]).enumerate() {
                block[at[i]] = shortened(even + odd, last);
                block[at[7 - i]] = shortened(even - odd, last);
            }
        }
    }
}
