//! `containers/{name}/commit`: an image of what the container holds now.

use std::sync::Arc;

use agentd_api::container::{ContainerCommit, ContainerCommitted, ImageRef};
use agentd_api::{ErrorCode, Problem};
use agentd_drivers::container::{self as driver, ContainerDriver};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::answers::unreadable;
use super::{json, refused};
use crate::daemon::subs::Opener;
use crate::http::{Content, SubCall, SubReply};

const BODY_MAX: usize = 64 << 10;
const USUAL_TAG: &str = "latest";

pub struct Commit {
    pub containers: Arc<dyn ContainerDriver>,
}

#[async_trait]
impl Opener for Commit {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let (id, name) = (call.object.id(), call.object.name().clone());
        let wish: ContainerCommit =
            serde_json::from_slice(&read(call.body).await?).map_err(|e| unreadable(&e))?;
        let wrong = |message: String| Problem::field("image", message);
        let image: ImageRef = wish.image.parse().map_err(|e| wrong(format!("{e}")))?;
        if wish.image.contains('@') {
            return Err(wrong("is given by its content: write NAME or NAME:TAG".to_owned()));
        }
        let (repository, tag) = parted(image.as_str());
        let message = wish.message.unwrap_or_default();
        let commit = driver::Commit { repository, tag, message, pause: wish.pause };
        let digest = self.containers.commit(id, &commit).await.map_err(|e| refused(&e, &name))?;
        let image = format!("{}:{}", commit.repository, commit.tag);
        json(&ContainerCommitted { image, digest })
    }
}

/// A colon before the last slash is a port's.
fn parted(image: &str) -> (String, String) {
    let last = image.rfind('/').map_or(0, |at| at + 1);
    match image[last..].rfind(':') {
        Some(colon) => (image[..last + colon].to_owned(), image[last + colon + 1..].to_owned()),
        None => (image.to_owned(), USUAL_TAG.to_owned()),
    }
}

async fn read(mut body: Content) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| Problem::new(ErrorCode::Invalid, format!("the body was cut: {e}")))?;
        text.extend_from_slice(&piece);
        if text.len() > BODY_MAX {
            return Err(Problem::new(
                ErrorCode::TooLarge,
                format!("the body is longer than {BODY_MAX} bytes"),
            ));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_told_from_a_port() {
        let parted = |image| {
            let (repository, tag) = parted(image);
            format!("{repository} {tag}")
        };
        assert_eq!(parted("tool"), "tool latest");
        assert_eq!(parted("tool:1.2"), "tool 1.2");
        assert_eq!(parted("localhost:5000/tool"), "localhost:5000/tool latest");
        assert_eq!(parted("localhost:5000/tool:1"), "localhost:5000/tool 1");
    }
}
