//! An object's JSON as it is kept in memory: with a comma behind it, so that a list is the objects' bytes one after the
//! other and nothing between them.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// Derefs to the JSON alone.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectJson(Bytes);

impl ObjectJson {
    pub(crate) fn new(mut json: Vec<u8>) -> Self {
        json.push(b',');
        // Without the spare room that the buffer grew by.
        Self(Bytes::from(json.into_boxed_slice()))
    }
    pub(crate) fn copy(json: &[u8]) -> Self {
        let mut own = Vec::with_capacity(json.len() + 1);
        own.extend_from_slice(json);
        Self::new(own)
    }
    pub(crate) fn with_comma(&self) -> &[u8] {
        &self.0
    }
    /// The JSON alone; no copy.
    pub fn bytes(&self) -> Bytes {
        self.0.slice(..self.0.len() - 1)
    }
}

impl Deref for ObjectJson {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }
}

impl From<&str> for ObjectJson {
    fn from(json: &str) -> Self {
        Self::copy(json.as_bytes())
    }
}

impl fmt::Debug for ObjectJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self))
    }
}
