//! The role of a coded picture in its stream.

/// The role of a coded picture: which other pictures can be decoded from it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// All pictures after it in the file can be decoded from it on.
    Closed,
    /// All pictures that are shown after it can be decoded from it on.
    Open,
    /// As `Open`, but its leading pictures cannot be decoded even if the pictures before it exist (a broken link of H.265).
    Broken,
    /// It refers to no other picture, but those after it may refer to pictures before it.
    Intra,
    /// A gradual refresh: the picture is complete after that many further reference pictures.
    Refresh(u32),
    /// A leading picture of H.265 that refers to pictures before the key frame.
    Skipped,
    /// A picture of H.265 that follows its key frame in both orders: no leading pictures come after it.
    Trailing,
    /// Any other picture.
    Other,
}
