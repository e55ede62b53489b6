//! What of outside is mounted into it.

use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Args)]
pub struct MountArgs {
    /// A folder or file of the host, below one that agentd's configuration allows, for reading only if wanted
    #[arg(long = "bind", value_name = "HOST:PATH[:ro]", value_parser = bind)]
    binds: Vec<Value>,
    /// Memory at that path, of at most that size
    #[arg(long = "tmpfs", value_name = "PATH[:SIZE]", value_parser = tmpfs)]
    tmpfs: Vec<Value>,
    /// A volume with a file system (`volume create --mode filesystem`) at that path, for reading only if wanted
    #[arg(long = "volume", value_name = "VOL:PATH[:ro]", value_parser = volume)]
    volumes: Vec<Value>,
}

impl MountArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        let all: Vec<&Value> = self.binds.iter().chain(&self.tmpfs).chain(&self.volumes).collect();
        if !all.is_empty() {
            spec.insert("mounts".to_owned(), json!(all));
        }
    }
}

fn bind(text: &str) -> Result<Value, String> {
    mount("bind", text)
}

fn volume(text: &str) -> Result<Value, String> {
    mount("volume", text)
}

fn mount(kind: &str, text: &str) -> Result<Value, String> {
    let mut parts = text.split(':');
    let (Some(what), Some(path)) = (parts.next(), parts.next()) else {
        return Err("name what is mounted and where, as in /srv/data:/data".to_owned());
    };
    let mut mount = json!({"path": path, "source": {kind: what}});
    match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => {}
        (Some("ro"), None) => mount["read_only"] = json!(true),
        _ => return Err("only ro or rw can stand behind the path".to_owned()),
    }
    Ok(mount)
}

fn tmpfs(text: &str) -> Result<Value, String> {
    Ok(match text.split_once(':') {
        Some((path, size)) => json!({"path": path, "source": {"tmpfs": {"size": size}}}),
        None => json!({"path": text, "source": {"tmpfs": {}}}),
    })
}
