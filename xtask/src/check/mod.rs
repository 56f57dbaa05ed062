//! `cargo xtask check`: everything about the workspace that needs no QEMU.

mod budget;
mod fence;
mod linked;
mod links;
mod source;

use std::process::Command;

use anyhow::{Context, Result};

use crate::packages;
use crate::process::{self, say};
use crate::reference;
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::{Workspace, cargo};

/// The crates that are built for bare metal. Those of one row are looked at together: what one of
/// them wants of a library, all of them get, and programs without a heap can't have all that `dom0`
/// wants.
const BARE_METAL: [&[&str]; 2] = [
    &[
        "domain-builder",
        "kernel-core",
        "paravane-kernel",
        "pv-guest-sdk",
        "toolstack",
        "example-guests",
        "conformance",
        "hostile",
    ],
    &["dom0", "supervisors"],
];

/// The package of bare-metal programs whose library is built and tested on the host as well.
const DRIVERS: [&str; 3] = ["-p", "dom0", "--lib"];

/// What is checked of the SDK beside what it has by itself.
const STACK: [&str; 2] = ["--features", "pv-guest-sdk/smoltcp"];

/// Adds all checks to `steps`.
pub(crate) fn all(workspace: &Workspace, builder: &mut Builder<'_>, steps: &mut Steps) {
    steps.run("format", || {
        component(workspace, "fmt", "rustfmt")?;
        process::succeed(host(workspace, "fmt").args(["--all", "--check"]))
            .context("`cargo fmt` puts it right")
    });
    steps.run("lints: host", || {
        component(workspace, "clippy", "clippy")?;
        let mut command = host(workspace, "clippy");
        command.args(STACK).args(["-q", "--all-targets", "--", "-D", "warnings"]);
        process::succeed(&mut command)?;
        let mut command = host(workspace, "clippy");
        command.args(DRIVERS).args(["-q", "--tests", "--", "-D", "warnings"]);
        process::succeed(&mut command)
    });
    steps.run("lints: bare metal", || {
        bare_metal(builder, "clippy", |command| command.args(["--", "-D", "warnings"]))
    });
    steps.run("host tests", || {
        packages::provide(&[packages::HEADERS])?;
        process::succeed(host(workspace, "test").args(STACK).arg("-q"))?;
        process::succeed(host(workspace, "test").args(DRIVERS).arg("-q"))
    });
    steps.run("documentation: host", || {
        let mut command = host(workspace, "doc");
        process::succeed(command.args(["-q", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.run("documentation: bare metal", || {
        bare_metal(builder, "doc", |command| {
            command.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings")
        })
    });
    steps.run("documentation: examples for bare metal", || {
        let mut command = builder.toolchain()?.cargo("test");
        process::succeed(command.args(["-q", "--doc", "-p", "pv-guest-sdk"]).args(STACK))
    });
    steps.run("documentation: links", || links::check(&workspace.root));
    steps.run("clauses and the pages of calls", || reference::check(&workspace.root));
    steps.run("budgets", || budget::check(&workspace.root));
    steps.run("unsafe code", || fence::check(&workspace.root));
    steps.run("linked bytes", || linked::print(&builder.hypervisor()?));
}

/// Cargo for the crates of the host.
pub(crate) fn host(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(&workspace.root).arg(subcommand);
    command
}

fn bare_metal(
    builder: &mut Builder<'_>,
    subcommand: &str,
    options: impl Fn(&mut Command) -> &mut Command,
) -> Result<()> {
    for row in BARE_METAL {
        let mut command = builder.toolchain()?.cargo(subcommand);
        command.arg("-q");
        row.iter().for_each(|package| {
            command.args(["-p", package]);
        });
        process::succeed(options(&mut command))?;
    }
    Ok(())
}

/// Makes sure that `cargo SUBCOMMAND` is there; rustup calls it `component`.
fn component(workspace: &Workspace, subcommand: &str, component: &str) -> Result<()> {
    if process::output(host(workspace, subcommand).arg("--version")).is_ok() {
        return Ok(());
    }
    say(format!("adding {component} with rustup"));
    process::succeed(Command::new("rustup").args(["component", "add", component])).with_context(
        || format!("`cargo {subcommand}` is missing: install {component} for this cargo"),
    )
}
