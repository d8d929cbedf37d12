//! Counts NaN and infinite values, which a diverged training run or an overflow in half precision leaves in weights.

use super::stored::{RawTensor, StoredDtype};

impl RawTensor<'_> {
    /// The number of values that are NaN or infinite; 0 for integers.
    pub fn num_not_finite(&self) -> usize {
        let bytes = &*self.bytes;
        match self.dtype {
            StoredDtype::F64 | StoredDtype::C128 => count(bytes, |v| !f64::from_le_bytes(v).is_finite()),
            StoredDtype::F32 | StoredDtype::C64 => count(bytes, |v| !f32::from_le_bytes(v).is_finite()),
            // All bits of the exponent are set.
            StoredDtype::F16 => count(bytes, |v| u16::from_le_bytes(v) & 0x7c00 == 0x7c00),
            StoredDtype::Bf16 => count(bytes, |v| u16::from_le_bytes(v) & 0x7f80 == 0x7f80),
            StoredDtype::F8E5m2 => count(bytes, |[v]: [u8; 1]| v & 0x7c == 0x7c),
            // This dtype has no infinity, and one NaN of each sign.
            StoredDtype::F8E4m3 => count(bytes, |[v]: [u8; 1]| v & 0x7f == 0x7f),
            _ => 0,
        }
    }
}

fn count<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> usize {
    bytes.as_chunks::<N>().0.iter().filter(|value| is_bad(**value)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_own_values_that_are_no_numbers() {
        let told = |dtype, bytes: &[u8]| RawTensor { dtype, shape: vec![], bytes: bytes.into() }.num_not_finite();
        let f32s: Vec<u8> =
            [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(told(StoredDtype::F32, &f32s), 3);
        let f64s: Vec<u8> = [f64::NAN, f64::MIN].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!((told(StoredDtype::F64, &f64s), told(StoredDtype::I64, &f64s)), (1, 0));
        let halves = |values: &[u16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(told(StoredDtype::F16, &halves(&[0x7c00, 0xfe00, 0x7bff, 0x3c00])), 2);
        assert_eq!(told(StoredDtype::Bf16, &halves(&[0x7f80, 0xffc0, 0x7f7f, 0x3f80])), 2);
        assert_eq!(told(StoredDtype::F8E5m2, &[0x7c, 0xfd, 0x7b]), 2);
        assert_eq!(told(StoredDtype::F8E4m3, &[0x7f, 0xff, 0x7e]), 2);
    }
}
