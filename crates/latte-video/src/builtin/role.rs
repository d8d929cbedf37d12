//! What a coded picture means for others.

/// What a coded picture means for the pictures after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything after it in the file can be decoded from here on.
    Closed,
    /// Everything that is shown after it can be decoded from here on.
    Open,
    /// As `Open`; leading pictures cannot even be decoded where the pictures before it are there (a broken link of H.265).
    Broken,
    /// It needs no other picture, but those after it may refer to pictures before it.
    Intra,
    /// The whole picture is there after that many further reference pictures.
    Refresh(u32),
    /// A leading picture of H.265 that needs pictures before the key frame.
    Skipped,
    /// A picture of H.265 that follows its key frame in both orders: no leading ones come after it.
    Trailing,
    /// Any other.
    Other,
}
