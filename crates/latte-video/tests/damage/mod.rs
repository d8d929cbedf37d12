//! Files with changed bytes, some of them cut off.

/// Random numbers below the argument, from a seed.
pub(crate) fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

/// `whole` with changed bytes, more in later rounds; every fifth time it is also cut off.
pub(crate) fn damaged(whole: &[u8], round: usize, random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=round % 6 * 4 {
        let at = random(bytes.len());
        bytes[at] = random(256) as u8;
    }
    if round % 5 == 4 {
        bytes.truncate(random(whole.len()));
    }
    bytes
}
