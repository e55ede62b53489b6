//! Every place of the API, once: its path, what may be done there. The service dispatches by it, `/openapi.json` is
//! written from it and metrics are labelled with it, so that none of the three can know a route that another does not.

use agentd_api::image::Image;
use agentd_api::kind::{ActionDef, Kind, KindDef, SubDef, SubMethod};
use agentd_api::{paths, registry};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Server,
    Kinds,
    Events,
    Stats,
    Doctor,
    Healthz,
    Readyz,
    Metrics,
    OpenApi,
    Collection,
    Object,
    Action,
    Sub,
    Content,
    Archives,
    Foreign,
    Adopt,
    Backup,
    /// Whatever is nowhere: for metrics.
    Nowhere,
}

impl Place {
    /// As in `/openapi.json` and in the labels of metrics.
    pub const fn template(self) -> &'static str {
        match self {
            Self::Server => paths::SERVER,
            Self::Kinds => paths::KINDS,
            Self::Events => paths::EVENTS,
            Self::Stats => paths::STATS,
            Self::Doctor => paths::DOCTOR,
            Self::Healthz => paths::HEALTHZ,
            Self::Readyz => paths::READYZ,
            Self::Metrics => paths::METRICS,
            Self::OpenApi => paths::OPENAPI,
            Self::Collection => "/v1/{kinds}",
            Self::Object => "/v1/{kinds}/{name}",
            Self::Action => "/v1/{kinds}/{name}/{action}",
            Self::Sub => "/v1/{kinds}/{name}/{sub}",
            Self::Content => "/v1/images/{name}/content",
            Self::Archives => paths::ARCHIVES,
            Self::Foreign => paths::FOREIGN,
            Self::Adopt => paths::ADOPT,
            Self::Backup => paths::BACKUP,
            Self::Nowhere => "none",
        }
    }

    /// The methods that it knows, as the `Allow` header has them. Of a subresource, all that one of them knows.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Collection | Self::Doctor => "GET, HEAD, POST",
            Self::Object => "GET, HEAD, PUT, PATCH, DELETE",
            Self::Action | Self::Archives | Self::Adopt => "POST",
            Self::Sub => "GET, PUT, POST",
            Self::Content => "PUT",
            // It is made to be read: to ask for its head alone would be work for nothing.
            Self::Backup => "GET",
            Self::Nowhere => "",
            _ => "GET, HEAD",
        }
    }
}

/// A place, and what the path says of it. The name is as sent: not decoded, not checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub place: Place,
    pub def: Option<&'static KindDef>,
    pub name: &'a str,
    pub action: Option<&'static ActionDef>,
    pub sub: Option<&'static SubDef>,
}

impl Found<'_> {
    /// The methods that may be used here, as the `Allow` header has them.
    pub fn allow(&self) -> &'static str {
        let (Some(def), Some(sub)) = (self.def, self.sub) else { return self.place.allow() };
        let known = |method| def.sub_by(sub.name, method).is_some();
        match (known(SubMethod::Get), known(SubMethod::Put), known(SubMethod::Post)) {
            (true, true, true) => "GET, PUT, POST",
            (true, true, false) => "GET, PUT",
            (true, false, true) => "GET, POST",
            (false, true, true) => "PUT, POST",
            _ => sub.method.as_str(),
        }
    }
    /// The subresource that the method means, of those of its name.
    pub fn sub_of(&self, method: &str) -> Option<&'static SubDef> {
        let of_name = self.def?.subs.iter().filter(|sub| Some(sub.name) == self.sub.map(|s| s.name));
        of_name.into_iter().find(|sub| sub.method.as_str() == method)
    }
    pub fn allows(&self, method: &str) -> bool {
        self.allow().split(", ").any(|known| known == method)
    }
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lost<'a> {
    Path,
    Kind(&'a str),
    Action(&'static KindDef, &'a str),
}

/// The kind whose objects take content.
pub(super) const UPLOADS: &KindDef = Image::DEF;

pub(super) fn find(path: &str) -> Result<Found<'_>, Lost<'_>> {
    let at = |place| Ok(Found { place, def: None, name: "", action: None, sub: None });
    let Some(rest) = path.strip_prefix("/v1/") else {
        return match path {
            paths::SERVER => at(Place::Server),
            paths::HEALTHZ => at(Place::Healthz),
            paths::READYZ => at(Place::Readyz),
            paths::METRICS => at(Place::Metrics),
            paths::OPENAPI => at(Place::OpenApi),
            _ => Err(Lost::Path),
        };
    };
    match rest {
        "kinds" => return at(Place::Kinds),
        "events" => return at(Place::Events),
        "stats" => return at(Place::Stats),
        "archives" => return at(Place::Archives),
        "foreign" => return at(Place::Foreign),
        "adopt" => return at(Place::Adopt),
        "backup" => return at(Place::Backup),
        "doctor" => return at(Place::Doctor),
        _ => {}
    }
    let mut parts = rest.split('/');
    let (plural, name, action, more) = (parts.next(), parts.next(), parts.next(), parts.next());
    let plural = plural.filter(|p| !p.is_empty()).ok_or(Lost::Path)?;
    let def = registry::by_plural(plural).ok_or(Lost::Kind(plural))?;
    let of = |place, name, action| Ok(Found { place, def: Some(def), name, action, sub: None });
    match (name, action, more) {
        (None, ..) => of(Place::Collection, "", None),
        (Some(name), None, _) if !name.is_empty() => of(Place::Object, name, None),
        (Some(name), Some("content"), None) if !name.is_empty() && def.kind == UPLOADS.kind => {
            of(Place::Content, name, None)
        }
        (Some(name), Some(part), None) if !name.is_empty() => match (def.action(part), def.sub(part)) {
            (Some(known), _) => of(Place::Action, name, Some(known)),
            (None, Some(sub)) => {
                Ok(Found { place: Place::Sub, def: Some(def), name, action: None, sub: Some(sub) })
            }
            (None, None) => Err(Lost::Action(def, part)),
        },
        _ => Err(Lost::Path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        for (path, place, name) in [
            ("/v1", Place::Server, ""),
            ("/v1/kinds", Place::Kinds, ""),
            ("/v1/vms", Place::Collection, ""),
            ("/v1/vms/web", Place::Object, "web"),
            ("/v1/vms/web/start", Place::Action, "web"),
            ("/v1/ssh-keys/me/retry", Place::Action, "me"),
            ("/v1/images/micro/content", Place::Content, "micro"),
            ("/v1/foreign", Place::Foreign, ""),
            ("/v1/adopt", Place::Adopt, ""),
            ("/v1/backup", Place::Backup, ""),
            ("/healthz", Place::Healthz, ""),
        ] {
            let found = find(path).expect(path);
            assert_eq!((found.place, found.name), (place, name), "{path}");
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "/",
            "",
            "/v1/",
            "/v2",
            "/v1/vms/",
            "/v1/vms//",
            "/v1/vms/web/",
            "/v1/vm",
            "/v1/vms/a/start/b",
            "/v1/networks/a/start",
            "/v1/vms/a/content",
            "/healthz/",
            "//v1/vms",
            "/v1/vms/a/",
        ] {
            assert!(find(path).is_err(), "{path}");
        }
    }

    #[test]
    fn no_kind_hides_behind_a_route_of_its_own() {
        for kind in &registry::ALL {
            let path = paths::collection(kind.def);
            assert_eq!(find(&path).ok().map(|f| f.place), Some(Place::Collection), "{path}");
        }
    }
}
