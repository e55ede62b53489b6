//! Manual pages and completions, made from what the programs themselves parse.

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use flate2::{Compression, GzBuilder};

use crate::tree::File;

/// The daemon's command line, by its own file: a dependency on the daemon would be built in a profile of its own before
/// the daemon that is packaged.
#[path = "../../../agentd/src/config/cli.rs"]
mod agentd;

const MANUAL: &str = "agentd manual";

/// All of them, compressed where they go compressed.
pub fn files() -> Result<Vec<File>> {
    let daemon = page(&agentd::Arguments::command(), "8")?;
    let mut files = vec![File::plain("usr/share/man/man8/agentd.8.gz", gzip(&daemon)?)];
    let mut root = agentctl::command();
    root.build();
    pages(&root, "agentctl", &mut files)?;
    for (shell, path) in [
        (Shell::Bash, "usr/share/bash-completion/completions/agentctl"),
        (Shell::Zsh, "usr/share/zsh/vendor-completions/_agentctl"),
        (Shell::Fish, "usr/share/fish/vendor_completions.d/agentctl.fish"),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut agentctl::command(), "agentctl", &mut script);
        files.push(File::plain(path, script));
    }
    Ok(files)
}

/// One page a command: `agentctl-vm-run(1)`.
fn pages(command: &Command, name: &str, files: &mut Vec<File>) -> Result<()> {
    let text = page(command, "1")?;
    files.push(File::plain(format!("usr/share/man/man1/{name}.1.gz"), gzip(&text)?));
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(below, &format!("{name}-{}", below.get_name()), files)?;
    }
    Ok(())
}

fn page(command: &Command, section: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let manual = clap_mangen::Man::new(command.clone()).section(section).manual(MANUAL);
    manual.render(&mut text).with_context(|| format!("the page of {}", command.get_name()))?;
    Ok(text)
}

/// Without a time or a name in it.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).context("a compressed file")
}
