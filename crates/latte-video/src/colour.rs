//! Conversion between Y'CbCr and RGB.
//!
//! The conversion to RGB does what ffmpeg's `-pix_fmt rgb24` does, so that both decoders give the same pixels: a colour matrix that
//! the file does not name is BT.601 for any size, the range is limited unless the file says full, and each chroma sample applies to
//! all its pixels (no interpolation, except in [`write_rgb_interpolated`]). Integers are rounded like swscale on x86, which makes
//! the two decoders equal to the last bit there, and about one level darker than exact arithmetic.

/// The matrix between RGB and Y'CbCr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matrix {
    Identity,
    Bt601,
    Bt709,
    Fcc,
    Smpte240,
    Bt2020,
}

impl Matrix {
    /// The luma weights of red and blue (ITU-T H.273, table 4).
    fn weights(self) -> (f64, f64) {
        match self {
            Self::Bt601 | Self::Identity => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Fcc => (0.30, 0.11),
            Self::Smpte240 => (0.212, 0.087),
            Self::Bt2020 => (0.2627, 0.0593),
        }
    }
}

/// The colour description of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Colour {
    pub(crate) matrix: Option<Matrix>,
    pub(crate) full_range: Option<bool>,
}

impl Colour {
    /// From the `matrix_coefficients` code of ITU-T H.273 and the range flag. A cleared flag may mean unspecified.
    pub(crate) fn from_codes(matrix: u8, full_range: bool) -> Self {
        let matrix = match matrix {
            0 => Some(Matrix::Identity),
            1 => Some(Matrix::Bt709),
            4 => Some(Matrix::Fcc),
            5 | 6 => Some(Matrix::Bt601),
            7 => Some(Matrix::Smpte240),
            9 | 10 => Some(Matrix::Bt2020),
            _ => None,
        };
        Self { matrix, full_range: full_range.then_some(true) }
    }

    /// The fields of `stronger`, or those of `self` where `stronger` has none.
    pub(crate) fn overridden_by(self, stronger: Self) -> Self {
        Self { matrix: stronger.matrix.or(self.matrix), full_range: stronger.full_range.or(self.full_range) }
    }
}

/// The planes of a picture, row-major without padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes<'a, T> {
    pub(crate) data: [&'a [T]; 3],
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Bits per sample.
    pub(crate) depth: u32,
    /// log2 of luma samples per chroma sample: [horizontally, vertically].
    pub(crate) subsampling: [u32; 2],
}

/// Fraction bits of swscale's factors, before and after truncation to 16 bits.
const FRACTION: u32 = 16;
const SHORT_FRACTION: u32 = 13;

/// Factors of the conversion in the format of swscale's vector code: 3 fraction bits of the samples and 13 of the factors make 16,
/// which are cut off (rounded down) from each product before the sum.
struct Factors {
    luma: i16,
    luma_offset: i16,
    red_from_cr: i16,
    green_from_cb: i16,
    green_from_cr: i16,
    blue_from_cb: i16,
}

impl Factors {
    fn new(colour: Colour) -> Self {
        let (kr, kb) = colour.matrix.unwrap_or(Matrix::Bt601).weights();
        let kg = 1.0 - kr - kb;
        let full = colour.full_range.unwrap_or(false);
        let (luma, chroma) = if full { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |v: f64| (v * f64::from(1_u32 << SHORT_FRACTION)).round() as i16;
        let cr = 2.0 * (1.0 - kr) * chroma;
        let cb = 2.0 * (1.0 - kb) * chroma;
        Self {
            luma: fixed(luma),
            luma_offset: if full { 0 } else { 16 },
            red_from_cr: fixed(cr),
            green_from_cb: -fixed(cb * kb / kg),
            green_from_cr: -fixed(cr * kr / kg),
            blue_from_cb: fixed(cb),
        }
    }
}

/// Writes RGB, row-major `[h, w, 3]`.
pub(crate) fn write_rgb<T: Copy + Into<i32>>(planes: &Planes<'_, T>, colour: Colour, out: &mut [u8]) {
    let [sub_x, sub_y] = planes.subsampling;
    let is_rgb = colour.matrix == Some(Matrix::Identity) && planes.subsampling == [0, 0];
    if !is_rgb && (planes.depth > 8 || planes.height % 2 == 1 || planes.subsampling == [0, 0]) {
        return write_rgb_interpolated(planes, colour, out);
    }
    let f = Factors::new(colour);
    if is_rgb {
        return write_rgb_from_rgb(planes, &f, out);
    }
    // Separate rows of luma, of the chroma contributions to red, green and blue, and of the results, in 16-bit arithmetic:
    // compilers vectorise this form. All sums stay within ±1000.
    let width = planes.width;
    let chroma_width = width.div_ceil(1 << sub_x);
    let short = |v: T| v.into().min(255) as i16;
    let mut tint = [(); 3].map(|()| vec![0_i16; chroma_width << sub_x]);
    let mut light = vec![0_i16; width];
    let mut rgb = [(); 3].map(|()| vec![0_u8; width]);
    for (y, row) in out.chunks_exact_mut(width * 3).enumerate() {
        if y % (1 << sub_y) == 0 {
            let at = (y >> sub_y) * chroma_width;
            let (cb, cr) = (&planes.data[1][at..at + chroma_width], &planes.data[2][at..at + chroma_width]);
            let [red, green, blue] = &mut tint;
            let tints = red.chunks_exact_mut(1 << sub_x).zip(green.chunks_exact_mut(1 << sub_x));
            for (((red, green), blue), (&cb, &cr)) in tints.zip(blue.chunks_exact_mut(1 << sub_x)).zip(cb.iter().zip(cr)) {
                let (cb, cr) = (short(cb) - 128, short(cr) - 128);
                red.fill(scaled(cr, f.red_from_cr));
                green.fill(scaled(cb, f.green_from_cb) + scaled(cr, f.green_from_cr));
                blue.fill(scaled(cb, f.blue_from_cb));
            }
        }
        for (light, &luma) in light.iter_mut().zip(&planes.data[0][y * width..(y + 1) * width]) {
            *light = scaled(short(luma) - f.luma_offset, f.luma);
        }
        for (to, tint) in rgb.iter_mut().zip(&tint) {
            for ((to, &light), &tint) in to.iter_mut().zip(&light).zip(tint) {
                *to = (light + tint).clamp(0, 255) as u8;
            }
        }
        let [red, green, blue] = &rgb;
        for (((pixel, &r), &g), &b) in row.as_chunks_mut().0.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [r, g, b];
        }
    }
}

/// A sample times one of the [`Factors`].
fn scaled(v: i16, factor: i16) -> i16 {
    ((i32::from(v << (FRACTION - SHORT_FRACTION)) * i32::from(factor)) >> FRACTION) as i16
}

/// Converts planes that are green, blue and red already, all in the scale of luma.
fn write_rgb_from_rgb<T: Copy + Into<i32>>(planes: &Planes<'_, T>, f: &Factors, out: &mut [u8]) {
    // Samples deeper than 8 bits are rounded to 8 bits first.
    let extra = planes.depth - 8;
    let eight = |v: T| ((v.into() + ((1 << extra) >> 1)) >> extra).min(255) as i16;
    let level = |v: T| scaled(eight(v) - f.luma_offset, f.luma).clamp(0, 255) as u8;
    let [green, blue, red] = planes.data;
    for (((pixel, &r), &g), &b) in out.as_chunks_mut().0.iter_mut().zip(red).zip(green).zip(blue) {
        *pixel = [level(r), level(g), level(b)];
    }
}

/// The conversion that ffmpeg uses where its fast path does not apply (odd heights, more than 8 bits, 4:4:4): chroma is
/// interpolated bicubically in the vertical direction, and also horizontally if the width is odd.
fn write_rgb_interpolated<T: Copy + Into<i32>>(planes: &Planes<'_, T>, colour: Colour, out: &mut [u8]) {
    let [sub_x, sub_y] = planes.subsampling;
    let (chroma_width, chroma_height) = (planes.width.div_ceil(1 << sub_x), planes.height.div_ceil(1 << sub_y));
    let (kr, kb) = colour.matrix.unwrap_or(Matrix::Bt601).weights();
    let full_range = colour.full_range.unwrap_or(false);
    let (luma_gain, chroma_gain, offset) = if full_range { (1.0, 1.0, 0.0) } else { (255.0 / 219.0, 255.0 / 224.0, 16.0) };
    let (cr_gain, cb_gain) = (2.0 * (1.0 - kr) * chroma_gain, 2.0 * (1.0 - kb) * chroma_gain);
    let (cr_green, cb_green) = (cr_gain * kr / (1.0 - kr - kb), cb_gain * kb / (1.0 - kr - kb));
    let across = planes.width % 2 == 1 || planes.subsampling == [0, 0];
    let (rows, columns) = (Bicubic::axis(planes.height, chroma_height), Bicubic::axis(planes.width, chroma_width));
    let unit = f64::from(1_u32 << (planes.depth - 8));
    let level = |v: T| f64::from(v.into()) / unit;
    let chroma_row = |plane: &[T], y: usize| -> Vec<f64> {
        let at = |x: usize, row: usize| level(plane[row * chroma_width + x]);
        let column = |x: usize| if sub_y == 1 { rows[y].of(|row| at(x, row)) } else { at(x, y) };
        let narrow: Vec<f64> = (0..chroma_width).map(column).collect();
        (0..planes.width)
            .map(|x| match (across, sub_x) {
                (true, 1) => columns[x].of(|c| narrow[c]),
                (true, _) => narrow[x],
                // Without horizontal interpolation, swscale truncates to 8 bits here.
                (false, _) => (narrow[x >> sub_x] + 0.5).floor().clamp(0.0, 255.0),
            })
            .collect()
    };
    let exact = |luma: f64, cb: f64, cr: f64| {
        let (luma, cb, cr) = ((luma - offset) * luma_gain, cb - 128.0, cr - 128.0);
        [luma + cr_gain * cr, luma - cb_green * cb - cr_green * cr, luma + cb_gain * cb]
    };
    // swscale's tables have whole luma levels of chroma, rounded down around 0.
    let tabled = |luma: f64, cb: f64, cr: f64| {
        let steps = |chroma: f64, gain: f64| {
            let factor = (gain / luma_gain * 65536.0 + 0.5).floor();
            (chroma * factor / 65536.0).floor() - (factor / 512.0).floor()
        };
        let at = |index: f64| (index - offset) * luma_gain;
        [at(luma + steps(cr, cr_gain)), at(luma + steps(cb, -cb_green) + steps(cr, -cr_green)), at(luma + steps(cb, cb_gain))]
    };
    for (y, row) in out.chunks_exact_mut(planes.width * 3).enumerate() {
        let (cb, cr) = (chroma_row(planes.data[1], y), chroma_row(planes.data[2], y));
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let luma = level(planes.data[0][y * planes.width + x]);
            let rgb = if across { exact(luma, cb[x], cr[x]) } else { tabled((luma + 0.5).floor(), cb[x], cr[x]) };
            pixel.copy_from_slice(&rgb.map(|v| v.round().clamp(0.0, 255.0) as u8));
        }
    }
}

/// Four neighbouring chroma samples and their weights times 4096.
#[derive(Debug, Clone, Copy)]
struct Bicubic {
    places: [usize; 4],
    weights: [i32; 4],
}

impl Bicubic {
    /// swscale's filter (B = 0, C = 0.6) for `len` samples interpolated from `chroma_len`. It uses the ratio of the integer sizes,
    /// so an odd length shifts the chroma a little.
    fn axis(len: usize, chroma_len: usize) -> Vec<Self> {
        let weight = |d: f64| match d.abs() {
            d if d < 1.0 => 1.4 * d.powi(3) - 2.4 * d.powi(2) + 1.0,
            d if d < 2.0 => -0.6 * d.powi(3) + 3.0 * d.powi(2) - 4.8 * d + 2.4,
            _ => 0.0,
        };
        let step = chroma_len as f64 / len as f64;
        (0..len)
            .map(|i| {
                let position = (i as f64 + 0.5) * step - 0.5;
                let first = position.floor() as isize - 1;
                let neighbours = [first, first + 1, first + 2, first + 3];
                Self {
                    places: neighbours.map(|k| k.clamp(0, chroma_len as isize - 1) as usize),
                    weights: neighbours.map(|k| (weight(position - k as f64) * 4096.0).round() as i32),
                }
            })
            .collect()
    }

    fn of(&self, at: impl Fn(usize) -> f64) -> f64 {
        self.places.iter().zip(self.weights).map(|(&place, weight)| at(place) * f64::from(weight)).sum::<f64>() / 4096.0
    }
}

/// One frame in Y'CbCr 4:2:0, BT.601, limited range: planes of `[height, width]` and twice `[height/2, width/2]`.
#[derive(Debug, Default)]
pub(crate) struct Yuv420 {
    pub(crate) y: Vec<u8>,
    pub(crate) u: Vec<u8>,
    pub(crate) v: Vec<u8>,
}

impl Yuv420 {
    /// From RGB `[height, width, 3]`, both even. Rounds to nearest; chroma is the mean of each 2 × 2 block.
    pub(crate) fn from_rgb(rgb: &[u8], width: usize, height: usize) -> Self {
        let (kr, kb) = Matrix::Bt601.weights();
        let kg = 1.0 - kr - kb;
        let fixed = |v: f64| (v * f64::from(1_u32 << FRACTION)).round() as i32;
        let half = 1 << (FRACTION - 1);
        let luma = [kr, kg, kb].map(|k| fixed(k * 219.0 / 255.0));
        let chroma = 112.0 / 255.0;
        let cb = [-kr / (1.0 - kb) * chroma, -kg / (1.0 - kb) * chroma, chroma].map(fixed);
        let cr = [chroma, -kg / (1.0 - kr) * chroma, -kb / (1.0 - kr) * chroma].map(fixed);
        let dot = |k: [i32; 3], p: [i32; 3]| k[0] * p[0] + k[1] * p[1] + k[2] * p[2];
        let pixel = |x: usize, y: usize| {
            let at = (y * width + x) * 3;
            [i32::from(rgb[at]), i32::from(rgb[at + 1]), i32::from(rgb[at + 2])]
        };
        let mut out = Self::default();
        for y in 0..height {
            out.y.extend((0..width).map(|x| (((dot(luma, pixel(x, y)) + half) >> FRACTION) + 16) as u8));
        }
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
                let sum = [0, 1, 2].map(|k| four.iter().map(|p| p[k]).sum::<i32>());
                let mean = |k: [i32; 3]| (((dot(k, sum) + 2 * (1 << FRACTION)) >> (FRACTION + 2)) + 128) as u8;
                out.u.push(mean(cb));
                out.v.push(mean(cr));
            }
        }
        out
    }
}
