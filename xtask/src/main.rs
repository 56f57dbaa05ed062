//! The project's commands: everything a user or CI does with the workspace goes through here.
//!
//! Thin on purpose: it reads arguments ([`options`]), makes sure that the tools are there
//! ([`packages`], [`toolchain`]), builds, starts QEMU ([`machine`], [`boot`]) and reports. All it
//! makes lies under the target directory.
#![forbid(unsafe_code)]

mod block;
mod book;
mod boot;
mod check;
mod conformance;
mod console;
mod cpio;
mod ctl;
mod debian;
mod folder;
mod gdb;
mod image;
mod kv;
mod machine;
mod monitor;
mod network;
mod new_guest;
mod options;
mod packages;
mod parts;
mod ports;
mod process;
mod reference;
mod rule;
mod run;
mod servers;
mod steps;
mod stock;
mod sweep;
mod symbols;
mod test;
mod toolchain;
mod trace;
mod transcript;
mod workspace;
mod xen_linux;

use std::process::ExitCode;

use options::Request;
use workspace::{Workspace, cargo};

fn main() -> ExitCode {
    match options::parse(lexopt::Parser::from_env()).and_then(perform) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn perform(request: Request) -> anyhow::Result<ExitCode> {
    match request {
        Request::Help(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Request::Run(options) => run::command(&options),
        Request::Ctl(words) => ctl::command(words),
        Request::Image(words) => image::command(words),
        Request::NewGuest(words) => new_guest::command(words),
        Request::Conformance(words) => conformance::command(words),
        Request::Mutate(words) => {
            let workspace = Workspace::find()?;
            let scratch = workspace.scratch("mutate")?;
            let places = mutation::Places { root: workspace.root, scratch, cargo: cargo() };
            mutation::command(words, &places)
        }
        Request::Check(options) => test::command(&options, false),
        Request::Test(options) => test::command(&options, true),
    }
}
