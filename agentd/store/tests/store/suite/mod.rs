//! What every engine must bring about. Each function is given a way to open one and the same store, again and again.

pub mod history;
pub mod lists;
pub mod objects;
pub mod transactions;
