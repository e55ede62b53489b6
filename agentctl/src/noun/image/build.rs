//! `image build`: by a recipe of agentd's, or by a Dockerfile with the folder that belongs to it. The folder is packed here,
//! without what its `.dockerignore` names, into a file that has no name; then it is sent as any upload is.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentd_api::image::{Recipe, container_name};
use agentd_guest_tree::{Taken, pack_below};
use clap::Args;
use serde_json::{Value, json};

use super::ignore::Ignore;
use super::sending::{Sending, unreadable};
use super::{Making, make};
use crate::app::App;
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub struct Build {
    /// What to build: micro or debian-12, or a folder with a Dockerfile
    #[arg(value_name = "RECIPE|FOLDER")]
    what: String,
    /// The Dockerfile, in the folder [default: FOLDER/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What an ARG of the Dockerfile is set to
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    args: Vec<String>,
    /// The stage of the Dockerfile to build, where it is not the last
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// For containers: the same system as a VM's, without what only a machine needs [of a recipe]
    #[arg(long)]
    container: bool,
    #[command(flatten)]
    making: Making,
}

impl Build {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let folder = Path::new(&self.what);
        if self.file.is_some() || (Recipe::by_name(&self.what).is_none() && folder.is_dir()) {
            return self.by_dockerfile(app, folder).await;
        }
        if !self.args.is_empty() || self.target.is_some() {
            let why = "'--build-arg' and '--target' are for a folder with a Dockerfile";
            return Err(Failure::new(Exit::Usage, why));
        }
        let own = || match Recipe::by_name(&self.what).filter(|_| self.container) {
            Some(recipe) => container_name(recipe),
            None => self.what.clone(),
        };
        let name = self.making.name.clone().unwrap_or_else(own);
        let mut spec = json!({"source": {"recipe": self.what}});
        if self.container {
            spec["format"] = json!("container");
        }
        make(app, &name, spec, &self.making).await
    }

    async fn by_dockerfile(&self, app: &App, folder: &Path) -> Result<(), Failure> {
        let full = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
        let name = self.making.named(&full.to_string_lossy())?;
        let dockerfile = self.dockerfile(folder, &full)?;
        let args = parse_args(&self.args)?;
        app.say(format_args!("image/{name}: packing {}", folder.display()));
        let (packed, needed) = (full.clone(), dockerfile.clone());
        let packing = tokio::task::spawn_blocking(move || pack(&packed, &needed)).await;
        let file = packing.map_err(|error| Failure::new(Exit::Failed, error.to_string()))??;
        let sending = Sending {
            name: &name,
            file: tokio::fs::File::from_std(file),
            path: folder,
            making: &self.making,
        };
        let spec = |size: u64, sha256: String| {
            let mut build = json!({"size": size, "sha256": sha256, "dockerfile": dockerfile});
            if !args.is_empty() {
                build["args"] = json!(args);
            }
            if let Some(target) = &self.target {
                build["target"] = Value::String(target.clone());
            }
            json!({"source": {"build": build}})
        };
        sending.run(app, spec).await
    }

    /// Its path in the folder.
    fn dockerfile(&self, folder: &Path, full: &Path) -> Result<String, Failure> {
        let given = match &self.file {
            None => folder.join("Dockerfile"),
            // As Docker has it, from here; or from the folder.
            Some(file) if file.exists() => file.clone(),
            Some(file) => folder.join(file),
        };
        let found = given.canonicalize().map_err(|error| unreadable(&given, &error))?;
        let below = found.strip_prefix(full).ok().and_then(Path::to_str);
        below.map(str::to_owned).ok_or_else(|| {
            let why = format!("{} is not below {}", given.display(), folder.display());
            Failure::new(Exit::Failed, why).hint("the Dockerfile goes with the folder that it is built of")
        })
    }
}

fn parse_args(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let one = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        // As Docker: what this command's own environment says.
        None => std::env::var(text).map(|value| (text.clone(), value)).map_err(|_| {
            let why = format!("'{text}' has no '=', and no such variable is set");
            Failure::new(Exit::Usage, format!("--build-arg: {why}"))
        }),
    };
    given.iter().map(one).collect()
}

/// A folder as an archive, in a file that goes when it is closed.
fn pack(folder: &Path, dockerfile: &str) -> Result<std::fs::File, Failure> {
    let ignore = match std::fs::read_to_string(folder.join(".dockerignore")) {
        Ok(text) => Ignore::parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ignore::default(),
        Err(error) => return Err(unreadable(&folder.join(".dockerignore"), &error)),
    };
    let path = std::env::temp_dir().join(format!("agentctl-{}.tar", uuid::Uuid::now_v7()));
    let unwritable =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(unwritable)?;
    std::fs::remove_file(&path).map_err(unwritable)?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let wanted = |path: &Path, is_folder: bool| {
        // The engine reads these two, whatever the second says of them.
        let needed = path == Path::new(dockerfile) || path == Path::new(".dockerignore");
        if needed || !ignore.leaves_out(path) {
            Taken::Yes
        } else if is_folder && (ignore.takes_in() || Path::new(dockerfile).starts_with(path)) {
            Taken::Through
        } else {
            Taken::No
        }
    };
    pack_below(folder, &mut out, &wanted).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let mut file = out.into_inner().map_err(|error| unwritable(error.into_error()))?;
    file.rewind().map_err(unwritable)?;
    Ok(file)
}
