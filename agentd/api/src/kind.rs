//! How a kind is declared. The declaration is all that the generic parts (HTTP, store indexes, discovery, OpenAPI, the
//! CLI's tables and completion) need to know of it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::status::{State, StatusCommon};

/// A column of the kind's table: a heading and the JSON pointer of what stands under it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ColumnDef {
    pub heading: &'static str,
    /// A JSON pointer (RFC 6901) into the object. `/status/addresses/*/ip` joins the elements of a list with commas.
    pub path: &'static str,
    pub format: ColumnFormat,
    /// Shown only with `-o wide`.
    pub wide: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnFormat {
    Text,
    /// A time, shown as how long ago it was.
    Age,
    /// A number of bytes, shown as a size.
    Bytes,
}

impl ColumnDef {
    pub const fn text(heading: &'static str, path: &'static str) -> Self {
        Self { heading, path, format: ColumnFormat::Text, wide: false }
    }
    pub const fn age(heading: &'static str, path: &'static str) -> Self {
        Self { heading, path, format: ColumnFormat::Age, wide: false }
    }
    pub const fn bytes(heading: &'static str, path: &'static str) -> Self {
        Self { heading, path, format: ColumnFormat::Bytes, wide: false }
    }
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// A field that lists and watches can select on (`?fields=state=running`) and that the store keeps an index of.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FieldDef {
    pub name: &'static str,
    /// A JSON pointer; `*` stands for every element of a list, each of which is indexed.
    pub path: &'static str,
}

/// A verb of the kind beyond CRUD: `POST /v1/{kinds}/{name}/{action}`.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ActionDef {
    pub name: &'static str,
    pub summary: &'static str,
}

/// What an object has beside itself: a stream, a file, figures; `/v1/{kinds}/{name}/{sub}`.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SubDef {
    pub name: &'static str,
    pub method: SubMethod,
    pub answer: SubAnswer,
    /// Query parameters beside `project`. Others are refused.
    pub params: &'static [ParamDef],
    pub summary: &'static str,
}

impl SubDef {
    pub const fn get(
        name: &'static str,
        answer: SubAnswer,
        params: &'static [ParamDef],
        summary: &'static str,
    ) -> Self {
        Self { name, method: SubMethod::Get, answer, params, summary }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SubMethod {
    Get,
    Put,
    Post,
}

impl SubMethod {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// How a subresource answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubAnswer {
    /// 101: the connection becomes a two-way stream of [`frames`](crate::frame).
    Frames,
    /// 101: the connection becomes a two-way stream of bytes, of a protocol that the summary names.
    Bytes,
    /// Content of this media type, as it comes.
    Content(&'static str),
    /// A JSON document.
    Json,
    /// A JSON document that is a list.
    JsonList,
}

impl SubAnswer {
    /// What the `Upgrade` header says, where the connection is upgraded.
    pub const fn protocol(self) -> Option<&'static str> {
        match self {
            Self::Frames => Some("agentd-frames"),
            Self::Bytes => Some("agentd-bytes"),
            Self::Content(_) | Self::Json | Self::JsonList => None,
        }
    }
}

/// A query parameter of a subresource.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ParamDef {
    pub name: &'static str,
    pub shape: ParamShape,
    pub summary: &'static str,
}

impl ParamDef {
    pub const fn text(name: &'static str, summary: &'static str) -> Self {
        Self { name, shape: ParamShape::Text, summary }
    }
    pub const fn flag(name: &'static str, summary: &'static str) -> Self {
        Self { name, shape: ParamShape::Flag, summary }
    }
    pub const fn number(name: &'static str, summary: &'static str) -> Self {
        Self { name, shape: ParamShape::Number, summary }
    }
    pub const fn one_of(name: &'static str, words: &'static [&'static str], summary: &'static str) -> Self {
        Self { name, shape: ParamShape::OneOf(words), summary }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamShape {
    Text,
    Flag,
    Number,
    /// One of these words. The first is meant where it is absent.
    OneOf(&'static [&'static str]),
}

/// What one kind is, for those who do not know its types.
#[derive(Debug, Serialize)]
pub struct KindDef {
    /// Singular, as on the wire and in `agentctl get vm/web`.
    pub kind: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    /// One sentence.
    pub summary: &'static str,
    pub states: &'static [State],
    pub columns: &'static [ColumnDef],
    pub fields: &'static [FieldDef],
    pub actions: &'static [ActionDef],
    pub subs: &'static [SubDef],
}

impl KindDef {
    pub fn action(&self, name: &str) -> Option<&'static ActionDef> {
        self.actions.iter().find(|a| a.name == name)
    }
    /// The first of that name: a name may stand for several, told apart by their methods.
    pub fn sub(&self, name: &str) -> Option<&'static SubDef> {
        self.subs.iter().find(|s| s.name == name)
    }
    pub fn sub_by(&self, name: &str, method: SubMethod) -> Option<&'static SubDef> {
        self.subs.iter().find(|s| s.name == name && s.method == method)
    }
    pub fn field(&self, name: &str) -> Option<(usize, &'static FieldDef)> {
        self.fields.iter().enumerate().find(|(_, f)| f.name == name)
    }
}

/// The action that every kind has: look again now, or after a delay.
pub const RECONCILE: ActionDef = ActionDef { name: "reconcile", summary: "Reconcile now, or after a delay" };
/// The action that every kind has: forget failed tries and try again.
pub const RETRY: ActionDef = ActionDef { name: "retry", summary: "Forget failed attempts and try again now" };

/// What the body of an action may hold. Other fields are refused.
pub fn action_fields(action: &str) -> &'static [&'static str] {
    match action {
        "reconcile" => &["delay"],
        "restore" => &["vm"],
        "rename" => &["name"],
        _ => &[],
    }
}

/// A kind of object: the types of its spec and status, and its declaration.
pub trait Kind: Send + Sync + Copy + std::fmt::Debug + PartialEq + 'static {
    /// What is wanted. Refuses unknown fields. Serialises the same value to the same bytes.
    type Spec: Serialize
        + DeserializeOwned
        + Clone
        + PartialEq
        + std::fmt::Debug
        + ToSchema
        + Send
        + Sync
        + 'static;
    /// What was seen.
    type Status: Serialize
        + DeserializeOwned
        + Clone
        + PartialEq
        + std::fmt::Debug
        + ToSchema
        + Default
        + Send
        + Sync
        + 'static;

    const DEF: &'static KindDef;

    /// Checks that need nothing but the spec itself. Every error names its field, as `spec.cpus`.
    fn check(spec: &Self::Spec) -> Vec<FieldError>;
    fn common(status: &Self::Status) -> &StatusCommon;
    fn common_mut(status: &mut Self::Status) -> &mut StatusCommon;
}
