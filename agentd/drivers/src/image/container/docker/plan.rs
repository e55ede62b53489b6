//! What of the engine's images goes after a build. Pure: no clock but for how long ago a step began, no engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentd_api::Timestamp;
use serde::Deserialize;

use super::journal::{COPIES, Copying, Noted};

/// For how long a step that copies files may go on after its build was cut off.
const COPY_MAX: Duration = Duration::from_secs(600);

/// An image as the engine lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default)]
    pub(super) parent_id: String,
    /// In seconds; before 1970, thus below 0, of an image that has no date.
    #[serde(default)]
    pub(super) created: i64,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) repo_digests: Option<Vec<String>>,
}

/// What an image was made by, as far as the engine says.
#[derive(Debug, Default)]
pub(super) struct Maker {
    pub(super) container: String,
    pub(super) step: String,
}

impl Maker {
    /// Whether it is a step of that sort, which has no program of its own.
    fn is_a(&self, word: &str) -> bool {
        self.step.contains(&format!("#(nop) {word} "))
    }
}

impl Listed {
    /// Whether it has no name and is no older than that.
    pub(super) fn may_be_of(&self, since: Timestamp) -> bool {
        let none = |names: &Option<Vec<String>>| {
            names.as_ref().is_none_or(|names| names.iter().all(|name| name.starts_with("<none>")))
        };
        none(&self.repo_tags) && none(&self.repo_digests) && self.created >= seconds(since)
    }

    pub(super) fn is(&self, id: &str) -> bool {
        bare(&self.id).starts_with(id)
    }

    /// Nothing: on no image.
    pub(super) fn stands_on(&self, id: &str) -> bool {
        let parent = bare(&self.parent_id);
        if id.is_empty() { parent.is_empty() } else { parent.starts_with(id) }
    }

    /// Whether it is what comes of that.
    pub(super) fn copied_by(&self, copy: &Copying, makers: &BTreeMap<String, Maker>) -> bool {
        self.stands_on(&copy.on) && makers.get(&self.id).is_some_and(|maker| maker.is_a(&copy.word))
    }

    /// Whether it is of the very step that the other is of, where that has what it copied in its name.
    fn copies_as(&self, other: &Self, makers: &BTreeMap<String, Maker>) -> bool {
        let (Some(own), Some(others)) = (makers.get(&self.id), makers.get(&other.id)) else { return false };
        let copies = COPIES.iter().any(|word| own.is_a(word));
        copies && self.parent_id == other.parent_id && own.step == others.step
    }
}

/// Podman says what an id begins with of an image, and not of the one that it stands on.
fn bare(id: &str) -> &str {
    id.trim_start_matches("sha256:")
}

pub(super) fn seconds(at: Timestamp) -> i64 {
    i64::try_from(at.millis() / 1000).unwrap_or(i64::MAX)
}

/// A step that copied when its build was cut off, and may not have ended: what comes of it is not there.
pub(super) fn under_way<'a>(
    there: &[Listed],
    makers: &BTreeMap<String, Maker>,
    noted: &'a Noted,
) -> Option<&'a Copying> {
    let recent = noted.copies.iter().filter(|copy| noted.cut && copy.since.age() < COPY_MAX);
    let ended = |copy: &Copying| there.iter().any(|one| one.copied_by(copy, makers));
    recent.into_iter().find(|copy| !ended(copy))
}

/// Which images go, in that order. `makers`: the containers that nameless ones were made by, where they were asked for.
pub(super) fn plan_images(there: &[Listed], makers: &BTreeMap<String, Maker>, noted: &Noted) -> Vec<String> {
    let mut ours: Vec<&Listed> = Vec::new();
    let free = |one: &&Listed| one.may_be_of(noted.since);
    for id in &noted.images {
        ours.extend(there.iter().filter(free).filter(|one| one.is(id)));
    }
    if noted.cut {
        let by_noted = |maker: &Maker| noted.containers.iter().any(|id| maker.container.starts_with(id));
        ours.extend(there.iter().filter(free).filter(|one| makers.get(&one.id).is_some_and(by_noted)));
        let copied = |one: &&Listed| {
            let mut copies = noted.copies.iter().filter(|copy| one.created >= seconds(copy.since));
            copies.any(|copy| one.copied_by(copy, makers))
        };
        ours.extend(there.iter().filter(free).filter(copied));
        // Made of the same files on the same image: of a try that was not heard any more while the next one copied them too.
        let twin = |one: &&Listed| ours.iter().any(|known| known.copies_as(one, makers));
        let twins: Vec<&Listed> = there.iter().filter(free).filter(twin).collect();
        ours.extend(twins);
        let mut next = 0;
        // What stands on one of ours; the list grows while it is gone through.
        while let Some(parent) = ours.get(next).map(|one| bare(&one.id).to_owned()) {
            let known: BTreeSet<&str> = ours.iter().map(|one| one.id.as_str()).collect();
            let more = there.iter().filter(free).filter(|one| one.stands_on(&parent));
            let more: Vec<&Listed> = more.filter(|one| !known.contains(one.id.as_str())).collect();
            ours.extend(more);
            next += 1;
        }
    }
    let mut left: BTreeSet<&str> = ours.iter().map(|one| one.id.as_str()).collect();
    let mut gone: Vec<String> = Vec::new();
    // Each time those that nothing stands on.
    loop {
        let holds = |id: &str| there.iter().any(|one| one.stands_on(bare(id)) && !gone.contains(&one.id));
        let now: Vec<&str> = left.iter().copied().filter(|id| !holds(id)).collect();
        if now.is_empty() {
            return gone;
        }
        for id in now {
            left.remove(id);
            gone.push(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, parent: &str, created: i64, tag: Option<&str>) -> Listed {
        Listed {
            id: format!("sha256:{id}"),
            parent_id: if parent.is_empty() { String::new() } else { format!("sha256:{parent}") },
            created,
            repo_tags: Some(vec![tag.unwrap_or("<none>:<none>").to_owned()]),
            repo_digests: None,
        }
    }

    fn noted(cut: bool, images: &[&str], containers: &[&str]) -> Noted {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Noted {
            since: Timestamp(100_500),
            cut,
            images: owned(images),
            containers: owned(containers),
            copies: Vec::new(),
        }
    }

    #[test]
    fn an_image_without_a_date_is_listed_and_is_of_no_build() {
        let listed = r#"[{"Containers":-1,"Created":-62135596800,"Id":"sha256:aaa1","ParentId":"",
            "RepoDigests":null,"RepoTags":null}]"#;
        let there: Vec<Listed> = serde_json::from_str(listed).expect("as Docker lists it");
        assert!(there.iter().all(|one| !one.may_be_of(Timestamp(0))));
        assert_eq!(plan_images(&there, &BTreeMap::new(), &noted(true, &["aaa1"], &[])), [""; 0]);
    }

    #[test]
    fn what_podman_says_that_an_image_stands_on_is_found() {
        let mut child = image("aaa2", "", 102, None);
        child.parent_id = "aaa1".to_owned();
        let there = [image("aaa1", "", 101, None), child];
        let gone = plan_images(&there, &BTreeMap::new(), &noted(true, &["aaa1"], &[]));
        assert_eq!(gone, ["sha256:aaa2", "sha256:aaa1"]);
        assert_eq!(plan_images(&there, &BTreeMap::new(), &noted(false, &["aaa1"], &[])), [""; 0]);
    }

    #[test]
    fn only_what_a_build_made_goes_and_nothing_that_something_stands_on() {
        let there = [
            image("ba5e", "", 50, Some("box:1")),
            image("aaa1", "ba5e", 101, None),
            image("aaa2", "aaa1", 102, None),
            image("bbb1", "ba5e", 103, None),
            image("bbb2", "bbb1", 104, Some("made:1")),
            // Of others: made at that time, older, and a child of ours that got a name.
            image("ccc1", "ba5e", 103, None),
            image("ddd1", "ba5e", 60, None),
            image("aaa3", "aaa1", 105, Some("theirs:1")),
        ];
        let none = BTreeMap::new();
        let all = ["aaa1", "aaa2", "bbb1", "bbb2", "ddd1"];
        assert_eq!(plan_images(&there, &none, &noted(false, &all, &[])), ["sha256:aaa2"]);
        let fewer = &there[..7];
        assert_eq!(plan_images(fewer, &none, &noted(false, &all, &[])), ["sha256:aaa2", "sha256:aaa1"]);
        assert_eq!(plan_images(fewer, &none, &noted(false, &["aaa1"], &[])), [""; 0]);
    }

    #[test]
    fn of_a_build_that_was_cut_off_goes_what_was_not_told_of_any_more() {
        let there = [
            image("ba5e", "", 50, Some("box:1")),
            image("aaa1", "ba5e", 101, None),
            image("aaa2", "aaa1", 102, None),
            image("aaa3", "aaa2", 103, None),
            image("bbb1", "ba5e", 103, None),
            image("ccc1", "ba5e", 103, None),
        ];
        let id = |id: &str| format!("sha256:{id}");
        let maker = |container: &str| Maker { container: container.to_owned(), step: String::new() };
        let makers = [(id("bbb1"), maker("0123456789ab")), (id("ccc1"), maker("ffffffffffff"))].into();
        let cut = plan_images(&there, &makers, &noted(true, &["aaa1"], &["012345"]));
        assert_eq!(cut, ["aaa3", "bbb1", "aaa2", "aaa1"].map(id));
    }

    #[test]
    fn what_was_copied_twice_goes_twice() {
        let there = [
            image("ba5e", "", 50, Some("box:1")),
            image("aaa1", "ba5e", 101, None),
            image("aaa2", "ba5e", 101, None),
            image("bbb1", "ba5e", 101, None),
            image("ccc1", "aaa1", 102, None),
            image("ccc2", "ba5e", 102, None),
        ];
        let id = |id: &str| format!("sha256:{id}");
        let by = |step: &str| Maker { container: String::new(), step: format!("/bin/sh -c {step}") };
        let (word, other) = ("#(nop) COPY file:00 in /word ", "#(nop) COPY file:11 in /word ");
        let makers = [("aaa1", word), ("aaa2", word), ("bbb1", other), ("ccc1", "make"), ("ccc2", "make")];
        let makers = makers.map(|(image, step)| (id(image), by(step))).into();
        let cut = plan_images(&there, &makers, &noted(true, &["aaa1", "ccc1"], &[]));
        assert_eq!(cut, ["aaa2", "ccc1", "aaa1"].map(id));
        assert_eq!(
            plan_images(&there, &makers, &noted(false, &["aaa1", "ccc1"], &[])),
            ["ccc1", "aaa1"].map(id)
        );
    }

    #[test]
    fn a_step_that_copied_is_waited_for_and_what_comes_of_it_goes() {
        let mut there = vec![
            image("ba5e", "", 50, Some("box:1")),
            image("ccc1", "ba5e", 103, None),
            image("ddd1", "ba5e", 103, None),
        ];
        let id = |id: &str| format!("sha256:{id}");
        let by = |step: &str| Maker { container: String::new(), step: format!("/bin/sh -c #(nop) {step}") };
        let mut makers: BTreeMap<_, _> =
            [(id("ccc1"), by("ADD file:00 in / ")), (id("ddd1"), by(" WORKDIR /x"))].into();
        let copy = |since| Copying { since, on: "ba5".to_owned(), word: "COPY".to_owned() };
        let now = Noted { copies: vec![copy(Timestamp::now())], ..noted(true, &[], &[]) };
        assert!(under_way(&there, &makers, &now).is_some());
        let long_ago = Noted { copies: vec![copy(Timestamp(102_000))], ..noted(true, &[], &[]) };
        assert!(under_way(&there, &makers, &long_ago).is_none(), "it is given up");
        assert_eq!(plan_images(&there, &makers, &long_ago), [""; 0]);

        there.push(image("bbb1", "ba5e", 104, None));
        makers.insert(id("bbb1"), by("COPY file:00 in /word "));
        assert!(under_way(&there, &makers, &now).is_none());
        assert_eq!(plan_images(&there, &makers, &long_ago), [id("bbb1")]);
        // One that was there before was only found again.
        assert_eq!(plan_images(&there, &makers, &now), [""; 0]);
    }
}
