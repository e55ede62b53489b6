//! A picture of a guest's screen, and the PNG of it.

/// A picture as the emulator gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// As `image/x-portable-pixmap`.
    pub media_type: String,
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("the emulator's picture is no whole {0}")]
    Broken(&'static str),
    #[error("the picture cannot be made a PNG: {0}")]
    Encoding(String),
}

const PNG: &str = "image/png";

impl Picture {
    /// Computes: not for a thread that others wait for.
    pub fn into_png(self) -> Result<Vec<u8>, PictureError> {
        if self.media_type == PNG {
            return Ok(self.bytes);
        }
        let (width, height, pixels) = pixmap(&self.bytes).ok_or(PictureError::Broken("pixmap"))?;
        let encoding = |error: png::EncodingError| PictureError::Encoding(error.to_string());
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(encoding)?;
        writer.write_image_data(pixels).map_err(encoding)?;
        writer.finish().map_err(encoding)?;
        Ok(out)
    }
}

/// Width, height and pixels of a binary PPM with a byte a colour.
fn pixmap(bytes: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (magic, mut rest) = word(bytes)?;
    let mut numbers = [0u32; 3];
    for number in &mut numbers {
        let (text, after) = word(rest)?;
        (*number, rest) = (std::str::from_utf8(text).ok()?.parse().ok()?, after);
    }
    let [width, height, most] = numbers;
    // One white space ends the head.
    let pixels = rest.get(1..)?;
    let size = usize::try_from(u64::from(width) * u64::from(height) * 3).ok()?;
    (magic == b"P6" && most == 255 && size > 0).then_some((width, height, pixels.get(..size)?))
}

/// The next word of the head, past white space and comments, and what follows it.
fn word(mut bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        match bytes.first()? {
            b'#' => {
                let end = bytes.iter().position(|b| *b == b'\n')?;
                bytes = bytes.get(end..)?;
            }
            space if space.is_ascii_whitespace() => bytes = bytes.get(1..)?,
            _ => break,
        }
    }
    let end = bytes.iter().position(u8::is_ascii_whitespace)?;
    Some(bytes.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(ppm: &[u8]) -> Result<Vec<u8>, PictureError> {
        Picture { media_type: "image/x-portable-pixmap".to_owned(), bytes: ppm.to_vec() }.into_png()
    }

    #[test]
    fn a_pixmap_becomes_a_png_of_the_same_pixels() {
        let png = png(b"P6\n# by hand\n2 1\n255\n\x0a\x20\x30\xff\xfe\xfd").expect("a PNG");
        let decoder = png::Decoder::new(std::io::Cursor::new(png));
        let mut reader = decoder.read_info().expect("a head");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!((info.width, info.height), (2, 1));
        assert_eq!(pixels[..info.buffer_size()], [10, 32, 48, 255, 254, 253]);
    }

    #[test]
    fn what_is_no_whole_pixmap_is_refused() {
        for bad in [
            &b""[..],
            b"P6",
            b"P5\n1 1\n255\n\0\0\0",
            b"P6\n1 1\n255\n\0\0",
            b"P6\n1 1\n65535\n\0\0\0",
            b"P6\n0 1\n255\n",
            b"P6\n-1 1\n255\n\0\0\0",
            b"P6\n99999 99999\n255\n\0\0\0",
        ] {
            assert!(png(bad).is_err(), "{bad:?}");
        }
    }
}
