//! What a caller can say about a list and about a write.

use agentd_api::ObjectName;

use crate::path::Path;

/// Which objects, and how many at once. Selectors are the API's own text: `a=b`, `c!=d`, `has`, `!has`.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// The daemon's default project where absent.
    pub project: Option<ObjectName>,
    /// Those of every project, whatever `project` says.
    pub all_projects: bool,
    pub labels: Vec<String>,
    /// As in `state=running`.
    pub fields: Vec<String>,
    /// At most so many in one answer, which then says how to go on. All of them where absent.
    pub limit: Option<usize>,
    /// Where a list before ended: its `continue`.
    pub after: Option<String>,
}

impl ListOptions {
    pub fn of(project: ObjectName) -> Self {
        Self { project: Some(project), ..Self::default() }
    }
    pub fn of_all_projects() -> Self {
        Self { all_projects: true, ..Self::default() }
    }
    pub(crate) fn put_selectors(&self, path: Path) -> Path {
        let joined = |parts: &[String]| (!parts.is_empty()).then(|| parts.join(","));
        let project = self.project.as_ref().map(ObjectName::as_str);
        path.maybe("project", if self.all_projects { Some("*") } else { project })
            .maybe("labels", joined(&self.labels).as_deref())
            .maybe("fields", joined(&self.fields).as_deref())
    }
    pub(crate) fn put_all(&self, path: Path) -> Path {
        self.put_selectors(path)
            .maybe("limit", self.limit.map(|n| n.to_string()).as_deref())
            .maybe("continue", self.after.as_deref())
    }
}

#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// The daemon's default project where absent.
    pub project: Option<ObjectName>,
    /// Checks everything, changes nothing.
    pub dry_run: bool,
    /// Of a deletion: takes with it what is of the object alone, as a VM's snapshots.
    pub cascade: bool,
    /// Refused with `revision_mismatch` unless the object still has this revision.
    pub if_match: Option<u64>,
    /// For creates, where the caller wants to choose it; one is made up otherwise.
    pub idempotency_key: Option<String>,
}

impl WriteOptions {
    pub fn of(project: ObjectName) -> Self {
        Self { project: Some(project), ..Self::default() }
    }
    pub(crate) fn put(&self, path: Path) -> Path {
        path.maybe("project", self.project.as_ref().map(ObjectName::as_str))
            .maybe("dry_run", self.dry_run.then_some("true"))
            .maybe("cascade", self.cascade.then_some("true"))
    }
}
