//! Reads a table's cells straight from JSON, skipping everything that no column shows: a list of 2,000 objects is
//! 3 MB, of which a table needs a twentieth.

use std::fmt;

use agentd_api::ColumnDef;
use agentd_api::kind::ColumnFormat;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer as Json;

use crate::failure::Failure;
use crate::output::{quantity, undecodable};

/// The columns' paths as one tree, so that each object is walked once.
#[derive(Debug, Default)]
struct Node {
    /// The columns that show this value itself.
    columns: Vec<usize>,
    fields: Vec<(&'static str, Node)>,
    /// What `*` stands for.
    elements: Option<Box<Node>>,
}

impl Node {
    fn of(columns: &[&ColumnDef]) -> Self {
        let mut root = Self::default();
        for (n, column) in columns.iter().enumerate() {
            let mut node = &mut root;
            for part in column.path.split('/').skip(1) {
                node = node.child(part);
            }
            node.columns.push(n);
        }
        root
    }
    fn child(&mut self, part: &'static str) -> &mut Self {
        if part == "*" {
            return self.elements.get_or_insert_default();
        }
        let at = match self.fields.iter().position(|(name, _)| *name == part) {
            Some(at) => at,
            None => {
                self.fields.push((part, Self::default()));
                self.fields.len() - 1
            }
        };
        &mut self.fields[at].1
    }
    fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, node)| node)
    }
}

/// The rows of a list's pages.
pub fn rows(columns: &[&ColumnDef], pages: &[Bytes]) -> Result<Vec<Vec<String>>, Failure> {
    let node = Node::of(columns);
    let mut rows = Vec::new();
    for page in pages {
        let mut json = Json::from_str(text(page)?);
        let items = Page { node: &node, width: columns.len(), rows: &mut rows };
        items.deserialize(&mut json).and_then(|()| json.end()).map_err(|e| undecodable(&e))?;
    }
    for row in &mut rows {
        shape(columns, row);
    }
    Ok(rows)
}

/// The row of one object.
pub fn row(columns: &[&ColumnDef], object: &[u8]) -> Result<Vec<String>, Failure> {
    let mut row = vec![String::new(); columns.len()];
    let mut json = Json::from_str(text(object)?);
    let value = Walk { node: &Node::of(columns), row: &mut row };
    value.deserialize(&mut json).and_then(|()| json.end()).map_err(|e| undecodable(&e))?;
    shape(columns, &mut row);
    Ok(row)
}

/// Checked once as a whole, which is far cheaper than each of its strings.
fn text(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|e| undecodable(&e))
}

static NAME: ColumnDef = ColumnDef::text("NAME", "/name");

pub fn names(pages: &[Bytes]) -> Result<Vec<String>, Failure> {
    Ok(rows(&[&NAME], pages)?.into_iter().map(|mut row| row.swap_remove(0)).collect())
}

pub fn name(object: &[u8]) -> Result<String, Failure> {
    Ok(row(&[&NAME], object)?.swap_remove(0))
}

fn shape(columns: &[&ColumnDef], row: &mut [String]) {
    for (column, cell) in columns.iter().zip(row) {
        match column.format {
            ColumnFormat::Text => {}
            ColumnFormat::Age => *cell = cell.parse().map_or_else(|_| std::mem::take(cell), quantity::age),
            ColumnFormat::Bytes => {
                *cell = cell.parse().map_or_else(|_| std::mem::take(cell), quantity::bytes)
            }
        }
        if cell.is_empty() {
            cell.push('-');
        }
    }
}

/// `{"items":[...],...}`
struct Page<'a> {
    node: &'a Node,
    width: usize,
    rows: &'a mut Vec<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(items) = map.next_key_seed(IsItems)? {
            if items {
                map.next_value_seed(Rows { page: &mut self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct IsItems;

impl<'de> DeserializeSeed<'de> for IsItems {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsItems {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }
    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == "items")
    }
}

struct Rows<'a, 'b> {
    page: &'a mut Page<'b>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let mut row = vec![String::new(); self.page.width];
            if seq.next_element_seed(Walk { node: self.page.node, row: &mut row })?.is_none() {
                return Ok(());
            }
            self.page.rows.push(row);
        }
    }
}

/// One value: taken into its columns, or walked where some lie below it.
struct Walk<'a> {
    node: &'a Node,
    row: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn take(self, text: &str) {
        for column in &self.node.columns {
            let cell = &mut self.row[*column];
            if !cell.is_empty() {
                cell.push(',');
            }
            cell.push_str(text);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.take(text);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.take(if value { "true" } else { "false" });
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.take(&value.to_string());
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.take(&value.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.take(&value.to_string());
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        match &self.node.elements {
            Some(node) => while seq.next_element_seed(Walk { node, row: &mut *self.row })?.is_some() {},
            None => while seq.next_element::<IgnoredAny>()?.is_some() {},
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Field { node: self.node })? {
            match field {
                Some(node) => map.next_value_seed(Walk { node, row: &mut *self.row })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Field<'a> {
    node: &'a Node,
}

impl<'de, 'a> DeserializeSeed<'de> for Field<'a> {
    type Value = Option<&'a Node>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Field<'a> {
    type Value = Option<&'a Node>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.node.field(name))
    }
}

#[cfg(test)]
mod tests;
