//! `vm resize` and `vm patch`: a VM's size, and any field of its spec.

use clap::Args;
use serde_json::{Map, Value};

use super::DEF;
use super::spec::SizeArgs;
use crate::app::App;
use crate::failure::Failure;
use crate::verb::change::ChangeArgs;

#[derive(Debug, Args)]
pub struct Resize {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// How many CPUs it has
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// How many CPUs it can be given while it runs
    #[arg(long, value_name = "N")]
    cpus_max: Option<u32>,
    /// How much memory it has, as in 1GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// How much memory it can be given while it runs
    #[arg(long, value_name = "SIZE")]
    memory_max: Option<String>,
    /// The size of its disk, which only grows
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Resize {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { name, cpus, cpus_max, memory, memory_max, disk, change } = self;
        let mut spec = Map::new();
        SizeArgs { flavor: None, cpus, cpus_max, memory, memory_max, disk }.fill(&mut spec);
        change.set(app, DEF, &name, spec).await
    }
}

#[derive(Debug, Args)]
pub struct Patch {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// A field of its spec and its new value: text, or JSON where it is more than text; null takes it back
    #[arg(value_name = "FIELD=VALUE", required = true, value_parser = field)]
    fields: Vec<(String, Value)>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Patch {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        self.change.set(app, DEF, &self.name, self.fields.into_iter().collect()).await
    }
}

fn field(text: &str) -> Result<(String, Value), String> {
    let (field, value) = text.split_once('=').ok_or("write it as FIELD=VALUE")?;
    let field = field.strip_prefix("spec.").unwrap_or(field);
    if field.is_empty() || field.contains('.') {
        return Err("a field is one of the spec's own, as memory or restart".to_owned());
    }
    // 2 and "2" are both what they look like; what is no JSON is text.
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((field.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_json_or_else_text() {
        for (text, wanted) in [
            ("cpus=2", ("cpus", json!(2))),
            ("spec.memory=1GiB", ("memory", json!("1GiB"))),
            ("restart=on-failure", ("restart", json!("on-failure"))),
            ("cpus_max=null", ("cpus_max", Value::Null)),
            ("publish=[{\"host\":80,\"guest\":80}]", ("publish", json!([{"host": 80, "guest": 80}]))),
            ("user_data=a=b", ("user_data", json!("a=b"))),
        ] {
            let (name, value) = wanted;
            assert_eq!(field(text), Ok((name.to_owned(), value)), "{text}");
        }
        for bad in ["cpus", "=2", "status.state=x"] {
            assert!(field(bad).is_err(), "{bad}");
        }
    }
}
