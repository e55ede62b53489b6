//! What is run in a guest, and what is copied: the documents of the subresources `exec` and `files`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::FieldError;

/// What arguments and environment may take together, in bytes, as a kernel counts them.
pub const EXEC_ARGUMENTS_MAX: usize = 128 << 10;
/// The longest path in a guest.
pub const GUEST_PATH_MAX: usize = 4096;

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecWish {
    /// The program, and its arguments.
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder that it is run in; its user's home where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A user of the guest by name or number, also with a group, as USER:GROUP; root where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A terminal of so many columns and rows; pipes where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// Whether input comes; it is empty where not.
    #[serde(default)]
    pub input: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// What became of a copy into a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    pub entries: u64,
    /// Of files.
    pub bytes: u64,
}

impl ExecWish {
    /// What is wrong with it by itself.
    pub fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: String| errors.push(FieldError::new(field, message));
        if self.argv.first().is_none_or(String::is_empty) {
            wrong("argv", "must name a program".to_owned());
        }
        let argv: usize = self.argv.iter().map(|a| a.len() + 1).sum();
        let env: usize = self.env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        if argv > EXEC_ARGUMENTS_MAX {
            wrong("argv", format!("has {argv} bytes; at most {EXEC_ARGUMENTS_MAX} are allowed"));
        } else if argv + env > EXEC_ARGUMENTS_MAX {
            let most = EXEC_ARGUMENTS_MAX;
            wrong("env", format!("has {env} bytes, with argv {}; at most {most} are allowed", argv + env));
        }
        if self.argv.iter().any(|a| a.contains('\0')) {
            wrong("argv", "holds a NUL".to_owned());
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                wrong("env", format!("'{}' cannot be set", key.escape_debug()));
            }
        }
        if self
            .cwd
            .as_ref()
            .is_some_and(|cwd| !cwd.starts_with('/') || cwd.contains('\0') || cwd.len() > GUEST_PATH_MAX)
        {
            wrong("cwd", "must be an absolute path".to_owned());
        }
        let name =
            |user: &String| !user.is_empty() && user.len() <= 256 && !user.chars().any(char::is_control);
        if self.user.as_ref().is_some_and(|user| !name(user)) {
            wrong("user", "must be a user's name or number".to_owned());
        }
        errors
    }
}

/// What is wrong with a path in a guest. What climbs is refused: where it leads is not what it says.
pub fn check_guest_path(path: &str) -> Result<(), FieldError> {
    let wrong = |message: &str| Err(FieldError::new("path", message));
    if !path.starts_with('/') {
        return wrong("must be an absolute path of the guest");
    }
    if path.len() > GUEST_PATH_MAX || path.contains('\0') {
        return wrong("is longer than a path may be, or holds a NUL");
    }
    if path.split('/').any(|part| part == "..") {
        return wrong("must not climb: it has '..' in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(wish: &ExecWish) -> Vec<String> {
        wish.check().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn what_no_guest_could_run_is_refused_by_name() {
        let good = ExecWish { argv: vec!["ls".to_owned()], ..ExecWish::default() };
        assert_eq!(fields(&good), Vec::<String>::new());
        let argv = |argv: &[String]| ExecWish { argv: argv.to_vec(), ..good.clone() };
        assert_eq!(fields(&argv(&[])), ["argv"]);
        assert_eq!(fields(&argv(&["echo".to_owned(), "x".repeat(1 << 20)])), ["argv"]);
        assert_eq!(fields(&argv(&["a\0b".to_owned()])), ["argv"]);
        let env =
            |key: &str, value: String| ExecWish { env: [(key.to_owned(), value)].into(), ..good.clone() };
        assert_eq!(fields(&env("A", "x".repeat(EXEC_ARGUMENTS_MAX))), ["env"]);
        assert_eq!(fields(&env("A=B", String::new())), ["env"]);
        assert_eq!(fields(&ExecWish { cwd: Some("tmp".to_owned()), ..good.clone() }), ["cwd"]);
        assert_eq!(fields(&ExecWish { user: Some(String::new()), ..good }), ["user"]);
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        for bad in ["", "etc", "../etc", "/../etc", "/a/../b", "/a/..", "/a\0b"] {
            assert!(check_guest_path(bad).is_err(), "{bad:?}");
        }
        for good in ["/", "/etc/passwd", "/a/..b/c", "/a/./b"] {
            assert!(check_guest_path(good).is_ok(), "{good:?}");
        }
    }
}
