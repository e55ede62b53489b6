//! A package over the state of another time: an older agentd's is migrated from a copy, a newer one's is refused and left
//! as it is.

use std::path::{Path, PathBuf};

use agent_tests::host::Agentd;

use super::{STATE, install, ok, sh};

/// As the daemon of the first schema left it.
const OLD: &[u8] = include_bytes!("../../../agentd/store/tests/store/schemas/1.db");

fn database() -> PathBuf {
    Path::new(STATE).join("agentd.db")
}

fn open() -> rusqlite::Connection {
    rusqlite::Connection::open(database()).expect("a database")
}

fn an_older_one_is_migrated_from_a_copy(agentd: &Agentd) {
    ok(&format!("mkdir -p -m 0711 {STATE}"));
    std::fs::write(database(), OLD).expect("written");
    install(1);
    assert_eq!(agentd.ok(&["get", "vm", "-o", "name"]), "vm/web-1\nvm/web-3\n");
    let copy = std::fs::read(Path::new(STATE).join("agentd.db.v1.bak")).expect("a copy");
    assert!(copy == OLD, "it is as it was");
    ok("journalctl -q --no-pager -o cat -u agentd.service | grep -q 'migrating the store'");
}

fn a_newer_one_is_refused_and_left_as_it_is(agentd: &Agentd) {
    ok("systemctl stop agentd.socket agentd.service");
    let known: i64 = open().pragma_query_value(None, "user_version", |row| row.get(0)).expect("a schema");
    open().pragma_update(None, "user_version", known + 1).expect("set");
    let before = std::fs::read(database()).expect("read");
    assert!(sh("systemctl start agentd.service").is_err(), "it is not started on what it does not know");
    let said = ok("journalctl -q --no-pager -o cat -u agentd.service | tail -n 40");
    for word in ["written by a newer agentd", "Start that agentd again"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    ok("systemctl stop agentd.socket agentd.service; systemctl reset-failed agentd.service");
    assert!(std::fs::read(database()).expect("read") == before, "it is as it was");
    open().pragma_update(None, "user_version", known).expect("set");
    ok("systemctl start agentd.socket");
    assert_eq!(agentd.ok(&["get", "vm", "-o", "name"]), "vm/web-1\nvm/web-3\n");
}

pub(super) fn the_state_of_another_time(agentd: &Agentd) {
    an_older_one_is_migrated_from_a_copy(agentd);
    a_newer_one_is_refused_and_left_as_it_is(agentd);
}
