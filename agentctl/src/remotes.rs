//! The machines that were joined: of each its address, and who this user is to it. Kept below the user's configuration,
//! readable by the user alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agentd_api::{ObjectName, Timestamp};
use agentd_client::{Client, Identity, RemoteAddress};

use crate::failure::{Exit, Failure, caused};
use crate::noun::private;

const ADDRESS: &str = "address";
const IDENTITY: &str = "identity.pem";

/// One of them.
pub struct Joined {
    pub name: ObjectName,
    pub address: RemoteAddress,
    pub identity: Identity,
}

impl Joined {
    pub fn client(&self) -> Result<Client, Failure> {
        Client::remote(self.address.clone(), &self.identity)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    }
    /// Whom the certificate is of and until when, where that can be read.
    pub fn certificate(&self) -> Option<(String, Timestamp)> {
        super::noun::remote::named(self.identity.certificate())
    }
}

/// Where they are kept.
pub struct Remotes(PathBuf);

impl Remotes {
    pub fn of_this_user() -> Result<Self, Failure> {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config =
            std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
        let none = || {
            Failure::new(
                Exit::Failed,
                "there is no place for remotes: neither HOME nor XDG_CONFIG_HOME is set",
            )
        };
        config.map(|config| Self::at(config.join("agentctl/remotes"))).ok_or_else(none)
    }

    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub fn get(&self, name: &str) -> Result<Joined, Failure> {
        let missing = || {
            Failure::new(Exit::NotFound, format!("no remote '{name}' was joined"))
                .hint("`agentctl remote list` shows those that were; `agentctl remote join` adds one")
        };
        // A name that is none cannot lead out of the folder.
        let name = ObjectName::parse(name).map_err(|_| missing())?;
        let folder = self.0.join(name.as_str());
        let address = match fs::read_to_string(folder.join(ADDRESS)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            read => read.map_err(|error| unreadable(&folder.join(ADDRESS), &error))?,
        };
        let again = format!("`agentctl remote forget {name}`, then join it again");
        let address = address.trim().parse().map_err(|error: agentd_client::AddressError| {
            Failure::new(Exit::Failed, format!("{}: {error}", folder.join(ADDRESS).display()))
                .hint(again.as_str())
        })?;
        let file = folder.join(IDENTITY);
        let bundle = fs::read(&file).map_err(|error| unreadable(&file, &error))?;
        let identity = identity(&file, &bundle).map_err(|failure| failure.hint(again))?;
        Ok(Joined { name, address, identity })
    }

    pub fn refuse_known(&self, name: &ObjectName) -> Result<(), Failure> {
        if self.0.join(name.as_str()).symlink_metadata().is_err() {
            return Ok(());
        }
        Err(Failure::new(Exit::Conflict, format!("a remote '{name}' was joined already"))
            .hint(format!("`agentctl remote forget {name}` first, or choose another name")))
    }

    /// Keeps one. It is there whole, or not at all.
    pub fn add(&self, name: &ObjectName, address: &RemoteAddress, bundle: &[u8]) -> Result<(), Failure> {
        self.refuse_known(name)?;
        let folder = self.0.join(name.as_str());
        let beside = self.0.join(format!(".{name}.{}", std::process::id()));
        let made = private_folder(&beside)
            .and_then(|()| private::write(&beside.join(ADDRESS), format!("{address}\n").as_bytes(), 0o600))
            .and_then(|()| private::write(&beside.join(IDENTITY), bundle, 0o600))
            .and_then(|()| fs::rename(&beside, &folder));
        made.map_err(|error| {
            let _ = fs::remove_dir_all(&beside);
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", folder.display()))
        })
    }

    pub fn remove(&self, name: &ObjectName) -> Result<(), Failure> {
        let folder = self.0.join(name.as_str());
        fs::remove_dir_all(&folder).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::new(Exit::NotFound, format!("no remote '{name}' was joined"))
                .hint("`agentctl remote list` shows those that were"),
            _ => Failure::new(Exit::Failed, format!("cannot remove {}: {error}", folder.display())),
        })
    }

    /// Their names, in order.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|error| unreadable(&self.0, &error))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| ObjectName::parse(name).is_ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// What a bundle says who one is.
pub fn identity(file: &Path, bundle: &[u8]) -> Result<Identity, Failure> {
    Identity::from_pem(bundle).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} {}", file.display(), caused(&error)))
            .hint("`agentctl remote add-client NAME` makes what is wanted, on the host that is to be called")
    })
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_joined_is_the_user_s_alone_and_nothing_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let remotes = Remotes::at(folder.path().join("agentctl/remotes"));
        assert_eq!(remotes.names().expect("none"), Vec::<String>::new());
        let bundle = crate::noun::remote::tests::bundle(folder.path(), "laptop");
        let name: ObjectName = "rack1".parse().expect("a name");
        let address: RemoteAddress = "rack1.example.com".parse().expect("an address");
        remotes.add(&name, &address, &bundle).expect("kept");
        let mode = |path: &str| {
            folder
                .path()
                .join("agentctl/remotes/rack1")
                .join(path)
                .metadata()
                .expect("there")
                .permissions()
                .mode()
        };
        assert_eq!((mode("") & 0o777, mode(IDENTITY) & 0o777, mode(ADDRESS) & 0o777), (0o700, 0o600, 0o600));
        let joined = remotes.get("rack1").expect("joined");
        assert_eq!(joined.address, address);
        assert_eq!(joined.certificate().expect("read").0, "laptop");
        let again = remotes.add(&name, &address, &bundle).expect_err("it is there");
        assert_eq!(again.exit, Exit::Conflict);
        assert_eq!(remotes.names().expect("one"), ["rack1"]);
        for none in ["rack2", "../rack1", "", "."] {
            assert_eq!(remotes.get(none).err().map(|f| f.exit), Some(Exit::NotFound), "{none}");
        }
        remotes.remove(&name).expect("gone");
        assert_eq!(remotes.remove(&name).map_err(|f| f.exit), Err(Exit::NotFound));
    }
}
