//! Events of a container as agentctl follows them: their lines come while it happens.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use agent_tests::host::Agentd;
use agentd_api::Timestamp;
use serde_json::Value;

/// Between what happens and its line.
const SOON: Duration = Duration::from_secs(2);

pub struct Following {
    child: Child,
    /// Each with the time at which it came.
    lines: Receiver<(Timestamp, Value)>,
}

impl Following {
    /// Of what happens to an object, which need not be there yet.
    pub fn begin(agentd: &Agentd, what: &str) -> Self {
        let mut command = agentd.command(&["events", what, "--follow", "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("agentctl starts");
        let out = BufReader::new(child.stdout.take().expect("its stdout"));
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("an event");
                if to.send((Timestamp::now(), event)).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line of that, which has happened by now.
    pub fn tells(&self, verb: &str, outcome: &str) {
        let until = Instant::now() + SOON;
        let mut before = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((came, event)) = self.lines.recv_timeout(left) else {
                panic!("no line says '{verb}' and '{outcome}' within {SOON:?}: {before:#?}");
            };
            let at: Timestamp = event["at"].as_str().and_then(|at| at.parse().ok()).expect("its time");
            let late = Duration::from_millis(came.millis().saturating_sub(at.millis()));
            assert!(late <= SOON, "its line came {late:?} after it: {event}");
            if event["verb"] == verb && event["outcome"] == outcome {
                return;
            }
            before.push(event);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
