//! One session: what came for it and was not taken yet, what it may still send, and what ends with it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use agentd_guest_wire::{Answer, DATA_MAX, Message, Stream, Trouble, WINDOW, cost};

use crate::port::Port;

/// What is done to a session from outside, by whatever it is.
pub trait Control: Send {
    fn signal(&mut self, number: u32);
    fn resize(&mut self, columns: u16, rows: u16);
    /// Nobody waits for it any more.
    fn end(&mut self);
}

pub struct Session {
    id: u32,
    nonce: u32,
    port: Arc<Port>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    closed: bool,
    credit: u32,
    input: VecDeque<Vec<u8>>,
    input_ended: bool,
    /// What was taken of the input since agentd was last granted more.
    taken: u32,
    control: Option<Box<dyn Control>>,
}

impl Session {
    pub fn new(id: u32, nonce: u32, port: Arc<Port>) -> Arc<Self> {
        let state = State {
            closed: false,
            credit: WINDOW,
            input: VecDeque::new(),
            input_ended: false,
            taken: 0,
            control: None,
        };
        Arc::new(Self { id, nonce, port, state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn closed(&self) -> bool {
        self.lock().closed
    }

    /// What is done to it from now on. Where it is over already, that is told at once.
    pub fn controlled_by(&self, mut control: Box<dyn Control>) {
        let mut state = self.lock();
        if state.closed {
            control.end();
        }
        state.control = Some(control);
    }

    pub fn uncontrolled(&self) {
        self.lock().control = None;
    }

    pub fn came(&self, message: Message) {
        let mut state = self.lock();
        match message {
            Message::Data { bytes, .. } if !state.input_ended => state.input.push_back(bytes),
            Message::End { .. } => state.input_ended = true,
            Message::Credit { bytes, .. } => state.credit = state.credit.saturating_add(bytes),
            Message::Signal { number, .. } => {
                if let Some(control) = &mut state.control {
                    control.signal(number);
                }
            }
            Message::Resize { columns, rows, .. } => {
                if let Some(control) = &mut state.control {
                    control.resize(columns, rows);
                }
            }
            _ => {}
        }
        drop(state);
        self.changed.notify_all();
    }

    pub fn close(&self) {
        let mut state = self.lock();
        if !state.closed {
            state.closed = true;
            if let Some(control) = &mut state.control {
                control.end();
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// No more of the input will be taken.
    pub fn end_input(&self) {
        self.lock().input_ended = true;
        self.changed.notify_all();
    }

    /// The next piece of input; None at its end, and where the session is over.
    pub fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let bytes = loop {
            if state.closed {
                return None;
            }
            if let Some(bytes) = state.input.pop_front() {
                break bytes;
            }
            if state.input_ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.taken += cost(bytes.len());
        let granted = if state.taken >= WINDOW / 4 { std::mem::take(&mut state.taken) } else { 0 };
        drop(state);
        if granted > 0 {
            self.send(&Message::Credit { session: self.id, bytes: granted });
        }
        Some(bytes)
    }

    fn send(&self, message: &Message) -> bool {
        self.port.send(self.nonce, message)
    }

    /// False where the session is over.
    pub fn answer(&self, answer: Answer) -> bool {
        !self.closed() && self.send(&Message::Reply { session: self.id, answer })
    }

    pub fn fail(&self, trouble: Trouble, detail: impl Into<String>) {
        let mut detail: String = detail.into();
        let mut end = detail.len().min(1000);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        self.answer(Answer::Failed { trouble, detail });
    }

    /// Sends data as agentd takes it. False where the session is over.
    pub fn data(&self, stream: Stream, bytes: &[u8]) -> bool {
        bytes.chunks(DATA_MAX).all(|piece| {
            let price = cost(piece.len());
            let mut state = self.lock();
            while !state.closed && state.credit < price {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return false;
            }
            state.credit -= price;
            drop(state);
            self.send(&Message::Data { session: self.id, stream, bytes: piece.to_vec() })
        })
    }
}

/// The input as a file.
pub struct Input<'a> {
    session: &'a Session,
    piece: Vec<u8>,
    at: usize,
}

impl<'a> Input<'a> {
    pub fn new(session: &'a Session) -> Self {
        Self { session, piece: Vec::new(), at: 0 }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.session.next() {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None if self.session.closed() => return Err(io::Error::other("agentd went away")),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
