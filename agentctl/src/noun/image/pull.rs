//! `image pull`: from a registry, as Docker names it; or a disk from a URL.

use agentd_api::image::RegistryRef;
use clap::Args;
use serde_json::json;

use super::{Making, make};
use crate::app::App;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub struct Pull {
    /// An image for containers, as in debian:12 or registry.example.com:5000/tool@sha256:...; or the http:// or https:// URL
    /// of a disk for VMs
    #[arg(value_name = "REFERENCE|URL")]
    from: String,
    /// SHA-256 of what the URL leads to
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
    #[command(flatten)]
    making: Making,
}

impl Pull {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        if self.from.contains("://") {
            let Some(sha256) = &self.sha256 else {
                return Err(Failure::field("sha256", "is needed with a URL: nothing is taken unchecked")
                    .hint("give it with --sha256"));
            };
            let name = self.making.named(&self.from)?;
            let source = json!({"url": {"url": self.from, "sha256": sha256}});
            return make(app, &name, json!({"source": source}), &self.making).await;
        }
        if self.sha256.is_some() {
            return Err(Failure::field("sha256", "is for a URL")
                .hint("a registry's image is pinned as in NAME@sha256:DIGEST"));
        }
        // The daemon says what is wrong with a reference that is none.
        let reference = self.from.parse::<RegistryRef>();
        let name = self.making.named(reference.as_ref().map_or(self.from.as_str(), RegistryRef::short))?;
        let source = json!({"registry": {"reference": self.from}});
        make(app, &name, json!({"source": source}), &self.making).await
    }
}
