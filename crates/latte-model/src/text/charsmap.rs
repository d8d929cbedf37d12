//! Checks SentencePiece's table of character replacements before use, because the crate that reads it does not check it.

/// Checks that no walk through the table leaves it; the error says what is wrong.
///
/// The table is the length in bytes of a double-array trie (u32, little-endian), the trie's units (u32 each), and the
/// replacements, each ended by a zero byte. A unit holds the label of the edge that leads to it (lowest byte, and highest bit
/// for units that hold a value), whether its node has a value (bit 8), and the exclusive-or distance to its children (bits 10
/// to 30, shifted left by 8 if bit 9 is set). This is the layout of the `darts-clone` library, as SentencePiece stores it.
pub(super) fn check(charsmap: &[u8]) -> Result<(), String> {
    let (length, rest) = charsmap.split_first_chunk::<4>().ok_or("is shorter than its own length")?;
    let length = u32::from_le_bytes(*length) as usize;
    let (trie, replacements) =
        rest.split_at_checked(length).ok_or_else(|| format!("is cut off: its trie should have {length} bytes"))?;
    let (units, []) = trie.as_chunks::<4>() else { return Err(format!("has a trie of {length} bytes, no multiple of 4")) };
    if units.is_empty() {
        return Err("has an empty trie".into());
    }
    let replacements = std::str::from_utf8(replacements).map_err(|e| format!("has replacements that are no UTF-8 ({e})"))?;
    for (index, unit) in units.iter().enumerate() {
        let unit = u32::from_le_bytes(*unit) as usize;
        if unit >> 31 == 1 && index > 0 {
            continue; // a value, which has no children; the root has children whatever its bits say
        }
        let children = index ^ ((unit >> 10) << ((unit & 1 << 9) >> 6));
        // A child is at `children ^ byte`, for any byte.
        if children | 0xff >= units.len() {
            return Err(format!("leads outside at unit {index} of {}", units.len()));
        }
        let has_value = unit >> 8 & 1 == 1;
        let value = u32::from_le_bytes(units[children]) as usize & !(1 << 31);
        if has_value && !replacements.is_char_boundary(value) {
            return Err(format!("has a replacement at byte {value}, where none begins"));
        }
    }
    Ok(())
}

/// Decodes standard Base64; `None` if `text` is not Base64.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with one edge `a` to a value: "b".
    fn table(value: u32) -> Vec<u8> {
        let mut units = [0u32; 512];
        units[0] = 256 << 10; // children from unit 256 on
        units[256 ^ usize::from(b'a')] = u32::from(b'a') | 1 << 8; // has a value, at offset 0 of its children
        let node = 256 ^ usize::from(b'a');
        units[node] |= 1 << 10;
        units[node ^ 1] = value | 1 << 31;
        let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend("xé\0b\0".bytes());
        bytes
    }

    #[test]
    fn a_sound_table_passes_and_each_kind_of_damage_is_found() {
        assert_eq!(check(&table(4)), Ok(()));
        let message = |bytes: &[u8]| check(bytes).err().unwrap_or_default();
        assert!(message(&table(2)).contains("byte 2"), "inside a character");
        assert!(message(&table(7)).contains("byte 7"), "beyond the end");
        assert!(message(&table(4)[..100]).contains("cut off"));
        assert!(message(&[0, 0]).contains("shorter"));
        assert!(message(&[0; 4]).contains("empty"));
        assert!(message(&[3, 0, 0, 0, 1, 2, 3]).contains("no multiple"));
        let mut outside = table(4);
        outside[4 + 3] = 0x7f;
        assert!(message(&outside).contains("leads outside at unit 0"));
        let mut value_as_root = table(4);
        value_as_root[4 + 3] = 0xff;
        assert!(message(&value_as_root).contains("leads outside at unit 0"));
        let mut no_text = table(4);
        no_text.push(0xff);
        assert!(message(&no_text).contains("UTF-8"));
    }

    #[test]
    fn base64_is_the_standard_one() {
        let of = |text| from_base64(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(of("TWFueSBoYW5k"), Some("Many hand".into()));
        assert_eq!(of("TWE="), Some("Ma".into()));
        assert_eq!(of("TQ=="), Some("M".into()));
        assert_eq!(from_base64("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!([of("TQ="), of("TWE*"), of("T==="), of("")], [None, None, None, Some(String::new())]);
    }
}
