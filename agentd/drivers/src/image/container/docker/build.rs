//! By a Dockerfile: the archive goes to the engine as it was sent here.

use agentd_api::image::BuildSource;
use futures_util::StreamExt;
use uuid::Uuid;

use super::buildah::{self, heard_out};
use super::intermediates::Intermediates;
use super::journal::Journal;
use super::leftovers::seal;
use super::load::streamed;
use super::messages::{LastWords, hear};
use super::{DockerImages, unless_cancelled};
use crate::engine::wire::query;
use crate::engine::{EngineError, Flavor};
use crate::image::container::ContainerImage;
use crate::image::host::run::report;
use crate::image::{ImageError, Work};

const CALL: &str = "build an image";

impl DockerImages {
    /// What it leaves is noted, and to be cleared afterwards.
    pub(super) async fn build_noting(
        &self,
        source: &BuildSource,
        work: &Work,
    ) -> Result<ContainerImage, ImageError> {
        let _nothing_goes_meanwhile = self.builds.read().await;
        let made = Intermediates::begin(Journal::of(&self.instance, work.image)).await?;
        let building = made.noting(self.build_upload(source, work, &made));
        let built = unless_cancelled(work, building).await;
        made.end().await;
        built
    }

    async fn build_upload(
        &self,
        source: &BuildSource,
        work: &Work,
        made: &Intermediates,
    ) -> Result<ContainerImage, ImageError> {
        let file = self.host.uploaded(&source.upload(), work).await?;
        let linked = self.engine.linked().await?;
        let podman = linked.flavor == Flavor::Podman;
        let path = self.build_path(source, work.image).await?;
        // What the Dockerfile begins with may be in a registry.
        let auth = self.registries.all()?;
        let headers: Vec<(&str, String)> =
            auth.into_iter().map(|value| ("X-Registry-Config", value)).collect();
        let body = streamed(&file, work).await?;
        made.sent();
        let content = match linked.wire.exchange(CALL, &path, &headers, Some(body)).await {
            Err(EngineError::Status { message, .. }) => {
                made.heard_out();
                return Err(super::load::refused(&message));
            }
            other => other?,
        };
        let content =
            if podman { heard_out(content, self.builds.clone().read_owned().await) } else { content.boxed() };
        let mut words = LastWords::default();
        let heard = hear(CALL, content, |message| {
            words.hear(&message.stream);
            let text = message.stream.as_str();
            let step = if podman {
                made.hear_podman(text);
                buildah::step(text)
            } else {
                made.hear(text);
                step(text)
            };
            if let Some((done, total, step)) = step {
                report(work, step, done, Some(total), "steps");
            }
        });
        let heard = heard.await?;
        made.heard_out();
        heard.map_err(|why| failed(why.trim_end(), &words))?;
        if podman {
            self.take_over(work.image).await?;
        }
        self.made(work.image, "dockerfile").await
    }

    /// What the engine is asked for.
    async fn build_path(&self, source: &BuildSource, image: Uuid) -> Result<String, EngineError> {
        let flavor = self.engine.linked().await?.flavor;
        let name = match flavor {
            Flavor::Docker => self.mark(image).await?,
            Flavor::Podman => self.build_name(image).await?,
        };
        let args = serde_json::json!(source.args).to_string();
        let ulimits = serde_json::json!([seal(&self.instance, image)]).to_string();
        let mut pairs = vec![
            ("t", name.as_str()),
            ("dockerfile", source.dockerfile.as_deref().unwrap_or("Dockerfile")),
            ("rm", "1"),
            ("forcerm", "1"),
            ("buildargs", args.as_str()),
        ];
        pairs.push(match flavor {
            Flavor::Docker => ("ulimits", ulimits.as_str()),
            Flavor::Podman => ("layers", "0"),
        });
        pairs.extend(source.target.as_deref().map(|target| ("target", target)));
        Ok(query("/build", &pairs))
    }
}

/// "Step 2/5 : RUN make": which it is, and what is done in it.
fn step(text: &str) -> Option<(u64, u64, &str)> {
    let (count, what) = text.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, total) = count.split_once('/')?;
    let number: u64 = number.parse().ok()?;
    Some((number.saturating_sub(1), total.parse().ok()?, what.lines().next()?.trim_end()))
}

fn failed(why: &str, words: &LastWords) -> ImageError {
    if why.to_lowercase().contains("no space left on device") {
        return ImageError::Capacity(why.to_owned());
    }
    ImageError::Refused(format!("the build failed: {why}\n{}", words.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_by_its_number_and_what_it_does() {
        assert_eq!(step("Step 2/5 : RUN make\n"), Some((1, 5, "RUN make")));
        assert_eq!(step("Step 2 : RUN make\n"), None);
        assert_eq!(step(" ---> abc\n"), None);
    }
}
