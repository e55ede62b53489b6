//! The person's terminal, as long as it is a guest's: raw, so that each key goes through, and put back whatever happens.
//!
//! It is put back when [`Raw`] is dropped, which is also how a panic and each signal that can be caught end; before a
//! panic is printed too, so that it can be read. Nothing can be done about SIGKILL (`reset` helps).

use std::io::{self, IsTerminal};
use std::sync::Once;

use crossterm::terminal::{disable_raw_mode, enable_raw_mode, size};

use crate::failure::{Exit, Failure};

/// The terminal is raw.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Nothing where stdin is no terminal.
    pub fn begin() -> Result<Option<Self>, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                let _ = disable_raw_mode();
                print(panic);
            }));
        });
        enable_raw_mode()
            .map_err(|e| Failure::new(Exit::Failed, format!("the terminal cannot be made raw: {e}")))?;
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = disable_raw_mode();
    }
}

/// Columns and rows, where stdout is a terminal.
pub fn columns_and_rows() -> Option<(u16, u16)> {
    if io::stdout().is_terminal() { size().ok() } else { None }
}

/// The key that ends a session: `^]`, one character, or `none`.
pub fn escape(text: &str) -> Result<Escape, String> {
    match text.as_bytes() {
        b"none" => Ok(Escape(None)),
        [b'^', key @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(Escape(Some(key.to_ascii_uppercase() & 0x1f))),
        [key @ 1..=127] => Ok(Escape(Some(*key))),
        _ => Err("write ^] or another control key so, or one character, or none".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escape(Option<u8>);

impl Escape {
    /// What was typed before the key; and whether it was typed.
    pub fn split(self, typed: &[u8]) -> (&[u8], bool) {
        match self.0.and_then(|key| typed.iter().position(|b| *b == key)) {
            Some(at) => (&typed[..at], true),
            None => (typed, false),
        }
    }
    /// How it is written.
    pub fn name(self) -> Option<String> {
        self.0.map(|key| match key {
            1..=31 => format!("Ctrl-{}", char::from(key | 0x40)),
            127 => "Delete".to_owned(),
            _ => format!("'{}'", char::from(key)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_key_is_found_in_what_is_typed() {
        let usual = escape("^]").expect("a key");
        assert_eq!(usual.split(b"ls\x1drest"), (&b"ls"[..], true));
        assert_eq!(usual.split(b"ls"), (&b"ls"[..], false));
        assert_eq!(usual.name().as_deref(), Some("Ctrl-]"));
        assert_eq!(escape("^a"), escape("^A"));
        assert_eq!(escape("~").map(Escape::name), Ok(Some("'~'".to_owned())));
        assert_eq!(escape("none").map(|none| none.split(b"\x1d").1), Ok(false));
        for bad in ["", "^1", "ab", "^]]", "ä"] {
            assert!(escape(bad).is_err(), "{bad}");
        }
    }
}
