//! Builds in Podman, which buildah makes: what is other than in Docker.
//!
//! Asked not to keep layers, it makes of a build one image, and what stages made on the way and the containers of the steps
//! it takes away itself, however the build ends. It does not stop where nobody listens any more: it goes through its steps
//! to the end, and one that is hung up on in the middle of a word stands still with all that it holds. So it is heard out
//! whoever has cancelled it; and what it makes is built under a name beside our mark, from which it is taken over. What
//! has such a name while no build is under way is of one that nobody waited for.
//!
//! What Podman's own end leaves of a build is a container that bears no mark and is in no list of Docker's API
//! (`podman ps --all --external`): it is not ours to remove.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::DockerImages;
use crate::engine::EngineError;
use crate::engine::wire::Content;
use crate::image::ImageError;

/// How many pieces wait to be taken at most.
const AHEAD: usize = 16;

impl DockerImages {
    /// What builds are called until they are taken over.
    async fn building(&self) -> Result<String, EngineError> {
        Ok(format!("{}-build", self.repository().await?))
    }

    pub(super) async fn build_name(&self, image: Uuid) -> Result<String, EngineError> {
        Ok(format!("{}:{image}", self.building().await?))
    }

    /// Puts our mark on what was built, in place of the name that it was built under.
    pub(super) async fn take_over(&self, image: Uuid) -> Result<(), ImageError> {
        let name = self.build_name(image).await?;
        self.put_mark(image, &name).await?;
        self.unname(&name).await
    }

    /// Takes away what was built and not taken over. To be called while no build is under way.
    pub(super) async fn clear_built(&self) -> Result<(), ImageError> {
        for name in self.names_in(&self.building().await?).await? {
            match self.unname(&name).await {
                Err(ImageError::InUse(why)) => tracing::debug!("{name} is in use: {why}"),
                other => other?,
            }
        }
        Ok(())
    }
}

/// What comes. It is taken to its end also where nobody takes it from here any more, and `held` is held until then.
pub(super) fn heard_out(
    mut content: Content,
    held: impl Send + 'static,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (to, from) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        while let Some(piece) = content.next().await {
            let broken = piece.is_err();
            let _ = to.send(piece).await;
            if broken {
                break;
            }
        }
        // Before the end is told.
        drop(held);
        drop(to);
    });
    futures_util::stream::unfold(from, |mut from| async move { Some((from.recv().await?, from)) }).boxed()
}

/// "[1/2] STEP 2/5: RUN make": which of its stage's steps it is, and what is done in it.
pub(super) fn step(text: &str) -> Option<(u64, u64, &str)> {
    let text = match text.strip_prefix('[') {
        Some(staged) => staged.split_once("] ")?.1,
        None => text,
    };
    let (count, what) = text.strip_prefix("STEP ")?.split_once(": ")?;
    let (number, total) = count.split_once('/')?;
    let number: u64 = number.parse().ok()?;
    Some((number.saturating_sub(1), total.parse().ok()?, what.lines().next()?.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_podmans_is_told_by_its_number_and_what_it_does() {
        assert_eq!(step("STEP 2/5: RUN make\n"), Some((1, 5, "RUN make")));
        assert_eq!(step("[1/2] STEP 1/3: FROM box:1 AS a\n"), Some((0, 3, "FROM box:1 AS a")));
        for other in [
            "COMMIT localhost/x:1\n",
            "[2/2] COMMIT localhost/x:1\n",
            "--> 0123456789a\n",
            "[",
            "STEP 6: x\n",
        ] {
            assert_eq!(step(other), None, "{other}");
        }
    }
}
