//! Recognises files whose content does not match their name (Git LFS pointers, web pages, …).

/// Checks `bytes`, the whole file or its beginning; if they are clearly none of a model's files, returns what they are and what to
/// do.
///
/// One check for all files of a model's folder: weights, configurations, tokenizers.
pub fn mixed_up(bytes: &[u8]) -> Option<&'static str> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TOLD_BY)]);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins_text = |with: &str| text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    if begins(b"version https://git-lfs") || begins(b"version https://hawser.github.com") {
        Some("is a Git LFS pointer, not the file itself; fetch the file with `git lfs pull`")
    } else if begins(b"/annex/objects/") || begins(b"../.git/annex/objects/") || begins(b".git/annex/objects/") {
        Some("is a git-annex pointer, not the file itself; fetch the file with `git annex get`")
    } else if ["<!doctype", "<html", "<head", "<?xml"].iter().any(|tag| begins_text(tag)) {
        Some("is a web page, not the file itself; download the file again, from the link that gives the file")
    } else if begins(b"\x1f\x8b") {
        Some("is compressed by gzip; unpack it first")
    } else if begins(b"\x28\xb5\x2f\xfd") {
        Some("is compressed by zstd; unpack it first")
    } else if begins(b"\xfd7zXZ\0") || begins(b"BZh") {
        Some("is compressed by xz or bzip2; unpack it first")
    } else if begins(b"7z\xbc\xaf\x27\x1c") || begins(b"Rar!\x1a\x07") {
        Some("is an archive; unpack it first")
    } else if bytes.get(257..262) == Some(b"ustar") {
        Some("is a tar archive; unpack it first")
    } else {
        None
    }
}

/// The number of leading bytes that are searched for the beginning of a web page.
const TOLD_BY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mixup_is_recognised_and_files_of_models_pass() {
        let mut tar = vec![0u8; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, told) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n"[..], "git lfs pull"),
            (b"/annex/objects/SHA256E-s3--aa", "git annex get"),
            (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "web page"),
            (b"<HTML><body>404", "web page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "web page"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (&tar, "tar archive"),
        ] {
            assert!(mixed_up(bytes).is_some_and(|what| what.contains(told)), "{told}: {:?}", mixed_up(bytes));
        }
        for bytes in
            [&b"{\"a\": 1}"[..], b"PK\x03\x04", b"\x80\x02\x8a\x0a", b"\x10\0\0\0\0\0\0\0{}", b"\x0a\x0e\x0a\x05<unk>", b""]
        {
            assert_eq!(mixed_up(bytes), None);
        }
    }
}
