use std::collections::BTreeSet;

use super::*;

fn file(text: &str) -> (tempfile::TempDir, Flags) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("agentd.toml");
    std::fs::write(&path, text).expect("written");
    (dir, Flags { config: Some(path), ..Flags::default() })
}

fn refused(text: &str) -> String {
    let (_dir, flags) = file(text);
    Config::load(&flags).expect_err("refused").to_string()
}

#[test]
fn without_a_file_the_defaults_hold() {
    let config = Config::load_with(&Flags::default(), Path::new("/nowhere/agentd.toml")).expect("defaults");
    assert_eq!(config, Config::default());
    assert_eq!(config.daemon.state_dir, Path::new("/var/lib/agentd"));
    assert_eq!(config.vm.accel, AccelChoice::Auto);
}

#[test]
fn a_named_file_must_be_there() {
    let flags = Flags { config: Some("/nowhere/agentd.toml".into()), ..Flags::default() };
    let error = Config::load(&flags).expect_err("refused");
    assert!(matches!(&error, ConfigError::Read { path, .. } if path == "/nowhere/agentd.toml"), "{error}");
}

#[test]
fn flags_win_over_the_file() {
    let (_dir, mut flags) = file("[daemon]\nstate_dir = '/srv/a'\nsocket = '/srv/a.sock'\ngroup = 'ops'\n");
    flags.state_dir = Some("/srv/b".into());
    let config = Config::load(&flags).expect("a config");
    assert_eq!(config.daemon.state_dir, Path::new("/srv/b"));
    assert_eq!(config.daemon.socket, Path::new("/srv/a.sock"));
    assert_eq!(config.daemon.group, "ops");
}

#[test]
fn an_unknown_key_is_named_with_line_and_column() {
    let error = refused("[daemon]\ngroup = 'agentd'\nsokcet = '/run/x'\n");
    assert!(error.contains("agentd.toml:3:1: unknown field `sokcet`"), "{error}");
    let error = refused("[vms]\n");
    assert!(error.contains(":1:2: unknown field `vms`"), "{error}");
}

#[test]
fn a_bad_value_is_named_with_line_and_column() {
    let error = refused("\n[vm]\naccel = 'xen'\n");
    assert!(error.contains("agentd.toml:3:9:") && error.contains("xen"), "{error}");
    let error = refused("[network]\ncidr = '10.77.0.1/24'\n");
    assert!(error.contains("agentd.toml:2:8:") && error.contains("bits set behind its prefix"), "{error}");
    let error = refused("[network\n");
    assert!(error.contains("agentd.toml:1:"), "{error}");
}

#[test]
fn values_that_cannot_work_are_refused_by_key() {
    let long = format!("[daemon]\nsocket = '/{}'\n", "x".repeat(120));
    for (text, key) in [
        ("[daemon]\nstate_dir = 'var/lib'\n", "daemon.state_dir"),
        ("[daemon]\nstate_dir = \"/var\\nlib\"\n", "daemon.state_dir"),
        ("[daemon]\nsocket = 'agentd.sock'\n", "daemon.socket"),
        (&long, "daemon.socket"),
        ("[daemon]\nlog = 'agentd=loud'\n", "daemon.log"),
        ("[vm]\nlibvirt_uri = ''\n", "vm.libvirt_uri"),
        ("[network]\ncidr = '10.0.0.0/8'\n", "network.cidr"),
        ("[image]\nmirror = 'ftp://x'\n", "image.mirror"),
        ("[remote]\nlisten = '0.0.0.0:0'\n", "remote.listen"),
        ("[remote]\ndir = 'remote'\n", "remote.dir"),
        ("[containers]\nsocket = 'docker.sock'\n", "containers.socket"),
        ("[containers]\nbind_mounts = ['srv']\n", "containers.bind_mounts"),
        ("[containers]\nbind_mounts = ['/srv/../etc']\n", "containers.bind_mounts"),
        ("[containers.registries.'h:5000']\nauth_file = 'secret'\n", "containers.registries"),
        ("[containers.registries.'h:5000/x']\nauth_file = '/secret'\n", "containers.registries"),
        ("[containers.registries.'https://h']\nauth_file = '/secret'\n", "containers.registries"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(&format!("{key}: ")), "{key}: {error}");
    }
}

#[test]
fn what_is_printed_is_read_back() {
    let mut config = Config::default();
    config.network.cidr = "10.9.0.0/24".parse().ok();
    config.image.mirror = Some("http://deb.debian.org/debian".to_owned());
    config.containers.socket = Some("/run/docker.sock".into());
    config.remote.listen = "[::]:7443".parse().ok();
    config.containers.bind_mounts = vec!["/srv".into()];
    let secret = super::RegistryConfig { auth_file: "/etc/agentd/secrets/one".into() };
    config.containers.registries.insert("registry.example.com:5000".to_owned(), secret);
    let (_dir, flags) = file(&config.to_toml());
    assert_eq!(Config::load(&flags).expect("a config"), config);
}

#[test]
fn files_of_conf_d_win_in_the_order_of_their_names_and_are_named_where_they_are_wrong() {
    let dir = tempfile::tempdir().expect("a folder");
    let usual = dir.path().join("agentd.toml");
    let write = |name: &str, text: &str| {
        let path = dir.path().join("conf.d").join(name);
        std::fs::create_dir_all(path.parent().expect("conf.d")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("20-more.toml", "[daemon]\nlog = 'debug'\n[containers.registries.'b:1']\nauth_file = '/b'\n");
    write("10-some.toml", "[daemon]\nlog = 'warn'\ngroup = 'some'\n");
    write("notes.txt", "no TOML at all");
    write(".10-some.toml.swp", "nor this");
    write(".hidden.toml", "nor this");
    let load = || Config::load_with(&Flags::default(), &usual);
    assert_eq!(load().expect("without a file").daemon.log, "debug");
    let text = "[daemon]\ngroup = 'first'\n[containers.registries.'a:1']\nauth_file = '/a'\n";
    std::fs::write(&usual, text).expect("written");
    let config = load().expect("all of them");
    assert_eq!((config.daemon.log.as_str(), config.daemon.group.as_str()), ("debug", "some"));
    assert_eq!(config.containers.registries.keys().collect::<Vec<_>>(), ["a:1", "b:1"]);
    let flags = Flags { config: Some(usual.clone()), ..Flags::default() };
    assert_eq!(Config::load_with(&flags, &usual).expect("the named one").daemon.group, "first");
    write("30-wrong.toml", "[daemon]\ngorup = 'x'\n");
    let error = load().expect_err("refused").to_string();
    assert!(error.contains("conf.d/30-wrong.toml:2:1: unknown field `gorup`"), "{error}");
}

#[test]
fn what_differs_is_named_by_key() {
    let (one, mut two) = (Config::default(), Config::default());
    assert_eq!(one.differences(&two), Vec::<String>::new());
    two.daemon.log = "debug".to_owned();
    two.network.cidr = "10.9.0.0/24".parse().ok();
    let one_more = super::RegistryConfig { auth_file: "/etc/agentd/secrets/one".into() };
    two.containers.registries.insert("registry.example.com".to_owned(), one_more);
    assert_eq!(one.differences(&two), ["containers.registries", "daemon.log", "network.cidr"]);
    assert_eq!(two.differences(&one), one.differences(&two));
}

/// Every key of a table, as `table.key`.
fn keys(text: &str) -> BTreeSet<String> {
    let table: toml::Table = text.parse().expect("TOML");
    let inner = |(name, value): (&String, &toml::Value)| {
        value.as_table().expect("a section").keys().map(|k| format!("{name}.{k}")).collect::<Vec<_>>()
    };
    table.iter().flat_map(inner).collect()
}

#[test]
fn the_shipped_file_says_the_defaults_and_shows_every_key() {
    let text = include_str!("../../../packaging/agentd.toml");
    let shipped = Config::parse(text, Path::new("agentd.toml")).expect("it is read");
    assert_eq!(shipped, Config::default());
    // A key without a default stands in the file as a comment: "#cidr = ...".
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let full = Config::parse(&uncommented, Path::new("agentd.toml")).expect("its examples are read");
    let all = full.network.cidr.is_some() && full.image.mirror.is_some() && full.containers.socket.is_some();
    let all = all && full.remote.listen.is_some();
    assert!(all, "all options are shown: {full:?}");
    assert_eq!(keys(&uncommented), keys(&full.to_toml()));
}
