//! `cargo xtask check` and `cargo xtask test`: everything that says whether the workspace is good.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::boot::{self, Watch};
use crate::check;
use crate::machine::{Log, Machine, System};
use crate::options::TestOptions;
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::transcript;
use crate::workspace::{GuestBinary, Workspace};

/// Runs the checks that need no QEMU, or with `boots` all there is.
///
/// # Errors
///
/// When nothing can be checked at all; what fails is counted instead.
pub(crate) fn command(options: &TestOptions, boots: bool) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut builder = Builder::new(&workspace, options.machine.route);
    let mut steps = Steps::new(&options.filter);
    check::all(&workspace, &mut builder, &mut steps);
    if boots {
        for guest in workspace
            .guests
            .iter()
            .filter(|guest| guest.package != "conformance")
        {
            on_both(&workspace, &mut builder, options, guest, &mut steps);
        }
    }
    Ok(steps.finish())
}

/// Boots one guest on both systems; both must succeed and say the same.
fn on_both(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    guest: &GuestBinary,
    steps: &mut Steps,
) {
    let name = |what: &str| format!("guest {} {what}", guest.name);
    let mut said = [System::Paravane, System::Xen].map(|system| {
        let mut transcript = None;
        steps.run(&name(&format!("on {}", system.name())), || {
            transcript = Some(transcript_of(workspace, builder, options, guest, system)?);
            Ok(())
        });
        transcript
    });
    if let [Some(ours), Some(theirs)] = &mut said {
        steps.run(&name("says the same on both"), || {
            transcript::compare(ours, theirs)
        });
    }
}

fn transcript_of(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    guest: &GuestBinary,
    system: System,
) -> Result<String> {
    let choice = GuestChoice::of(guest);
    let machine = Machine {
        system,
        kernel: builder.kernel(system)?,
        kernel_args: String::new(),
        log: Log::Warnings,
        guest: builder.guest(&choice)?,
        guest_args: format!("guest={} words=\"two words\"", guest.name),
        ramdisk: None,
        options: options.machine.clone(),
    };
    let scratch = workspace.scratch(&format!("test-{}-{}", guest.name, system.name()))?;
    let record = boot::boot(&machine, Watch::Nobody, false, &scratch, &mut |_| None)?;
    if record.end.is_success() {
        return Ok(record.console.transcript());
    }
    bail!("{}\n{}", record.end, record.report)
}
