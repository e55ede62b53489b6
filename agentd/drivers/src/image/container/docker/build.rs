//! By a Dockerfile: the archive goes to the engine as it was sent here.

use agentd_api::image::BuildSource;

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
        let mark = self.mark(work.image);
        let args = serde_json::json!(source.args).to_string();
        let ulimits = serde_json::json!([seal(&self.instance, work.image)]).to_string();
        let dockerfile = source.dockerfile.as_deref().unwrap_or("Dockerfile");
        let mut pairs = vec![
            ("t", mark.as_str()),
            ("dockerfile", dockerfile),
            ("rm", "1"),
            ("forcerm", "1"),
            ("buildargs", &args),
        ];
        let linked = self.engine.linked().await?;
        if linked.flavor == Flavor::Docker {
            pairs.push(("ulimits", &ulimits));
        }
        pairs.extend(source.target.as_deref().map(|target| ("target", target)));
        // What the Dockerfile begins with may be in a registry.
        let auth = self.registries.all()?;
        let headers: Vec<(&str, String)> =
            auth.into_iter().map(|value| ("X-Registry-Config", value)).collect();
        let body = streamed(&file, work).await?;
        let path = query("/build", &pairs);
        made.sent();
        let content = match linked.wire.exchange(CALL, &path, &headers, Some(body)).await {
            Err(EngineError::Status { message, .. }) => {
                made.heard_out();
                return Err(super::load::refused(&message));
            }
            other => other?,
        };
        let mut words = LastWords::default();
        let heard = hear(CALL, content, |message| {
            words.hear(&message.stream);
            made.hear(&message.stream);
            if let Some((done, total, step)) = step(&message.stream) {
                report(work, step, done, Some(total), "steps");
            }
        });
        let heard = heard.await?;
        made.heard_out();
        match heard {
            Ok(()) => self.made(work.image, "dockerfile").await,
            Err(why) => Err(failed(&why, &words)),
        }
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
