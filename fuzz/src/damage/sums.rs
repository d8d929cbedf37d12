//! Corrects checksums and lengths after a change: otherwise most damage would never get past the first check of a reader.

fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Corrects the checksums of all headers of a tar archive.
pub(crate) fn tar(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Sets the length of the header to the end of its outermost bracket.
pub(crate) fn safetensors(bytes: &mut [u8]) {
    let (mut depth, mut in_text) = (0_usize, false);
    let end = bytes.iter().skip(8).position(|byte| {
        match byte {
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    if let Some(end) = end {
        bytes[..8].copy_from_slice(&(end as u64 + 1).to_le_bytes());
    }
}

/// Corrects the checksums of uncompressed entries, in their headers and in the central directory.
pub(crate) fn zip(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize, width: usize| {
        let digits = bytes.get(at..at + width)?;
        Some(digits.iter().rev().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    };
    let listed: Vec<usize> = (0..bytes.len().saturating_sub(46)).filter(|at| &bytes[*at..at + 4] == b"PK\x01\x02").collect();
    for at in listed {
        let sum = || {
            let (local, len) = (number(bytes, at + 42, 4)?, number(bytes, at + 20, 4)?);
            let start = local + 30 + number(bytes, local + 26, 2)? + number(bytes, local + 28, 2)?;
            Some((local, crc(bytes.get(start..start.checked_add(len)?)?)))
        };
        if let Some((local, sum)) = sum().filter(|_| number(bytes, at + 10, 2) == Some(0)) {
            bytes[at + 16..at + 20].copy_from_slice(&sum);
            bytes[local + 14..local + 18].copy_from_slice(&sum);
        }
    }
}

/// Corrects the checksums of all chunks of a png.
pub(crate) fn png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(len) = bytes.get(at..at + 4).and_then(|len| len.first_chunk()).map(|len| u32::from_be_bytes(*len) as usize) {
        let end = at + 8 + len;
        let Some(chunk) = bytes.get(at + 4..end) else { return };
        let sum = u32::from_le_bytes(crc(chunk)).to_be_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
}
