//! What goes to stdout, and in which form. JSON is the bytes that the daemon sent; tables come from the kind's declared
//! columns, read straight from those bytes.

pub mod detail;
pub mod figures;
pub mod project;
pub mod quantity;
pub mod table;
pub mod tree;
pub mod yaml;

use std::io::{self, BufWriter, Write};

use agentd_api::KindDef;
use bytes::Bytes;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::{Exit, Failure};
use crate::output::table::Table;
use crate::output::tree::Tree;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns that fit the terminal
    Table,
    /// A table with all columns
    Wide,
    /// The API's own objects
    Json,
    /// The same as YAML
    Yaml,
    /// KIND/NAME
    Name,
}

impl Output {
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// A list, as the pages in which it came. Says whether a person was shown nothing, so that it can be said.
pub fn print_list(def: &'static KindDef, pages: &[Bytes], output: Output) -> Result<bool, Failure> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut shown = 1;
    match output {
        Output::Table | Output::Wide => {
            let columns = table::columns(def, output == Output::Wide);
            let rows = project::rows(&columns, pages)?;
            shown = rows.len();
            if !rows.is_empty() {
                Table::new(&columns, rows).write(&mut out)?;
            }
        }
        Output::Json => match pages {
            [page] => line(&mut out, page)?,
            pages => line(&mut out, &joined(pages)?)?,
        },
        Output::Yaml => {
            let items = items(pages)?;
            shown = items.len();
            for (n, item) in items.into_iter().enumerate() {
                yaml_document(&mut out, item.get().as_bytes(), n)?;
            }
        }
        Output::Name => {
            let names = project::names(pages)?;
            shown = names.len();
            for name in names {
                writeln!(out, "{}/{name}", def.kind)?;
            }
        }
    }
    out.flush()?;
    Ok(shown == 0)
}

/// What is no object of the daemon's: rows for a person, each with the document that it is for a program; the first column
/// is its name. Says whether there was something.
pub fn print_rows(
    (headings, rows): (Vec<&'static str>, Vec<Vec<String>>),
    documents: Vec<serde_json::Value>,
    output: Output,
) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    let some = !rows.is_empty();
    match output {
        Output::Table | Output::Wide if some => Table::with_headings(headings, rows).write(&mut out)?,
        Output::Table | Output::Wide => {}
        Output::Json | Output::Yaml => {
            let text = serde_json::json!({"items": documents}).to_string();
            print_raw(text.as_bytes(), output).map(drop)?;
        }
        Output::Name => {
            for name in rows.iter().filter_map(|row| row.first()) {
                writeln!(out, "{name}")?;
            }
        }
    }
    Ok(some)
}

/// Objects of one kind that were asked for by name, or that a command made.
pub fn print_objects(def: &'static KindDef, objects: &[Bytes], output: Output) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match output {
        Output::Table | Output::Wide => {
            let columns = table::columns(def, output == Output::Wide);
            let rows =
                objects.iter().map(|object| project::row(&columns, object)).collect::<Result<Vec<_>, _>>()?;
            if !rows.is_empty() {
                Table::new(&columns, rows).write(&mut out)?;
            }
        }
        Output::Json => {
            for object in objects {
                line(&mut out, object)?;
            }
        }
        Output::Yaml => {
            for (n, object) in objects.iter().enumerate() {
                yaml_document(&mut out, object, n)?;
            }
        }
        Output::Name => {
            for object in objects {
                writeln!(out, "{}/{}", def.kind, project::name(object)?)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Something of the daemon's that is no object: as it came, or as YAML. `false` where a table was asked for, which the
/// caller makes.
pub fn print_raw(body: &[u8], output: Output) -> Result<bool, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match output {
        Output::Json => line(&mut out, body)?,
        Output::Yaml => yaml_document(&mut out, body, 0)?,
        Output::Table | Output::Wide | Output::Name => return Ok(false),
    }
    out.flush()?;
    Ok(true)
}

pub fn line(out: &mut impl Write, body: &[u8]) -> io::Result<()> {
    out.write_all(body.trim_ascii_end())?;
    out.write_all(b"\n")
}

/// One thing as YAML.
pub fn yaml_text(out: &mut impl Write, body: &[u8]) -> Result<(), Failure> {
    yaml_document(out, body, 0)
}

fn yaml_document(out: &mut impl Write, body: &[u8], number: usize) -> Result<(), Failure> {
    let tree: Tree = serde_json::from_slice(body).map_err(|e| undecodable(&e))?;
    if number > 0 {
        out.write_all(b"---\n")?;
    }
    out.write_all(yaml::render(&tree).as_bytes())?;
    Ok(())
}

#[derive(Deserialize)]
struct Items<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    revision: u64,
}

fn items(pages: &[Bytes]) -> Result<Vec<&RawValue>, Failure> {
    let mut all = Vec::new();
    for page in pages {
        let page: Items<'_> = serde_json::from_slice(page).map_err(|e| undecodable(&e))?;
        all.extend(page.items);
    }
    Ok(all)
}

/// A page of the objects that have none of these names.
pub fn without(pages: &[Bytes], names: &[String]) -> Result<Bytes, Failure> {
    let mut left = Vec::new();
    for item in items(pages)? {
        if !names.contains(&project::name(item.get().as_bytes())?) {
            left.push(item.get());
        }
    }
    Ok(Bytes::from(format!("{{\"items\":[{}],\"revision\":0,\"continue\":null}}", left.join(","))))
}

/// Several pages as the one list that they are parts of. Each object stays byte for byte what it was.
pub fn joined(pages: &[Bytes]) -> Result<Vec<u8>, Failure> {
    let first: Option<Items<'_>> =
        pages.first().map(|p| serde_json::from_slice(p)).transpose().map_err(|e| undecodable(&e))?;
    let texts: Vec<&str> = items(pages)?.into_iter().map(RawValue::get).collect();
    let revision = first.map_or(0, |page| page.revision);
    Ok(format!("{{\"items\":[{}],\"revision\":{revision},\"continue\":null}}", texts.join(",")).into_bytes())
}

pub fn undecodable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("the daemon's answer cannot be read: {error}"))
        .hint("`agentctl version` shows whether agentctl and the daemon are of one version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_one_list() {
        let pages = [
            Bytes::from_static(br#"{"items":[{"a": 1},{"b":2}],"revision":7,"continue":"x"}"#),
            Bytes::from_static(br#"{"items":[{"c":3}],"revision":9,"continue":null}"#),
        ];
        let list = joined(&pages).map(|b| String::from_utf8(b).expect("text")).map_err(|f| f.text());
        let wanted = r#"{"items":[{"a": 1},{"b":2},{"c":3}],"revision":7,"continue":null}"#;
        assert_eq!(list, Ok(wanted.to_owned()));
    }
}
