//! How far each layer of a pull is, by what the engine says of it. A layer is downloaded beside others, and extracted once
//! those below it are.

use agentd_api::{LayerProgress, LayerState, Progress};

use super::messages::Message;

/// In the order in which the engine told of them, which is that of the image.
#[derive(Debug, Default)]
pub(super) struct Layers(Vec<Layer>);

#[derive(Debug)]
struct Layer {
    id: String,
    state: LayerState,
    /// How long it is as it comes. None until the engine says so.
    size: Option<u64>,
    /// How much is here, and how much of that is extracted.
    here: u64,
    extracted: u64,
}

impl Layers {
    /// True where the message changed something.
    pub(super) fn hear(&mut self, message: &Message) -> bool {
        let Some(layer) = self.layer(message) else { return false };
        let detail = &message.progress_detail;
        let size = (detail.total > 0).then_some(detail.total).or(layer.size);
        match message.status.as_str() {
            "Downloading" => {
                (layer.state, layer.size, layer.here) = (LayerState::Downloading, size, detail.current);
            }
            "Verifying Checksum" | "Download complete" => layer.arrived(LayerState::Downloaded),
            "Extracting" => {
                layer.size = size;
                layer.arrived(LayerState::Extracting);
                layer.extracted = detail.current;
            }
            "Pull complete" | "Already exists" => layer.arrived(LayerState::Done),
            // A download that broke off begins anew.
            status if status.starts_with("Retrying in") => {
                (layer.state, layer.here) = (LayerState::Waiting, 0);
            }
            "Pulling fs layer" | "Waiting" => {}
            _ => return false,
        }
        true
    }

    /// The one that the message is about; its first makes it known.
    fn layer(&mut self, message: &Message) -> Option<&mut Layer> {
        const BEGUN: [&str; 3] = ["Pulling fs layer", "Waiting", "Already exists"];
        let known = self.0.iter().position(|layer| layer.id == message.id);
        let at = match known {
            Some(at) => at,
            None if message.id.is_empty() || !BEGUN.contains(&message.status.as_str()) => return None,
            None => {
                let id = message.id.chars().filter(char::is_ascii_graphic).take(64).collect();
                self.0.push(Layer { id, state: LayerState::Waiting, size: None, here: 0, extracted: 0 });
                self.0.len() - 1
            }
        };
        self.0.get_mut(at)
    }

    pub(super) fn progress(&self) -> Progress {
        let (done, total) = self.bytes();
        let layers = self.0.iter().take(Progress::LAYERS_MAX).map(Layer::progress).collect();
        Progress { step: self.step(), done, total, unit: "bytes".to_owned(), layers }
    }

    fn step(&self) -> String {
        let count = |least: LayerState| self.0.iter().filter(|layer| layer.state >= least).count();
        let (all, here, whole) = (self.0.len(), count(LayerState::Downloaded), count(LayerState::Done));
        if here == all && all > 0 {
            return format!("unpacking, {whole} of {all} layers done");
        }
        format!("pulling, {here} of {all} layers here")
    }

    /// Bytes that are here, and those of all layers once each has said how long it is.
    fn bytes(&self) -> (u64, Option<u64>) {
        let done = self.0.iter().map(|layer| layer.here).sum();
        (done, self.0.iter().map(|layer| layer.size).sum())
    }
}

impl Layer {
    /// All of it is here.
    fn arrived(&mut self, state: LayerState) {
        // The engine does not say of a short one how long it is.
        let size = self.size.unwrap_or(self.here);
        (self.state, self.size, self.here) = (state, Some(size), size);
    }

    fn progress(&self) -> LayerProgress {
        let done = match self.state {
            LayerState::Extracting => self.extracted,
            _ => self.here,
        };
        LayerProgress { id: self.id.clone(), state: self.state, done, total: self.size }
    }
}

#[cfg(test)]
mod tests {
    use LayerState::{Done, Downloaded, Downloading, Extracting, Waiting};

    use super::*;

    fn hear(layers: &mut Layers, text: &str) -> bool {
        layers.hear(&serde_json::from_str(text).expect("a message"))
    }

    fn seen(layers: &Layers) -> Vec<(String, LayerState, u64, Option<u64>)> {
        layers.progress().layers.into_iter().map(|one| (one.id, one.state, one.done, one.total)).collect()
    }

    /// As the engine's API has it for `POST /images/create`.
    #[test]
    fn each_layer_is_followed_from_its_first_word_to_its_end() {
        let mut layers = Layers::default();
        assert!(!hear(&mut layers, r#"{"status":"Pulling from library/x","id":"latest"}"#));
        for text in [
            r#"{"status":"Already exists","progressDetail":{},"id":"cc00"}"#,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"aa00"}"#,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"bb00"}"#,
            r#"{"status":"Waiting","progressDetail":{},"id":"bb00"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"progress":"[>  ]","id":"aa00"}"#,
        ] {
            assert!(hear(&mut layers, text), "{text}");
        }
        let at = |id: &str, state, done, total| (id.to_owned(), state, done, total);
        let there = at("cc00", Done, 0, Some(0));
        assert_eq!(
            seen(&layers),
            [there.clone(), at("aa00", Downloading, 10, Some(100)), at("bb00", Waiting, 0, None)]
        );
        let progress = layers.progress();
        assert_eq!((progress.step.as_str(), progress.done), ("pulling, 1 of 3 layers here", 10));
        assert_eq!((progress.total, progress.unit.as_str()), (None, "bytes"));

        for text in [
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":50},"id":"bb00"}"#,
            r#"{"status":"Retrying in 5 seconds","progressDetail":{},"id":"bb00"}"#,
        ] {
            assert!(hear(&mut layers, text), "{text}");
        }
        assert_eq!(seen(&layers)[2], at("bb00", Waiting, 0, Some(50)));
        for text in [
            r#"{"status":"Downloading","progressDetail":{"current":25,"total":50},"id":"bb00"}"#,
            r#"{"status":"Verifying Checksum","progressDetail":{},"id":"bb00"}"#,
            r#"{"status":"Download complete","progressDetail":{},"id":"aa00"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":30,"total":100},"id":"aa00"}"#,
        ] {
            assert!(hear(&mut layers, text), "{text}");
        }
        assert_eq!(
            seen(&layers)[1..],
            [at("aa00", Extracting, 30, Some(100)), at("bb00", Downloaded, 50, Some(50))]
        );
        let progress = layers.progress();
        assert_eq!(progress.step, "unpacking, 1 of 3 layers done");
        assert_eq!((progress.done, progress.total), (150, Some(150)));

        for id in ["aa00", "bb00"] {
            hear(&mut layers, &format!(r#"{{"status":"Pull complete","progressDetail":{{}},"id":"{id}"}}"#));
        }
        for text in [r#"{"status":"Digest: sha256:00"}"#, r#"{"status":"Status: Downloaded newer image"}"#] {
            assert!(!hear(&mut layers, text), "{text}");
        }
        assert_eq!(seen(&layers), [there, at("aa00", Done, 100, Some(100)), at("bb00", Done, 50, Some(50))]);
    }

    #[test]
    fn a_short_layer_ends_whole_and_of_very_many_only_so_many_are_told() {
        let mut layers = Layers::default();
        for n in 0..200 {
            hear(&mut layers, &format!(r#"{{"status":"Pulling fs layer","id":"{n:012x}"}}"#));
            hear(&mut layers, &format!(r#"{{"status":"Download complete","id":"{n:012x}"}}"#));
            hear(&mut layers, &format!(r#"{{"status":"Pull complete","id":"{n:012x}"}}"#));
        }
        let progress = layers.progress();
        assert_eq!(
            (progress.step.as_str(), progress.layers.len()),
            ("unpacking, 200 of 200 layers done", 128)
        );
        assert!(progress.layers.iter().all(|one| one.state == Done && Some(one.done) == one.total));
    }
}
