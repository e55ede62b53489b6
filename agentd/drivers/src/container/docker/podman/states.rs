//! What a container is at, of Podman's words, in Docker's.

use serde_json::Value;

/// Of one container's document, or of a list of them.
pub fn in_dockers_words(document: &mut Value) {
    if let Some(status) = document.pointer_mut("/State/Status") {
        translate(status);
    }
    for listed in document.as_array_mut().into_iter().flatten() {
        if let Some(state) = listed.get_mut("State") {
            translate(state);
        }
    }
}

fn translate(word: &mut Value) {
    let dockers = match word.as_str() {
        Some("configured" | "initialized") => "created",
        // Its program has ended, and what it leaves is not yet cleaned up.
        Some("stopped") => "exited",
        Some("stopping") => "running",
        _ => return,
    };
    *word = dockers.into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_that_docker_has_not_become_its_own() {
        let mut one = json!({ "State": { "Status": "stopped", "Pid": 0 } });
        in_dockers_words(&mut one);
        assert_eq!(one, json!({ "State": { "Status": "exited", "Pid": 0 } }));
        let mut list =
            json!([{ "State": "initialized" }, { "State": "running" }, { "State": "stopping" }, {}]);
        in_dockers_words(&mut list);
        assert_eq!(list, json!([{ "State": "created" }, { "State": "running" }, { "State": "running" }, {}]));
    }
}
