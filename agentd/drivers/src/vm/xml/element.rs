//! A tree of elements, and its text. All escaping happens here, by the serialiser.

use std::fmt::Display;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: Option<String>,
    children: Vec<Element>,
}

pub(super) fn el(name: &str) -> Element {
    Element { name: name.to_owned(), attributes: Vec::new(), text: None, children: Vec::new() }
}

impl Element {
    pub(super) fn attr(mut self, key: &str, value: impl Display) -> Self {
        self.attributes.push((key.to_owned(), value.to_string()));
        self
    }
    pub(super) fn text(mut self, text: impl Display) -> Self {
        self.text = Some(text.to_string());
        self
    }
    pub(super) fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }
    pub(super) fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    pub(super) fn text_of_tree(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer).expect("writing to memory does not fail");
        String::from_utf8(writer.into_inner()).expect("only UTF-8 was written")
    }

    fn write(&self, to: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let mut start = BytesStart::new(self.name.as_str());
        start.extend_attributes(self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if self.text.is_none() && self.children.is_empty() {
            return to.write_event(Event::Empty(start));
        }
        to.write_event(Event::Start(start))?;
        if let Some(text) = &self.text {
            to.write_event(Event::Text(BytesText::new(text)))?;
        }
        for child in &self.children {
            child.write(to)?;
        }
        to.write_event(Event::End(BytesEnd::new(self.name.as_str())))
    }
}
