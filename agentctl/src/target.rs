//! Which objects a command is about: names, ids, `KIND/NAME`, a selector, or all of them.

use agentd_api::{KindDef, ObjectName, registry};
use agentd_client::{AnyObject, ClientError, decode};
use clap::Args;
use uuid::Uuid;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::project;

/// Several objects of one kind.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct Which {
    /// Names or ids
    #[arg(value_name = "NAME", group = "which")]
    pub names: Vec<String>,
    /// Those whose labels match, as in app=web,tier!=test
    #[arg(short = 'l', long, value_name = "SELECTOR", group = "which", conflicts_with = "names")]
    pub selector: Option<String>,
    /// All of the project
    #[arg(long, group = "which", conflicts_with_all = ["names", "selector"])]
    pub all: bool,
}

impl Which {
    /// The names, in the order in which they were given. A name is not looked up here; an id is.
    pub async fn names(&self, app: &App, def: &'static KindDef) -> Result<Vec<String>, Failure> {
        if self.selector.is_none() && !self.all {
            let mut names: Vec<String> = Vec::new();
            for name in &self.names {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            return Ok(names);
        }
        let mut options = app.list();
        options.labels.extend(self.selector.clone());
        let pages = app.client.kind(def).pages(&options).await?;
        let names = project::names(&pages)?;
        if names.is_empty() {
            app.say(format_args!("no {} match", def.plural));
        }
        Ok(names)
    }
}

/// The object that a name or an id means.
pub async fn find(app: &App, def: &'static KindDef, name: &str) -> Result<AnyObject, Failure> {
    let kind = app.client.kind(def);
    let id = name.parse::<Uuid>().ok();
    match kind.get_as::<AnyObject>(Some(&app.project), name).await {
        Err(error) if error.is_not_found() && id.is_some() => {
            let found = by_id(app, def, id.unwrap_or_default()).await?;
            found.ok_or_else(|| error.into())
        }
        Err(error) => Err(not_found_hint(error, def)),
        Ok(object) => Ok(object),
    }
}

/// The name for what may be an id. What is no id is taken as it is, and the daemon says whether it exists.
pub async fn name_of(app: &App, def: &'static KindDef, name: &str) -> Result<String, Failure> {
    if name.parse::<Uuid>().is_err() {
        return Ok(name.to_owned());
    }
    Ok(find(app, def, name).await?.meta.name.to_string())
}

async fn by_id(app: &App, def: &'static KindDef, id: Uuid) -> Result<Option<AnyObject>, Failure> {
    #[derive(serde::Deserialize)]
    struct Page {
        items: Vec<AnyObject>,
    }
    for page in app.client.kind(def).pages(&app.list()).await? {
        let page: Page = decode(&format!("GET /v1/{}", def.plural), &page)?;
        if let Some(found) = page.items.into_iter().find(|o| o.meta.id == id) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A failure about a VM's guest: what is not found may be in it, and then no list of ours has it.
pub fn not_found_in(error: ClientError, about: &str) -> Failure {
    Failure::from(error).about(about)
}

/// Not found is answered with where to look, unless the daemon knew better.
pub fn not_found_hint(error: ClientError, def: &KindDef) -> Failure {
    let bare = matches!(&error, ClientError::Problem(p) if p.hint.is_none() && p.errors.is_empty());
    let missing = error.is_not_found() && bare;
    let failure = Failure::from(error);
    if missing { failure.hint(format!("`agentctl {} list` shows what there is", def.kind)) } else { failure }
}

/// `vm/web` or `vms/web`; both parts of it, or the kind alone.
pub fn parse_kind(text: &str) -> Result<(&'static KindDef, Option<&str>), Failure> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    let def = registry::by_kind(kind).or_else(|| registry::by_plural(kind)).ok_or_else(|| {
        let known: Vec<&str> = registry::ALL.iter().map(|k| k.def.kind).collect();
        Failure::new(Exit::Usage, format!("there is no kind '{kind}'"))
            .hint(format!("the kinds are {}", known.join(", ")))
    })?;
    match name {
        Some("") => Err(Failure::new(Exit::Usage, format!("'{text}' has no name behind the /"))),
        name => Ok((def, name)),
    }
}

/// Objects of any kind: `vm/web image/micro`, `vm web db`, or `vm` for all of them. A kind holds for the names that
/// follow it.
pub fn parse_list(words: &[String]) -> Result<Vec<(&'static KindDef, Option<String>)>, Failure> {
    let mut found: Vec<(&'static KindDef, Option<String>)> = Vec::new();
    let mut current: Option<&'static KindDef> = None;
    for word in words {
        match current {
            Some(def) if !word.contains('/') => {
                // The bare kind before its first name was no wish for all of them.
                if let Some((_, None)) = found.last() {
                    found.pop();
                }
                found.push((def, Some(word.clone())));
            }
            _ => {
                let (def, name) = parse_kind(word)?;
                current = name.is_none().then_some(def);
                found.push((def, name.map(ToOwned::to_owned)));
            }
        }
    }
    Ok(found)
}

/// `vm/web`
pub fn label(def: &KindDef, name: impl AsRef<str>) -> String {
    format!("{}/{}", def.kind, name.as_ref())
}

/// What a file or a URL would be called as an object: its stem in lower case, anything else than letters and digits as
/// a hyphen.
pub fn name_from(text: &str) -> Option<ObjectName> {
    let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or(text);
    let stem = last.split_once('.').map_or(last, |(stem, _)| stem);
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let short: String = plain.trim_matches('-').chars().take(agentd_api::name::NAME_MAX).collect();
    ObjectName::parse(short.trim_end_matches('-')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, Exit> {
        let words: Vec<String> = text.split(' ').map(ToOwned::to_owned).collect();
        let list = parse_list(&words).map_err(|f| f.exit)?;
        Ok(list.into_iter().map(|(d, n)| format!("{}/{}", d.kind, n.unwrap_or_default())).collect())
    }

    #[test]
    fn a_kind_holds_for_the_names_behind_it() {
        assert_eq!(words("vm"), Ok(vec!["vm/".to_owned()]));
        assert_eq!(words("vms web db"), Ok(vec!["vm/web".to_owned(), "vm/db".to_owned()]));
        assert_eq!(words("vm/web image/micro"), Ok(vec!["vm/web".to_owned(), "image/micro".to_owned()]));
        assert_eq!(words("vm web image/micro"), Ok(vec!["vm/web".to_owned(), "image/micro".to_owned()]));
        assert_eq!(words("pod/web"), Err(Exit::Usage));
        assert_eq!(words("vm/"), Err(Exit::Usage));
    }

    #[test]
    fn files_and_urls_have_names() {
        for (text, name) in [
            ("/tmp/Debian_12.qcow2", Some("debian-12")),
            ("https://example.com/a/img.tar.gz", Some("img")),
            ("id_ed25519.pub", Some("id-ed25519")),
            (".qcow2", None),
            ("", None),
        ] {
            assert_eq!(name_from(text).map(|n| n.to_string()).as_deref(), name, "{text}");
        }
        assert!(name_from(&"a-".repeat(60)).is_some());
    }
}
