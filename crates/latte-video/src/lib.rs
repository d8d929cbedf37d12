//! Video files in and out: decode, clip windows, transforms, encode.
