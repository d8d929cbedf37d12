//! The values of tensors, to compare runs bit for bit.

use latte_ops::Parameters;

/// The bits of all values, in the order of the parameters.
pub(crate) fn bits(set: &Parameters) -> Vec<u32> {
    let flat = |t: &latte_ops::Value| t.to_host().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    set.iter().flat_map(|(_, t)| flat(t)).map(f32::to_bits).collect()
}
