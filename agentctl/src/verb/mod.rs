//! What nouns share: the same verb means the same and has the same flags for every kind.

pub mod act;
pub mod change;
pub mod create;
pub mod list;
pub mod remove;
pub mod show;
pub mod stop;
