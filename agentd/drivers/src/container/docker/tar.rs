//! A tar archive on its way: its entries are counted, and its top entry may get another name. Its content goes through as
//! it comes; no more is kept than a head, or the records of one.

const BLOCK: usize = 512;
/// The longest records, or name, that stand before a head.
const RECORDS_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Tar {
    /// What the first part of each name is to be.
    name: Option<String>,
    pub(super) entries: u64,
    /// Of files.
    pub(super) bytes: u64,
    kept: Vec<u8>,
    /// The next entry's name was said before its head.
    named: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Head,
    /// So much of what goes through is left.
    Content(u64),
    /// Records or a name, to be read before they go on: their own head, and how much they are, filled up.
    Records {
        head: Box<[u8; BLOCK]>,
        size: usize,
        padded: usize,
    },
    /// After the archive's end.
    End,
}

impl Tar {
    pub(super) fn new(name: Option<String>) -> Self {
        Self { name, entries: 0, bytes: 0, kept: Vec::new(), named: false, state: State::Head }
    }

    /// Whether it has come to its end, as far as its heads tell.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::End) || (matches!(self.state, State::Head) && self.kept.is_empty())
    }

    /// What goes on of what came.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(bytes.len() + BLOCK);
        loop {
            match &mut self.state {
                State::End => {
                    out.extend_from_slice(bytes);
                    return Ok(out);
                }
                State::Content(0) => self.state = State::Head,
                State::Content(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, later) = bytes.split_at(take);
                    out.extend_from_slice(now);
                    *left -= take as u64;
                    bytes = later;
                    if bytes.is_empty() {
                        return Ok(out);
                    }
                }
                State::Head => {
                    if !fill(&mut self.kept, &mut bytes, BLOCK) {
                        return Ok(out);
                    }
                    self.head(&mut out)?;
                }
                State::Records { head, size, padded } => {
                    if !fill(&mut self.kept, &mut bytes, *padded) {
                        return Ok(out);
                    }
                    let (head, size) = (**head, *size);
                    self.records(head, size, &mut out);
                    self.state = State::Head;
                }
            }
        }
    }

    fn head(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let mut head = [0; BLOCK];
        head.copy_from_slice(&self.kept);
        self.kept.clear();
        if head.iter().all(|byte| *byte == 0) {
            out.extend_from_slice(&head);
            self.state = State::End;
            return Ok(());
        }
        let size = number(&head[124..136]).ok_or("this is no tar archive")?;
        let padded = size.next_multiple_of(BLOCK as u64);
        match head[156] {
            b'x' | b'L' if size <= RECORDS_MAX => {
                let (size, padded) = (size as usize, padded as usize);
                self.state = State::Records { head: Box::new(head), size, padded };
            }
            b'x' | b'L' => return Err("a name in the archive is too long".to_owned()),
            letter => {
                if letter != b'g' && letter != b'K' {
                    self.entries += 1;
                    self.rename_head(&mut head, out);
                }
                if matches!(letter, b'0' | 0 | b'7') {
                    self.bytes += size;
                }
                out.extend_from_slice(&head);
                self.state = State::Content(padded);
            }
        }
        Ok(())
    }

    /// Another name in a head; one that has no room there goes before it.
    fn rename_head(&mut self, head: &mut [u8; BLOCK], out: &mut Vec<u8>) {
        let named = std::mem::take(&mut self.named);
        let Some(name) = &self.name else { return };
        let text = |bytes: &[u8]| bytes.iter().copied().take_while(|byte| *byte != 0).collect::<Vec<u8>>();
        let ustar = &head[257..263] == b"ustar\0";
        let (prefix, rest) = (if ustar { text(&head[345..500]) } else { Vec::new() }, text(&head[..100]));
        let whole = if prefix.is_empty() { rest } else { [&prefix[..], b"/", &rest].concat() };
        let renamed = renamed(&whole, name);
        if renamed.len() > 100 && !named {
            out.extend(extended(&renamed));
        }
        head[..100].fill(0);
        let length = renamed.len().min(100);
        head[..length].copy_from_slice(&renamed[..length]);
        if ustar {
            head[345..500].fill(0);
        }
        sum(head);
    }

    fn records(&mut self, mut head: [u8; BLOCK], size: usize, out: &mut Vec<u8>) {
        let content = std::mem::take(&mut self.kept);
        let content = &content[..size];
        self.named |= head[156] == b'L' || content.windows(6).any(|bytes| bytes == b" path=");
        let content = match &self.name {
            None => content.to_vec(),
            Some(name) if head[156] == b'L' => {
                let long: Vec<u8> = content.iter().copied().take_while(|byte| *byte != 0).collect();
                [renamed(&long, name), vec![0]].concat()
            }
            Some(name) => renamed_records(content, name),
        };
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        sum(&mut head);
        out.extend_from_slice(&head);
        out.extend_from_slice(&content);
        out.resize(out.len() + content.len().next_multiple_of(BLOCK) - content.len(), 0);
    }
}

/// Takes from `bytes` until so much is kept; false where there is not so much.
fn fill(kept: &mut Vec<u8>, bytes: &mut &[u8], wanted: usize) -> bool {
    let take = (wanted - kept.len()).min(bytes.len());
    let (now, later) = bytes.split_at(take);
    kept.extend_from_slice(now);
    *bytes = later;
    kept.len() == wanted
}

/// With another first part; "." stays what it is.
fn renamed(path: &[u8], name: &str) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let rest = path.iter().position(|byte| *byte == b'/').map_or(&[][..], |at| &path[at..]);
    [name.as_bytes(), rest].concat()
}

fn renamed_records(records: &[u8], name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = records;
    while let Some((length, record)) = first_record(rest) {
        match record.strip_prefix(b"path=") {
            Some(path) => out.extend(record_of(b"path", &renamed(path, name))),
            None => out.extend_from_slice(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out
}

/// How long the first record is, and what it says without its length and its newline.
fn first_record(records: &[u8]) -> Option<(usize, &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    Some((length, records.get(space + 1..length.checked_sub(1)?)?))
}

/// `LENGTH key=value\n`, where the length counts itself.
fn record_of(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

/// A head with records that say a name.
fn extended(path: &[u8]) -> Vec<u8> {
    let records = record_of(b"path", path);
    let mut head = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| head[at..at + text.len()].copy_from_slice(text);
    put(0, b"././@PaxHeader");
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", records.len()).as_bytes());
    put(136, b"00000000000\0");
    put(156, b"x");
    put(257, b"ustar");
    put(263, b"00");
    sum(&mut head);
    let mut out = [&head[..], &records].concat();
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn sum(head: &mut [u8; BLOCK]) {
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Octal digits, or GNU's and star's binary number.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let zero = high.iter().enumerate().all(|(at, byte)| *byte == if at == 0 { 0x80 } else { 0 });
        return zero.then(|| u64::from_be_bytes(low.try_into().unwrap_or_default())).filter(|n| *n < 1 << 62);
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, content: &[u8]) -> Vec<u8> {
        let mut head = [0; BLOCK];
        let mut out = Vec::new();
        let bytes = path.as_bytes();
        if bytes.len() > 100 {
            out.extend(extended(bytes));
        }
        let length = bytes.len().min(100);
        head[..length].copy_from_slice(&bytes[..length]);
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[156] = b'0';
        head[257..262].copy_from_slice(b"ustar");
        sum(&mut head);
        out.extend_from_slice(&head);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut whole: Vec<u8> = entries.iter().flat_map(|(path, content)| entry(path, content)).collect();
        whole.resize(whole.len() + 2 * BLOCK, 0);
        whole
    }

    fn passed(tar: &mut Tar, whole: &[u8], cut: usize) -> Vec<u8> {
        whole.chunks(cut).flat_map(|piece| tar.pass(piece).expect("a tar")).collect()
    }

    proptest! {
        #[test]
        fn a_top_entry_gets_its_name_however_the_archive_comes(cut in 1_usize..2000, long in 1_usize..300) {
            let below = format!("old/{}/file", "d".repeat(long));
            let whole = archive(&[("old", b""), (&below, b"content"), ("old/b", &[7; 1500])]);
            let mut tar = Tar::new(Some("new-name".to_owned()));
            let out = passed(&mut tar, &whole, cut);
            prop_assert_eq!((tar.entries, tar.bytes), (3, 1507));
            prop_assert!(tar.is_whole());
            let renamed = below.replacen("old", "new-name", 1);
            let wanted = archive(&[("new-name", b""), (&renamed, b"content"), ("new-name/b", &[7; 1500])]);
            if renamed.len() <= 100 || below.len() > 100 {
                prop_assert_eq!(out, wanted);
            }
        }

        #[test]
        fn without_another_name_it_is_what_it_was(cut in 1_usize..2000) {
            let whole = archive(&[("a", b"x"), ("b/c", &[1; 700])]);
            let mut tar = Tar::new(None);
            prop_assert_eq!(passed(&mut tar, &whole, cut), whole);
            prop_assert_eq!(tar.entries, 2);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let _ = Tar::new(Some("n".to_owned())).pass(&bytes);
        }
    }

    #[test]
    fn what_is_cut_is_not_whole() {
        let whole = archive(&[("a", &[1; 600])]);
        let mut tar = Tar::new(None);
        tar.pass(&whole[..700]).expect("so far");
        assert!(!tar.is_whole());
    }
}
