//! Which of the host's folders containers may have: those that the configuration names, and what is below them.

use std::io;
use std::path::{Path, PathBuf};

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Led {
    /// With all links followed.
    pub to: PathBuf,
    pub allowed: bool,
}

/// Fails where there is nothing at the path.
pub async fn led(path: impl AsRef<Path>, folders: &[PathBuf]) -> io::Result<Led> {
    let to = tokio::fs::canonicalize(path).await?;
    for folder in folders {
        if tokio::fs::canonicalize(folder).await.is_ok_and(|folder| to.starts_with(folder)) {
            return Ok(Led { to, allowed: true });
        }
    }
    Ok(Led { to, allowed: false })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn links_are_followed_on_both_sides() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("open/below")).expect("folders");
        fs::create_dir(at("shut")).expect("a folder");
        symlink(at("shut"), at("open/out")).expect("a link");
        symlink(at("open"), at("also")).expect("a link");
        let allowed = [at("nowhere"), at("also")];
        let is_allowed = async |name: &str| led(at(name), &allowed).await.map(|led| led.allowed).ok();
        assert_eq!(is_allowed("open").await, Some(true));
        assert_eq!(is_allowed("open/below").await, Some(true));
        assert_eq!(is_allowed("also/below").await, Some(true));
        assert_eq!(is_allowed("open/out").await, Some(false), "it leads out");
        assert_eq!(is_allowed("shut").await, Some(false));
        assert_eq!(is_allowed("open/../shut").await, Some(false));
        assert_eq!(is_allowed("gone").await, None);
    }
}
