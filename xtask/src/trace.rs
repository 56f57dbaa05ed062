//! What guests did in a boot: the kernel's records, read from the machine's memory afterwards, as text
//! and in the form of Chrome's traces, which Perfetto (ui.perfetto.dev) opens.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use serde_json::{Value, json};

use crate::book::shown;
use crate::boot::{self, End, Watch};
use crate::console::{Console, Source};
use crate::machine::{Machine, System};
use crate::options::MachineOptions;
use crate::process::say;
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::workspace::Workspace;

/// What the kernel is told: how much memory the records get. Unit: MiB.
const SIZE: u32 = 64;

/// Words of a record, as `kernel_core::trace` has them.
const WORDS: usize = 16;
/// The process of the real CPUs, in the trace.
const CPUS: u64 = 100_000;
/// The state of a hypercall that has not returned.
const UNENDED: u64 = 3;
/// The number of the domain that an idle CPU runs.
const IDLE: u64 = 0x7fff;

/// Names of arguments, of calls where there is more to say than their number.
const ARGUMENTS: [(Hypercall, &[&str]); 20] = [
    (Hypercall::MmuUpdate, &["requests", "count", "done", "domain"]),
    (Hypercall::SetGdt, &["frames", "entries"]),
    (Hypercall::StackSwitch, &["ss", "sp"]),
    (Hypercall::SetDebugreg, &["register", "value"]),
    (Hypercall::GetDebugreg, &["register"]),
    (Hypercall::UpdateDescriptor, &["address", "descriptor"]),
    (Hypercall::MemoryOp, &["op", "argument"]),
    (Hypercall::Multicall, &["calls", "count"]),
    (Hypercall::UpdateVaMapping, &["address", "entry", "flags"]),
    (Hypercall::UpdateVaMappingOtherdomain, &["address", "entry", "flags", "domain"]),
    (Hypercall::SetTimerOp, &["deadline"]),
    (Hypercall::XenVersion, &["op", "argument"]),
    (Hypercall::ConsoleIo, &["op", "count", "buffer"]),
    (Hypercall::GrantTableOp, &["op", "operations", "count"]),
    (Hypercall::VcpuOp, &["op", "vcpu", "argument"]),
    (Hypercall::SetSegmentBase, &["which", "base"]),
    (Hypercall::MmuextOp, &["operations", "count", "done", "domain"]),
    (Hypercall::SchedOp, &["op", "argument"]),
    (Hypercall::EventChannelOp, &["op", "argument"]),
    (Hypercall::PhysdevOp, &["op", "argument"]),
];

/// Calls whose sub-op is the first field of what their argument points to.
const INDIRECT: [Hypercall; 6] = [
    Hypercall::MmuextOp,
    Hypercall::PlatformOp,
    Hypercall::Sysctl,
    Hypercall::Domctl,
    Hypercall::EventChannelOpCompat,
    Hypercall::PhysdevOpCompat,
];

/// One record.
#[derive(Clone, Copy, Debug)]
struct Record {
    words: [u64; WORDS],
}

impl Machine {
    /// Has the kernel keep records of what guests do, in a file in `scratch`.
    pub(crate) fn keep_trace(&mut self, scratch: &Path) {
        self.memory_file = Some(scratch.join("memory"));
        self.kernel_args += &format!(" trace={SIZE}M");
        self.others += SIZE;
    }
}

/// What a record is about.
#[derive(Debug)]
struct Told {
    name: String,
    more: Value,
}

/// Reads the records of a machine that is gone, writes them as text to `path`, and in Chrome's form to the
/// file of that name with `.json` behind it.
///
/// # Errors
///
/// When there are none, or a file cannot be read or written.
pub(crate) fn write(machine: &Machine, console: &Console, path: &Path) -> Result<()> {
    let memory = machine.memory_file.as_deref().context("the machine's memory is in no file")?;
    let records = read(memory, console)?;
    let lost = records.first().map_or(0, |record| record.number() - 1);
    let json = PathBuf::from(format!("{}.json", path.display()));
    let create = |path: &Path| {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()));
        file.map(BufWriter::new)
    };
    let mut text = create(path)?;
    if lost != 0 {
        writeln!(text, "the first {lost} records are lost: there were more than fit")?;
    }
    for record in &records {
        writeln!(text, "{}", record.line())?;
    }
    text.flush()?;
    let mut out = create(&json)?;
    let events = events(&records);
    writeln!(out, "[")?;
    for (at, event) in events.iter().enumerate() {
        writeln!(out, "{event}{}", if at + 1 == events.len() { "" } else { "," })?;
    }
    writeln!(out, "]")?;
    out.flush()?;
    say(format!(
        "{} records: {}, and for Perfetto {}",
        records.len(),
        path.display(),
        json.display()
    ));
    std::fs::remove_file(memory)?;
    Ok(())
}

/// Has a guest traced, and looks for what it is known to do.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
    steps: &mut Steps,
) {
    steps.run("a guest's calls are traced", || {
        let scratch = workspace.scratch("trace")?;
        let tour = GuestChoice::Built { package: "example-guests".into(), name: "tour".into() };
        let mut machine = builder.machine(System::Paravane, &tour, options)?;
        machine.keep_trace(&scratch);
        let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
        ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
        let path = scratch.join("tour");
        write(&machine, &record.console, &path)?;
        let text = std::fs::read_to_string(&path)?;
        let wanted = [
            "d0v0     xen_version.version ",
            "mmuext_op.PIN_L1_TABLE",
            "exception 14 address=0x",
            "emulated bytes=0f 20 c0 ",
            "handler at=0x",
            "update_va_mapping address=0x",
            "sched_op.shutdown argument=0x",
            "result=none: it did not return at 0x",
        ];
        shown("docs/src/debugging.md", &text)?;
        for what in wanted {
            ensure!(text.contains(what), "the trace should have `{what}`: {}", path.display());
        }
        let events: Vec<Value> =
            serde_json::from_slice(&std::fs::read(scratch.join("tour.json"))?)?;
        ensure!(events.len() >= text.lines().count(), "{} events", events.len());
        Ok(())
    });
}

/// The records, oldest first, from where the kernel said that it keeps them.
fn read(memory: &Path, console: &Console) -> Result<Vec<Record>> {
    let lines = console.lines().iter().filter(|line| line.source == Source::Hypervisor);
    let mut place = lines.filter_map(|line| {
        let (size, start) = line.text.split_once("trace: ")?.1.split_once(" bytes at 0x")?;
        Some((size.parse::<usize>().ok()?, u64::from_str_radix(start, 16).ok()?))
    });
    let (size, start) = place.next_back().context("the hypervisor keeps no records")?;
    let mut bytes = vec![0; size];
    let file = File::open(memory)?;
    file.read_exact_at(&mut bytes, start)
        .context("the machine's memory ends before its records")?;
    let mut records: Vec<_> = bytes
        .as_chunks::<{ WORDS * 8 }>()
        .0
        .iter()
        .map(|bytes| {
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            Record { words }
        })
        .filter(|record| record.number() != 0)
        .collect();
    ensure!(!records.is_empty(), "no guest did anything");
    records.sort_unstable_by_key(Record::number);
    Ok(records)
}

impl Record {
    fn number(&self) -> u64 {
        self.words[3]
    }

    fn cpu(&self) -> u64 {
        self.words[0] >> 8 & 0xff
    }

    /// Domain and vCPU.
    fn who(&self) -> (u64, u64) {
        owner(self.words[0])
    }

    /// Unit: microseconds.
    fn time(&self) -> f64 {
        micros(self.words[1])
    }

    /// When the call had ended, for those that take a while and return.
    fn end(&self) -> Option<f64> {
        let has_ended = self.words[0] & 0xff == 1 && self.words[13] != UNENDED;
        has_ended.then(|| micros(self.words[12]))
    }

    fn told(&self) -> Told {
        let [a, b, c] = [self.words[4], self.words[5], self.words[6]];
        let told = |name: &str, more: Value| Told { name: name.to_owned(), more };
        match self.words[0] & 0xff {
            1 => self.call(),
            2 => {
                let mut more = json!({"vector": a, "error": hex(b)});
                if a == 14 {
                    more["address"] = hex(c).into();
                }
                told(&format!("exception {a}"), more)
            }
            3 => told("handler", json!({"at": hex(a)})),
            4 => {
                let bytes: Vec<_> = a.to_le_bytes().iter().map(|it| format!("{it:02x}")).collect();
                let length = usize::try_from(b.wrapping_sub(self.words[2])).unwrap_or(0);
                let length = if (1..=8).contains(&length) { length } else { 8 };
                told("emulated", json!({"bytes": bytes[..length].join(" ")}))
            }
            kind @ (5 | 7) => {
                let bytes: Vec<u8> =
                    self.words[4..].iter().flat_map(|word| word.to_le_bytes()).collect();
                let text = String::from_utf8_lossy(&bytes);
                let what = if kind == 5 { "refused" } else { "crashed" };
                told(what, json!({"why": text.trim_end_matches('\0')}))
            }
            6 => told("runs", json!({"before": name(owner(a))})),
            kind => told(&format!("record of kind {kind}"), Value::Null),
        }
    }

    /// A hypercall.
    fn call(&self) -> Told {
        let (number, args) = (self.words[4], &self.words[5..11]);
        let (rax, state, first) = (self.words[11], self.words[13], self.words[15]);
        let answer = match state {
            0 => result(rax),
            1 => "goes on later".into(),
            UNENDED => "none: it did not return".into(),
            _ => "registers".into(),
        };
        let Some(call) = Hypercall::from_number(number) else {
            return Told { name: format!("hypercall {number}"), more: json!({"result": answer}) };
        };
        let op = if INDIRECT.contains(&call) { first } else { args[0] };
        let op = call.sub_ops().iter().find(|it| u64::from(it.number) == op & 0xffff_ffff);
        let name = op.map_or(call.name().to_owned(), |op| format!("{}.{}", call.name(), op.name));
        let mut more = serde_json::Map::new();
        let names =
            ARGUMENTS.iter().find(|(it, _)| *it == call).map_or(&["argument"][..], |it| it.1);
        for (name, value) in names.iter().zip(args).filter(|(name, _)| **name != "op") {
            more.insert((*name).to_owned(), hex(*value).into());
        }
        more.insert("result".into(), answer.into());
        if self.words[14] != 0 {
            more.insert("in".into(), "multicall".into());
        }
        Told { name, more: more.into() }
    }

    /// As a line of text.
    fn line(&self) -> String {
        let Told { name: what, more } = self.told();
        let mut line =
            format!("{:>14.3} cpu{} {:<8} {what}", self.time(), self.cpu(), name(self.who()));
        for (key, value) in more.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing to a string does not fail.
            let _ = write!(line, " {key}={value}");
        }
        if let Some(end) = self.end() {
            let _ = write!(line, " in {:.3} us", end - self.time());
        }
        if self.words[2] != 0 {
            let _ = write!(line, " at {}", hex(self.words[2]));
        }
        line
    }
}

/// Domain and vCPU of a record's first word.
fn owner(word: u64) -> (u64, u64) {
    (word >> 32 & 0xffff, word >> 16 & 0xffff)
}

fn name((domain, vcpu): (u64, u64)) -> String {
    if domain == IDLE { "idle".into() } else { format!("d{domain}v{vcpu}") }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn result(rax: u64) -> String {
    Errno::from_raw(rax.cast_signed()).map_or_else(|| hex(rax), |errno| format!("-{errno:?}"))
}

#[expect(clippy::cast_precision_loss, reason = "what is lost is less than is shown")]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// The events of Chrome's form: a process for each domain with a thread for each vCPU, and one for the CPUs.
fn events(records: &[Record]) -> Vec<Value> {
    let mut events = Vec::new();
    let mut named = std::collections::BTreeSet::new();
    // Since when each CPU runs whom.
    let mut running = std::collections::BTreeMap::new();
    let last = records.iter().map(Record::time).fold(0.0, f64::max);
    let runs = |cpu: u64, who, from: f64, to: f64| json!({"ph": "X", "name": name(who), "pid": CPUS, "tid": cpu, "ts": from, "dur": to - from});
    for record in records {
        let (domain, vcpu) = record.who();
        if record.words[0] & 0xff == 6 {
            if let Some((from, who)) = running.insert(record.cpu(), (record.time(), record.who())) {
                events.push(runs(record.cpu(), who, from, record.time()));
            }
            continue;
        }
        if named.insert((domain, vcpu)) {
            let name_of = |what: &str, name: String| json!({"ph": "M", "name": what, "pid": domain, "tid": vcpu, "args": {"name": name}});
            events.push(name_of("process_name", format!("domain {domain}")));
            events.push(name_of("thread_name", format!("vCPU {vcpu}")));
        }
        let Told { name, mut more } = record.told();
        more["rip"] = hex(record.words[2]).into();
        let mut event =
            json!({"name": name, "pid": domain, "tid": vcpu, "ts": record.time(), "args": more});
        match record.end() {
            Some(end) => (event["ph"], event["dur"]) = ("X".into(), (end - record.time()).into()),
            None => (event["ph"], event["s"]) = ("i".into(), "t".into()),
        }
        events.push(event);
    }
    for (cpu, (from, who)) in running {
        events.push(runs(cpu, who, from, last));
    }
    events.push(json!({"ph": "M", "name": "process_name", "pid": CPUS, "args": {"name": "CPUs"}}));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(words: &[u64]) -> Record {
        let mut all = [0; WORDS];
        all[..words.len()].copy_from_slice(words);
        Record { words: all }
    }

    #[test]
    fn a_call_is_told_by_name() {
        let denied = (-1_i64).cast_unsigned();
        let call =
            record(&[1 << 32 | 1, 5000, 0x1000, 1, 29, 2, 7, 0, 0, 0, 0, denied, 7000, 0, 1]);
        assert_eq!(
            call.line(),
            "         5.000 cpu0 d1v0     sched_op.shutdown argument=0x7 in=multicall result=-EPERM in 2.000 us at 0x1000"
        );
        let indirect = record(&[1, 0, 0, 1, 36, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert!(
            indirect.line().contains(" domctl.destroydomain argument=0x9 "),
            "{}",
            indirect.line()
        );
        let last = record(&[1, 0, 0x2000, 1, 29, 2, 7, 0, 0, 0, 0, 0, 0, 3]);
        let line = last.line();
        assert!(line.ends_with(" result=none: it did not return at 0x2000"), "{line}");
        let event = events(&[last]).into_iter().find(|it| it["name"] == "sched_op.shutdown");
        let event = event.expect("the call");
        assert_eq!((&event["ph"], &event["dur"]), (&json!("i"), &Value::Null));
        let text = u64::from_le_bytes(*b"stack is");
        let crash = record(&[1 << 32 | 7, 0, 0x2000, 1, text]);
        assert!(crash.line().ends_with("d1v0     crashed why=stack is at 0x2000"), "{crash:?}");
    }

    #[test]
    fn what_runs_where_is_a_track_of_its_own() {
        let switch =
            |cpu: u64, time, domain: u64| record(&[domain << 32 | cpu << 8 | 6, time, 0, 1]);
        let records =
            [switch(1, 1000, 0), switch(1, 3000, 2), record(&[2 << 32 | 2, 4000, 1, 2, 13])];
        let events = events(&records);
        let tracks: Vec<_> =
            events.iter().filter(|it| it["pid"] == CPUS && it["ph"] == "X").collect();
        assert_eq!(tracks.len(), 2);
        assert_eq!((&tracks[0]["name"], tracks[0]["dur"].as_f64()), (&json!("d0v0"), Some(2.0)));
        assert_eq!((&tracks[1]["name"], tracks[1]["dur"].as_f64()), (&json!("d2v0"), Some(1.0)));
    }
}
