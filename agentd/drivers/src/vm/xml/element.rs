//! A tree of elements, its text, and the tree of a text. All escaping happens here, by the serialiser and the parser.

use std::fmt::Display;

use quick_xml::escape::unescape;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};

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
    /// With a value where there is one.
    pub(super) fn attr_if(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attr(key, value),
            None => self,
        }
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

    /// With this child in the place of those of its name.
    pub(super) fn with(mut self, child: Self) -> Self {
        for place in self.children.iter_mut().filter(|other| other.name == child.name) {
            place.clone_from(&child);
        }
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

/// Reading.
impl Element {
    /// None where the text is not well-formed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        loop {
            let done = match reader.read_event().ok()? {
                Event::Start(tag) => {
                    open.push(Self::of_tag(&tag)?);
                    continue;
                }
                Event::Empty(tag) => Self::of_tag(&tag)?,
                Event::End(_) => open.pop()?,
                Event::Text(text) => {
                    if let (Some(within), Ok(text)) = (open.last_mut(), unescape(&text)) {
                        within.text.get_or_insert_default().push_str(&text);
                    }
                    continue;
                }
                Event::GeneralRef(name) => {
                    if let (Some(within), Ok(text)) = (open.last_mut(), unescape(&format!("&{};", &*name))) {
                        within.text.get_or_insert_default().push_str(&text);
                    }
                    continue;
                }
                Event::Eof => return None,
                _ => continue,
            };
            match open.last_mut() {
                Some(within) => within.children.push(done),
                None => return Some(done),
            }
        }
    }

    fn of_tag(tag: &BytesStart<'_>) -> Option<Self> {
        let mut element = el(tag.name().as_ref());
        for attribute in tag.attributes() {
            let attribute = attribute.ok()?;
            let value = unescape(&attribute.value).ok()?.into_owned();
            element.attributes.push((attribute.key.as_ref().to_owned(), value));
        }
        Some(element)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(is, _)| is == key).map(|(_, value)| value.as_str())
    }
    /// The text directly within, without the space around it.
    pub(super) fn content(&self) -> &str {
        self.text.as_deref().unwrap_or_default().trim()
    }
    /// The first element of that name directly within.
    pub(super) fn find(&self, name: &str) -> Option<&Self> {
        self.all(name).next()
    }
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
    pub(super) fn name(&self) -> &str {
        &self.name
    }
    pub(super) fn within(&self) -> &[Self] {
        &self.children
    }
}
