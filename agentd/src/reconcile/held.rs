//! What exports and imports have on the host while they are under way, so that nobody sweeps it. In memory only: what a
//! process leaves that was killed over one is held by nobody.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<HashMap<Uuid, usize>>>);

/// Holds until it is dropped.
#[derive(Debug)]
pub struct Hold {
    held: Held,
    id: Uuid,
}

impl Held {
    pub fn hold(&self, id: Uuid) -> Hold {
        *self.0.lock().entry(id).or_default() += 1;
        Hold { held: self.clone(), id }
    }
    pub fn holds(&self, id: Uuid) -> bool {
        self.0.lock().contains_key(&id)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.held.0.lock();
        if let Some(count) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_until_the_last_lets_go() {
        let (held, id) = (Held::default(), Uuid::now_v7());
        let (one, two) = (held.hold(id), held.hold(id));
        drop(one);
        assert!(held.holds(id));
        drop(two);
        assert!(!held.holds(id));
    }
}
