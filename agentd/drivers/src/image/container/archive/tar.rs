//! A tar archive entry by entry, with the bytes of each header kept as they came: it may be handed on.
//!
//! ustar, pax and GNU tar's long names are understood. Every length is bounded and every number checked.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// The longest pax header, or long name.
const EXTRA_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Without a "./" before it or a "/" behind it.
    pub(super) name: String,
    pub(super) file: bool,
    pub(super) size: u64,
    /// Its headers, byte for byte.
    pub(super) head: Vec<u8>,
}

pub(super) struct Reader<R> {
    inner: R,
    /// What is left of the current entry's content, and of what fills it up.
    left: u64,
    filler: usize,
    ended: bool,
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("ends in the middle"),
        // What a decompressor says of damage.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => bad("is damaged"),
        _ => error,
    }
}

pub(super) fn padding(size: u64) -> usize {
    // Less than a block.
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, filler: 0, ended: false }
    }

    /// The next entry, or None at the archive's end. What was not read of the one before is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let left = self.left.saturating_add(self.filler as u64);
        let skipped = io::copy(&mut (&mut self.inner).take(left), &mut io::sink()).map_err(cut)?;
        if skipped < left {
            return Err(bad("ends in the middle"));
        }
        (self.left, self.filler) = (0, 0);
        let (mut head, mut long, mut pax_size) = (Vec::new(), None, None);
        loop {
            let Some(block) = self.block()? else { return Ok(None) };
            head.extend_from_slice(&block);
            let size = number(&block[124..136])?;
            match block[156] {
                letter @ (b'x' | b'g' | b'L' | b'K') => {
                    let extra = self.extra(size, &mut head)?;
                    match letter {
                        b'L' => long = Some(text_of(&extra)),
                        b'x' => {
                            for (key, value) in records(&extra)? {
                                match key {
                                    b"path" => long = Some(value.to_vec()),
                                    b"size" => pax_size = Some(decimal(value)?),
                                    _ => {}
                                }
                            }
                        }
                        _ => {}
                    }
                    if head.len() as u64 > 4 * EXTRA_MAX {
                        return Err(bad("has headers without end"));
                    }
                }
                letter => {
                    let name = long.unwrap_or_else(|| name_of(&block));
                    let file = matches!(letter, b'0' | 0 | b'7') && !name.ends_with(b"/");
                    // Links, folders and devices have no content, whatever they say.
                    let size = if matches!(letter, b'1'..=b'6') { 0 } else { pax_size.unwrap_or(size) };
                    (self.left, self.filler) = (size, padding(size));
                    return Ok(Some(Entry { name: plain(&name), file, size, head }));
                }
            }
        }
    }

    /// The content of the current entry.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// The next block that says something, or None at the end.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.inner.read_exact(&mut block).map_err(|e| {
            let short = e.kind() == io::ErrorKind::UnexpectedEof;
            if short { bad("is no tar archive, or ends in the middle") } else { cut(e) }
        })?;
        if block == [0; BLOCK] {
            self.ended = true;
            return Ok(None);
        }
        let sum = number(&block[148..156])?;
        let spaced = block.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { b' ' } else { *b });
        if spaced.map(u64::from).sum::<u64>() != sum {
            return Err(bad("is no tar archive, or damaged: a header's sum is wrong"));
        }
        Ok(Some(block))
    }

    fn extra(&mut self, size: u64, head: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        let length = usize::try_from(size).ok().filter(|_| size <= EXTRA_MAX);
        let length = length.ok_or_else(|| bad("has a header that is too long"))?;
        let mut bytes = vec![0; length + padding(size)];
        self.inner.read_exact(&mut bytes).map_err(cut)?;
        head.extend_from_slice(&bytes);
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// What is left of an entry.
pub(super) struct Content<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.0.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let count = self.0.inner.read(&mut buffer[..most]).map_err(cut)?;
        if count == 0 {
            return Err(bad("ends in the middle"));
        }
        self.0.left -= count as u64;
        Ok(count)
    }
}

fn plain(name: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(name).into_owned();
    while let Some(rest) = text.strip_prefix("./") {
        text = rest.to_owned();
    }
    text.trim_end_matches('/').to_owned()
}

fn records(mut bytes: &[u8]) -> io::Result<Vec<(&[u8], &[u8])>> {
    let unreadable = || bad("has a header that cannot be read");
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').ok_or_else(unreadable)?;
        let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| unreadable())?;
        if length <= space + 1 || length > bytes.len() {
            return Err(unreadable());
        }
        let line = bytes[space + 1..length].strip_suffix(b"\n").ok_or_else(unreadable)?;
        let equals = line.iter().position(|b| *b == b'=').ok_or_else(unreadable)?;
        found.push((&line[..equals], &line[equals + 1..]));
        bytes = &bytes[length..];
    }
    Ok(found)
}

fn decimal(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    number.ok_or_else(|| bad("has a header that cannot be read"))
}

/// A number in octal digits, or in GNU's binary form.
fn number(field: &[u8]) -> io::Result<u64> {
    let none = || bad("is no tar archive, or damaged: a number is not one");
    if field[0] == 0x80 {
        let (high, low) = field[1..].split_at((field.len() - 1).saturating_sub(8));
        if high.iter().any(|b| *b != 0) {
            return Err(none());
        }
        return Ok(low.iter().fold(0, |sum, b| (sum << 8) | u64::from(*b)));
    }
    let text: Vec<u8> = field.iter().copied().filter(|b| !matches!(b, b' ' | 0)).collect();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(&text).map_err(|_| none())?;
    u64::from_str_radix(text, 8).map_err(|_| none())
}

fn text_of(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|b| *b != 0).collect()
}

fn name_of(head: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (text_of(&head[..100]), text_of(&head[345..500]));
    if &head[257..263] != b"ustar\0" || prefix.is_empty() {
        return name;
    }
    [prefix, name].join(&b'/')
}
