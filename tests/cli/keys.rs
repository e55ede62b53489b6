//! ssh keys: kept, reused, and never a private one.

use agent_tests::sim::Sim;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtN0yk3b1ZJm0sO0mJ0b1ZJm0sO0mJ0b1ZJm0sO0mJ0 me@host\n";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHtN0yk3b1ZJm0sO0mJ0b1ZJm0sO0mJ0b1ZJm0sO0mJ0 you@host\n";

#[test]
fn a_file_given_to_a_vm_is_kept_once_under_its_name() {
    let sim = Sim::start(&[]);
    let file = sim.file("id_ed25519.pub", KEY);
    for name in ["a", "b"] {
        sim.ok(&["vm", "run", name, "--image", "micro", "--ssh-key", &file]);
        let vm = sim.get(&format!("vm/{name}")).expect("it runs");
        assert_eq!(vm["spec"]["ssh_keys"], serde_json::json!(["id-ed25519"]));
    }
    assert_eq!(sim.ok(&["get", "ssh-key", "-o", "name"]), "ssh-key/id-ed25519\n");
    // Another user's file of the same name is another key.
    sim.file("id_ed25519.pub", OTHER);
    sim.ok(&["vm", "run", "c", "--image", "micro", "--ssh-key", &file]);
    let keys = sim.ok(&["get", "ssh-key", "-o", "name"]);
    assert_eq!(keys.lines().count(), 2, "{keys}");
    let used = sim.ctl(&["ssh-key", "rm", "id-ed25519"]);
    assert_eq!(used.status, 4, "{used:?}");
}

#[test]
fn keys_are_made_shown_and_removed() {
    let sim = Sim::start(&[]);
    let file = sim.file("me.pub", KEY);
    sim.ok(&["ssh-key", "create", "me", &file]);
    let shown = sim.ok(&["ssh-key", "show", "me"]);
    assert!(shown.contains("SHA256:"), "{shown}");
    sim.ok(&["ssh-key", "rm", "me"]);
    assert_eq!(sim.get("ssh-key/me"), None);
}

#[test]
fn a_private_key_goes_nowhere() {
    let sim = Sim::start(&[]);
    let file = sim.file(
        "id_ed25519",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n",
    );
    for line in
        [&["ssh-key", "create", "me", &file][..], &["vm", "run", "a", "--image", "micro", "--ssh-key", &file]]
    {
        let answer = sim.ctl(line);
        assert_eq!(answer.status, 2, "{line:?}: {answer:?}");
        assert!(answer.stderr.contains("private key") && answer.stderr.contains("hint: "), "{answer:?}");
        assert!(!answer.stderr.contains("c2VjcmV0"), "{answer:?}");
    }
    assert_eq!(sim.ok(&["get", "ssh-key", "-o", "name"]) + &sim.ok(&["get", "vm", "-o", "name"]), "");
}
