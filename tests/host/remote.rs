//! A guest from another machine: its programs and its console, by what the guest says there. On loopback.

use agent_tests::host::{guest, wait_until};
use agent_tests::host_test;
use agent_tests::remote::OtherMachine;

use crate::console::Person;

host_test!(vm_programs_and_the_console_are_had_from_another_machine, |host| {
    let home = host.scratch().join("laptop");
    std::fs::create_dir(&home).expect("a folder");
    let other = OtherMachine::at(&home);
    let (at, config) = other.let_in("127.0.0.1");
    std::fs::write(host.scratch().join("state.toml"), config).expect("written");
    let agentd = host.with_agentd();
    wait_until("the other machine has joined", guest::BOOT, || {
        let answer = other.ctl(&["remote", "join", "rack", &at, "laptop.pem"]);
        if answer.status == 0 { Ok(()) } else { Err(format!("{answer:?}\n{}", agentd.log_text())) }
    });
    other.ok(&["--host", "rack", "vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
    guest::answers(&agentd, "web");
    guest::runs_programs(&agentd, "web");

    let exec = ["--host", "rack", "vm", "exec", "web", "--", "sh", "-c"];
    let answer = other.ctl(&[&exec[..], &["echo out; echo err >&2; exit 7"]].concat());
    assert_eq!((answer.status, answer.stdout.as_str(), answer.stderr.as_str()), (7, "out\n", "err\n"));
    // Both ways, and more than fits into any buffer on the way.
    let mut many = Person::on(other.command(&["--host", "rack", "vm", "exec", "-it", "web", "--", "sh"]));
    many.types("echo typed''-there; exit 3\n");
    many.sees("typed-there");
    assert_eq!(many.ends(), 3);
    let bytes =
        other.ok(&[&exec[..], &["dd if=/dev/zero bs=65536 count=48 2>/dev/null | tr '\\0' x"]].concat());
    assert!(bytes.len() == 48 << 16 && bytes.bytes().all(|byte| byte == b'x'), "{} bytes", bytes.len());

    let mut person = Person::on(other.command(&["--host", "rack", "vm", "console", "web"]));
    person.types("\recho sum''=$((40 + 2))\r");
    person.sees("sum=42");
    assert!(guest::console(&agentd, "web").contains("sum=42"), "the guest's own console has it");
    person.types("\x1d");
    assert_eq!(person.ends(), 0);
    // Whoever had the console is known by name, and lets go of it when it is let in no more.
    let mut person = Person::on(other.command(&["--host", "rack", "vm", "console", "web"]));
    person.types("\recho still''-here\r");
    person.sees("still-here");
    other.ok(&["remote", "revoke", "laptop", "--dir", "authority"]);
    assert_ne!(person.ends(), 0);
    agentd.ok(&["vm", "rm", "web"]);
});
