//! Who sits at which console: any number watch, up to a bound, and one types.
//!
//! Whoever comes first and may type keeps it until it leaves or somebody takes it over by force. Then it is free, and
//! whoever types next has it. The terminal is open only while somebody has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentd_api::{ErrorCode, Problem, Timestamp};
use agentd_drivers::console::Input;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

/// At one console.
const SEATS: usize = 64;
/// At all consoles of the host.
const SEATS_OF_ALL: usize = 512;
/// Notes that wait for somebody who does not read. What is more is not told.
const NOTES: usize = 16;

/// The terminal of a console, once it is open; the lock is held while something is typed.
pub type Terminal = Arc<tokio::sync::Mutex<Option<Input>>>;

#[derive(Debug, Default)]
pub struct Desks {
    desks: Mutex<HashMap<Uuid, Desk>>,
}

#[derive(Debug, Default)]
struct Desk {
    seats: BTreeMap<u64, Sitter>,
    next: u64,
    writer: Option<u64>,
    terminal: Terminal,
}

#[derive(Debug)]
struct Sitter {
    actor: String,
    since: Timestamp,
    notes: mpsc::Sender<String>,
}

/// What somebody comes to a console for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Watch,
    Type,
    /// Type, whoever types now.
    TakeOver,
}

/// A place at a console, given up when dropped.
#[derive(Debug)]
pub struct Seat {
    desks: Arc<Desks>,
    vm: Uuid,
    number: u64,
}

impl Desks {
    /// A seat, and what is to be told to whoever sits there.
    pub fn sit(
        self: &Arc<Self>,
        vm: Uuid,
        actor: &str,
        wish: Wish,
    ) -> Result<(Seat, mpsc::Receiver<String>), Problem> {
        let mut desks = self.desks.lock();
        let all: usize = desks.values().map(|desk| desk.seats.len()).sum();
        let here = desks.get(&vm).map_or(0, |desk| desk.seats.len());
        if here >= SEATS || all >= SEATS_OF_ALL {
            let (count, whose) =
                if here >= SEATS { (SEATS, "this console") } else { (SEATS_OF_ALL, "consoles") };
            let detail = format!("{count} sit at {whose} already");
            return Err(Problem::new(ErrorCode::TooManyRequests, detail).hint("close one of them"));
        }
        let desk = desks.entry(vm).or_default();
        let number = desk.next;
        desk.next += 1;
        let (notes, told) = mpsc::channel(NOTES);
        let sitter = Sitter { actor: actor.to_owned(), since: Timestamp::now(), notes };
        let before = desk.writer;
        match (wish, before.and_then(|writer| desk.seats.get(&writer))) {
            (Wish::Watch, _) => sitter.tell("you watch; what you type goes nowhere"),
            (Wish::Type, Some(writer)) => sitter.tell(&format!(
                "{} types here since {}; you watch (--force takes over)",
                writer.actor, writer.since
            )),
            (Wish::TakeOver, Some(writer)) => {
                writer.tell(&format!("{actor} has taken over; you watch"));
                desk.writer = Some(number);
            }
            (Wish::Type | Wish::TakeOver, None) => desk.writer = Some(number),
        }
        desk.seats.insert(number, sitter);
        Ok((Seat { desks: self.clone(), vm, number }, told))
    }
}

impl Sitter {
    fn tell(&self, note: &str) {
        // Who does not read what it was told before misses this.
        let _ = self.notes.try_send(note.to_owned());
    }
}

impl Seat {
    /// The terminal, where whoever sits here may type: it does so already, or nobody does.
    pub fn terminal(&self) -> Option<Terminal> {
        let mut desks = self.desks.desks.lock();
        let desk = desks.get_mut(&self.vm)?;
        let writer = *desk.writer.get_or_insert(self.number);
        (writer == self.number).then(|| desk.terminal.clone())
    }

    /// The terminal, where it is this seat's already.
    pub fn held(&self) -> Option<Terminal> {
        let desks = self.desks.desks.lock();
        desks.get(&self.vm).filter(|desk| desk.writer == Some(self.number)).map(|desk| desk.terminal.clone())
    }

    /// A line for whoever sits here.
    pub fn tell(&self, note: &str) {
        if let Some(sitter) =
            self.desks.desks.lock().get(&self.vm).and_then(|desk| desk.seats.get(&self.number))
        {
            sitter.tell(note);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut desks = self.desks.desks.lock();
        let Some(desk) = desks.get_mut(&self.vm) else { return };
        desk.seats.remove(&self.number);
        if desk.writer == Some(self.number) {
            desk.writer = None;
            // What was open is closed once whoever types into it is done.
            desk.terminal = Terminal::default();
            desk.seats
                .values()
                .for_each(|sitter| sitter.tell("nobody types here any more; what is typed next, counts"));
        }
        if desk.seats.is_empty() {
            desks.remove(&self.vm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(notes: &mut mpsc::Receiver<String>) -> String {
        notes.try_recv().unwrap_or_default()
    }

    #[tokio::test]
    async fn the_first_keeps_it_until_it_leaves_or_is_overruled() {
        let (desks, vm) = (Arc::new(Desks::default()), Uuid::now_v7());
        let (first, mut to_first) = desks.sit(vm, "uid:1", Wish::Type).expect("a seat");
        let (second, mut to_second) = desks.sit(vm, "uid:2", Wish::Type).expect("a seat");
        assert!(first.held().is_some() && first.terminal().is_some());
        assert!(second.terminal().is_none());
        assert!(told(&mut to_second).contains("uid:1 types here"));
        let (third, mut to_third) = desks.sit(vm, "uid:3", Wish::TakeOver).expect("a seat");
        assert!(told(&mut to_first).contains("uid:3 has taken over"));
        assert!(first.terminal().is_none() && third.held().is_some());
        drop(third);
        assert!(told(&mut to_second).contains("nobody types"));
        assert!(first.held().is_none(), "it is not given back by itself");
        assert!(second.terminal().is_some(), "who types next has it");
        assert!(first.terminal().is_none());
        assert_eq!(told(&mut to_third), "");
    }

    #[tokio::test]
    async fn a_watcher_takes_nothing_and_seats_are_bounded() {
        let (desks, vm) = (Arc::new(Desks::default()), Uuid::now_v7());
        let mut seats = vec![desks.sit(vm, "uid:1", Wish::Watch).expect("a seat")];
        assert!(seats[0].0.held().is_none());
        seats.extend((1..SEATS).map(|_| desks.sit(vm, "uid:1", Wish::Type).expect("a seat")));
        assert!(seats[1].0.held().is_some());
        let refused = desks.sit(vm, "uid:1", Wish::Watch).expect_err("one too many");
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        let other = desks.sit(Uuid::now_v7(), "uid:1", Wish::Type).expect("another console has its own");
        seats.pop();
        seats.push(desks.sit(vm, "uid:1", Wish::Watch).expect("a seat is free again"));
        drop((seats, other));
        assert!(desks.desks.lock().is_empty());
    }
}
