//! Image files: PNG and JPEG, recognised by content, not by name.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::{Clip, Error, Result, panic_guard};

/// Extensions of images that are read.
pub(crate) const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Extensions of images that are not read.
pub(crate) const OTHER_EXTENSIONS: [&str; 16] =
    ["webp", "bmp", "tif", "tiff", "heic", "heif", "avif", "jp2", "jxl", "ppm", "pgm", "exr", "tga", "dng", "jfif", "apng"];

/// Larger images are refused: a header of a few bytes must not fill the memory.
const MAX_PIXELS: u64 = 1 << 27;

/// Frame rate of a single image: that of folders of frames.
const FPS: f64 = 8.0;

/// Reads an image file (png or jpeg by content) as a clip of one frame.
///
/// # Errors
///
/// If it cannot be read, has another format, or is damaged.
pub fn read_image(path: impl AsRef<Path>) -> Result<Clip> {
    let Image { pixels, size: [width, height], .. } = read(path.as_ref())?;
    Clip::new(pixels, [1, height, width, 3], FPS)
}

/// A decoded image.
pub(crate) struct Image {
    /// RGB, `[h, w, 3]`.
    pub(crate) pixels: Vec<u8>,
    /// `[width, height]`.
    pub(crate) size: [usize; 2],
    /// `png` or `jpeg`.
    pub(crate) codec: &'static str,
}

/// Reads and decodes an image file.
pub(crate) fn read(path: &Path) -> Result<Image> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let (codec, decode): (_, fn(&[u8]) -> Decoded) = match Kind::of(&bytes) {
        Kind::Png => ("png", decode_png),
        Kind::Jpeg => ("jpeg", decode_jpeg),
        Kind::Other(what) => {
            return Err(Error::unsupported(path, format!("{what}, but images here are PNG or JPEG files; convert it")));
        }
        Kind::Unknown(what) => return Err(Error::damaged(path, format!("{what}; images here are PNG or JPEG files"))),
    };
    let (pixels, size) = panic_guard::run(|| decode(&bytes)).map_err(|e| Error::damaged(path, e))?;
    if pixels.is_empty() || pixels.len() != size[0] * size[1] * 3 {
        return Err(Error::damaged(path, format!("{} bytes for an image of {} × {}", pixels.len(), size[0], size[1])));
    }
    Ok(Image { pixels, size, codec })
}

/// The format of a file by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Png,
    Jpeg,
    /// A known format that is not read, in words.
    Other(&'static str),
    /// An unknown format, in words.
    Unknown(&'static str),
}

/// First bytes of formats that are not read, with the names of the formats.
const MAGIC: [(&[u8], &str); 18] = [
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a TIFF image"),
    (b"MM\0+", "a TIFF image"),
    (b"\xFF\x0A", "a JPEG XL image"),
    (b"\0\0\0\x0CJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0CjP  ", "a JPEG 2000 image"),
    (b"\xFF\x4F\xFF\x51", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\x76\x2F\x31\x01", "an OpenEXR image"),
    (b"qoif", "a QOI image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1F\x8B", "a gzip file"),
    (b"\x1A\x45\xDF\xA3", "a Matroska or WebM video"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file (fetch it with `git lfs pull`)"),
];

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Unknown("the file is empty");
        }
        if bytes.starts_with(b"\x89PNG\r\n\x1A\n") {
            return Self::Png;
        }
        if bytes.starts_with(b"\xFF\xD8\xFF") {
            return Self::Jpeg;
        }
        if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return Self::Other(what);
        }
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
        let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        match bytes {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', rest @ ..] => {
                // The extended form has flags; one of them marks an animation.
                let moves = rest.starts_with(b"VP8X") && rest.get(8).is_some_and(|flags| flags & 2 != 0);
                Self::Other(if moves { "an animated WebP image" } else { "a WebP image" })
            }
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', ..] => Self::Other("an AVI video"),
            [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => Self::Other(match brand.get(..4) {
                Some(b"avif" | b"avis") => "an AVIF image",
                Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => "a HEIC image",
                _ => "an MP4 or QuickTime video",
            }),
            // Two letters are too few to identify the format: the reserved header fields must be zero, too.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Self::Other("a BMP image"),
            [b'P', b'1'..=b'6', space, ..] if space.is_ascii_whitespace() => Self::Other("a PNM image (PPM, PGM, PBM)"),
            _ if begins(b"<!doctype html") || begins(b"<html") => {
                Self::Other("a web page (HTML), such as a server sends instead of a file")
            }
            _ if begins(b"<svg") || begins(b"<?xml") => Self::Other("an SVG image or another XML file"),
            _ if begins(b"{") || begins(b"[") => Self::Other("a JSON file"),
            _ if bytes.iter().take(64).all(|byte| *byte == 0) => Self::Unknown("it begins with zeros, which no image does"),
            _ => Self::Unknown("its first bytes are those of no image"),
        }
    }
}

/// RGB pixels `[h, w, 3]` and `[width, height]`.
type Decoded = std::result::Result<(Vec<u8>, [usize; 2]), String>;

fn decode_png(bytes: &[u8]) -> Decoded {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(|e| e.to_string())?;
    let [width, height] = [header.width, header.height];
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("an image of {width} × {height} pixels is not possible"));
    }
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("the image is too large")?];
    let info = reader.next_frame(&mut pixels).map_err(|e| e.to_string())?;
    pixels.truncate(info.buffer_size());
    let size = [info.width as usize, info.height as usize];
    // Transparency is dropped, as ffmpeg and PIL's convert("RGB") do.
    let pixels = match info.color_type {
        png::ColorType::Rgb => pixels,
        png::ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => pixels.iter().flat_map(|&v| [v; 3]).collect(),
        png::ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        png::ColorType::Indexed => return Err("an indexed image was not expanded".into()),
    };
    Ok((pixels, size))
}

fn decode_jpeg(bytes: &[u8]) -> Decoded {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("the image has no size")?;
    Ok((pixels, [width, height]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encode::{write_jpeg, write_png};

    #[test]
    fn a_header_alone_does_not_fill_the_memory() {
        let mut file = Vec::new();
        png::Encoder::new(&mut file, 300_000, 300_000).write_header().unwrap();
        let said = decode_png(&file).unwrap_err();
        assert!(said.contains("300000 × 300000"), "{said}");
    }

    #[test]
    fn the_content_decides_about_the_format_not_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let pixels = [90; 8 * 4 * 3];
        for name in ["a.png", "a.jpg", "a.jpeg", "a.PNG", "a.webp", "a"] {
            let path = dir.path().join(name);
            write_png(&path, &pixels, 8, 4).unwrap();
            let image = read(&path).unwrap();
            assert_eq!((image.codec, image.size, image.pixels.as_slice()), ("png", [8, 4], pixels.as_slice()), "{name}");
            fs::remove_file(&path).unwrap();
            write_jpeg(&path, &pixels, 8, 4, 95).unwrap();
            let image = read(&path).unwrap();
            assert_eq!((image.codec, image.size), ("jpeg", [8, 4]), "{name}");
            assert!(image.pixels.iter().all(|value| value.abs_diff(90) <= 2), "{name}");
            assert_eq!(read_image(&path).unwrap().pixels(), image.pixels);
        }
    }

    #[test]
    fn other_formats_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, said) in [
            (b"GIF89a\x01\0\x01\0".as_slice(), "a GIF,"),
            (b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0", "a WebP image,"),
            (b"RIFF\x24\0\0\0WEBPVP8L\x18\0\0\0", "a WebP image,"),
            (b"RIFF\x24\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0", "an animated WebP image,"),
            (b"RIFF\x24\0\0\0WEBPVP8X\x0A\0\0\0\x10\0\0\0", "a WebP image,"),
            (b"RIFF\x24\0\0\0AVI LIST", "an AVI video"),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", "a BMP image"),
            (b"II*\0\x08\0\0\0", "a TIFF image"),
            (b"MM\0*\0\0\0\x08", "a TIFF image"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC image"),
            (b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF image"),
            (b"\0\0\0\x20ftypisom\0\0\x02\0", "an MP4 or QuickTime video"),
            (b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL image"),
            (b"\xFF\x0A\xFA\x7F", "a JPEG XL image"),
            (b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image"),
            (b"P6\n2 2\n255\n", "a PNM image"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"\n <HTML>", "a web page"),
            (b"\xEF\xBB\xBF<html>", "a web page"),
            (b"<svg xmlns='x'>", "an SVG image"),
            (b"{\"message\": \"Not Found\"}", "a JSON file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"%PDF-1.7", "a PDF document"),
            (b"", "damaged or cut off: the file is empty"),
            (&[0; 100], "begins with zeros"),
            (b"BMW is a car, and this is text", "its first bytes are those of no image"),
        ] {
            let path = dir.path().join("x.png");
            fs::write(&path, bytes).unwrap();
            let error = read(&path).err().unwrap().to_string();
            assert!(error.contains("x.png: ") && error.contains(said) && error.contains("PNG or JPEG"), "{said}: {error}");
        }
    }

    proptest! {
        /// Any bytes give an image or one clear error.
        #[test]
        fn no_bytes_panic(at in 0_usize..20, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let all = MAGIC.get(at).map_or(Vec::new(), |(magic, _)| magic.to_vec()).into_iter().chain(bytes).collect::<Vec<u8>>();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.jpg");
            fs::write(&path, all).unwrap();
            prop_assert!(read(&path).err().is_none_or(|e| e.to_string().contains("x.jpg")));
        }
    }
}
