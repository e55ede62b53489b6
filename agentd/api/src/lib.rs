//! The contract of agentd: what its kinds are, how an object looks on the wire, what may go wrong and under which
//! code. Scripts outside this tree depend on what is declared here, so a change of meaning is a change of contract.
//!
//! It owns names, sizes, kinds, states, error codes and paths. It does no I/O, knows no HTTP library, no store and no
//! driver; everything else depends on it and it on none of them.
//!
//! A kind is declared once, by a [`Kind`] implementation: its spec and status types, the columns of its table, the
//! fields that can be selected on, its actions. CRUD, list, watch, discovery, OpenAPI, completion and the CLI's tables
//! follow from that declaration (see [`registry`]).

pub mod backup;
pub mod container;
pub mod cpu;
pub mod doctor;
pub mod error;
pub mod event;
pub mod exec;
pub mod fields;
pub mod flavor;
pub mod frame;
pub mod image;
pub mod kind;
pub mod life;
pub mod limits;
pub mod list;
pub mod name;
pub mod net;
pub mod network;
pub mod nic;
pub mod object;
pub mod paths;
pub mod quantity;
pub mod registry;
pub mod remote;
mod schema;
pub mod server;
pub mod snapshot;
pub mod ssh_key;
pub mod stats;
pub mod status;
pub mod time;
pub mod vm;
pub mod volume;

pub use error::{ErrorCode, FieldError, Problem};
pub use kind::{
    ActionDef, ColumnDef, FieldDef, Kind, KindDef, ParamDef, ParamShape, SubAnswer, SubDef, SubMethod,
};
pub use name::{LabelKey, LabelValue, ObjectName};
pub use net::{Cidr, MacAddr, PortMap, Protocol};
pub use object::{Labels, Meta, Object, ObjectKey};
pub use quantity::{ByteSize, Span};
pub use status::{Attempts, Condition, LayerProgress, LayerState, Progress, State, StatusCommon};
pub use time::Timestamp;
