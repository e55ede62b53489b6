use clap::CommandFactory;

use super::*;

#[test]
fn the_flags_hold_together() {
    Cli::command().debug_assert();
}

/// Every command's help, as it is printed. A change here is a change of what users read and scripts type.
#[test]
fn the_help_is_reviewed() {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut all = String::new();
    pages(&mut root, &mut all);
    insta::assert_snapshot!(all);
}

fn pages(command: &mut clap::Command, all: &mut String) {
    let help = command.render_help();
    all.push_str(&format!("\n$ {} --help\n{help}", command.get_bin_name().unwrap_or("agentctl")));
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        if let Some(below) = command.find_subcommand_mut(&name) {
            pages(below, all);
        }
    }
}

#[test]
fn several_names_and_a_selector_exclude_each_other() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(drop).map_err(|e| e.kind());
    assert!(parse("agentctl vm stop web db --no-wait").is_ok());
    assert!(parse("agentctl vm rm -l app=web").is_ok());
    assert!(parse("agentctl vm rm --all").is_ok());
    assert!(parse("agentctl image save mine mine.tar --format oci").is_ok());
    for bad in [
        "agentctl vm rm",
        "agentctl vm rm web --all",
        "agentctl vm rm web -l app=web",
        "agentctl vm stop web --no-wait --timeout 5s",
        "agentctl vm run web",
        "agentctl vm run web --image micro --publish 80",
        "agentctl vm run web --image micro --label app",
        "agentctl --project UPPER vm list",
        "agentctl vm list -o xml",
        "agentctl image save mine mine.tar --format zip",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

/// What is left of both, where the environment is empty.
fn daemon_of(line: &str) -> Result<(Option<String>, Option<String>), clap::error::ErrorKind> {
    let cli = Cli::of(line.split(' ')).map_err(|error| error.kind())?;
    Ok((cli.global.socket.map(|path| path.display().to_string()), cli.global.host))
}

#[test]
fn one_daemon_is_meant_wherever_it_is_said() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(daemon_of("agentctl vm list"), Ok((None, None)));
    assert_eq!(daemon_of("agentctl --host a vm list"), Ok((None, some("a"))));
    assert_eq!(daemon_of("agentctl vm list --host a"), Ok((None, some("a"))));
    assert_eq!(daemon_of("agentctl vm list --socket /s"), Ok((some("/s"), None)));
    for both in ["agentctl --host a --socket /s vm list", "agentctl --host a vm list --socket /s"] {
        assert_eq!(daemon_of(both), Err(clap::error::ErrorKind::ArgumentConflict), "{both}");
    }
}
