//! The archive that the engine gets: the same files, and a manifest of ours.

use std::io::{self, Read};

use serde_json::json;

use super::tar::{Reader, padding};
use super::{INDEX, Inside, LAYOUT, MANIFEST, Open};
use crate::archive::format::{END, header};

const PIECE: usize = 256 << 10;
/// What says how images are called, beside the manifest; and what newer engines read in its place.
const LEFT_OUT: [&str; 4] = [MANIFEST, INDEX, LAYOUT, "repositories"];

/// Gives `out` the archive piece by piece, with these names for its image. What `out` answers ends it.
pub(in crate::image::container) fn rewrite(
    open: Open<'_>,
    inside: &Inside,
    names: &[&str],
    out: &mut dyn FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let manifest = json!([{"Config": inside.config, "RepoTags": names, "Layers": inside.layers}]).to_string();
    let size = manifest.len() as u64;
    let mut first = header(MANIFEST, size).to_vec();
    first.extend_from_slice(manifest.as_bytes());
    first.resize(first.len() + padding(size), 0);
    out(first)?;
    let mut reader = Reader::new(open()?);
    while let Some(entry) = reader.next()? {
        if LEFT_OUT.contains(&entry.name.as_str()) {
            continue;
        }
        out(entry.head)?;
        let mut left = entry.size;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let mut piece = vec![0; most];
            let count = reader.content().read(&mut piece)?;
            piece.truncate(count);
            left -= count as u64;
            out(piece)?;
        }
        out(vec![0; padding(entry.size)])?;
    }
    out(END.to_vec())
}
