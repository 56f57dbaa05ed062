//! The guests that serve a network, below Linux on Xen: the same files as below our control domain.

use std::fs::File;

use anyhow::{Result, ensure};

use super::{Domain, LIMIT, end, machine};
use crate::boot::{self, End, Watch};
use crate::kv;
use crate::machine::System;
use crate::options::TestOptions;
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::Workspace;

const CLIENT: &str = include_str!("client.sh");
/// What the client shows.
const SAID: [&str; 6] = [
    "httpd answers a ping",
    "A guest of a PV hypervisor, in Rust.",
    "1000000 bytes",
    "kv: +OK +OK :1 $-1 $1 2 :1",
    "kv: 200 of 200",
    "kv: +OK $8 value199 :201 +OK",
];

/// Has Linux use `httpd` and `kv`, and looks then at what is on kv's disk.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    steps.run("guests httpd and kv below Linux on xen", || {
        let scratch = workspace.scratch("served-linux")?;
        let disk = scratch.join("disk.img");
        File::create(&disk)?.set_len(kv::DISK as u64)?;
        let mut httpd = Domain::new("httpd", builder.example("httpd")?, "");
        let mut kv = Domain::new("kv", builder.example("kv")?, "ip=10.0.0.50/24 gw=10.0.0.1");
        (httpd.network, kv.network) = (true, true);
        kv.disks.push(disk.clone());
        let mut options = options.machine.clone();
        options.limit = options.limit.max(2 * LIMIT);
        let job = (&[httpd, kv][..], Some(CLIENT));
        let machine = machine(workspace, builder, System::XenLinux, job, &options, &scratch)?;
        let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
        let transcript = record.console.transcript();
        let said = transcript.lines().filter_map(|line| line.strip_prefix("client| "));
        let said: Vec<&str> = said.map(str::trim).collect();
        ensure!(said == SAID, "Linux was told {said:?}, not {SAID:?}\n{}", record.report);
        for name in ["httpd", "kv"] {
            let end = end(&record, name);
            ensure!(end == End::Success, "{name}: {end}\n{transcript}");
        }
        contents(kv::contents(std::fs::read(disk)?)?)
    });
}

/// Checks what is on the disk: what the client has set, and not deleted.
fn contents(mut found: kv::Model) -> Result<()> {
    let expected = (0..200).map(|it| (format!("key{it}"), format!("value{it}")));
    for (key, value) in expected.chain([("b".into(), "2".into())]) {
        let there = found.remove(key.as_bytes());
        ensure!(there.as_deref() == Some(value.as_bytes()), "{key} is not on the disk");
    }
    ensure!(found.is_empty(), "{} keys too many are on the disk", found.len());
    Ok(())
}
