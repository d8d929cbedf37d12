//! NAL units of a coded picture of H.264 and H.265 in MP4 and Matroska, each preceded by its length.

/// The NAL units of a sample, up to the first that is cut off.
pub(super) fn split(data: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_at_checked(length_size)?;
        let length = length.iter().fold(0_usize, |n, &b| n << 8 | b as usize);
        let (nal, after) = after.split_at_checked(length)?;
        rest = after;
        (length_size > 0).then_some(nal)
    })
}

/// `Some` if the NAL units with their lengths fill `data` exactly.
pub(super) fn lengths_end_at(data: &[u8], length_size: usize) -> Option<()> {
    let mut rest = data;
    while !rest.is_empty() {
        let (length, after) = rest.split_at_checked(length_size)?;
        let length = length.iter().fold(0_usize, |n, &b| n << 8 | b as usize);
        rest = after.get(length..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::lengths_end_at;

    #[test]
    fn lengths_must_fill_the_sample() {
        assert!(lengths_end_at(&[0, 0, 0, 2, 7, 7, 0, 0, 0, 1, 9], 4).is_some());
        assert!(lengths_end_at(&[0, 0, 0, 2, 7, 7, 0, 0, 0, 2, 9], 4).is_none());
        assert!(lengths_end_at(&[0, 0, 0], 4).is_none());
        assert!(lengths_end_at(&[1, 9], 1).is_some());
    }
}
