//! The API through a real Unix socket, with a real store and the real intents.

mod events;
mod limits;
mod lists;
mod objects;
mod remote;
mod served;
mod server;
mod stop;
mod strangers;
mod subs;
mod watches;
