mod formats;
mod pulls;
mod server;
mod stored;

use tempfile::TempDir;

use super::*;

fn driver() -> (TempDir, Arc<HostImage>) {
    let state = tempfile::tempdir().expect("a folder");
    let driver = HostImage::new(Instance::new(state.path()), ImageOptions::default());
    (state, driver)
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}
