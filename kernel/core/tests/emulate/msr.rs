//! Model-specific registers against what was measured on Xen 4.17, on processors of both makers.

use kernel_core::emulate::msr;
use kernel_core::emulate::state::Vendor;
use kernel_core::regs::GuestRegs;

use crate::execute::{DONE, GP, run};
use crate::vcpu::Vcpu;

/// The vCPU that was measured on.
fn processor_of(maker: &str) -> Vcpu {
    let mut vcpu = Vcpu::default();
    match maker {
        "intel" => vcpu.tsc_aux = None,
        "amd" => {
            vcpu.facts.vendor = Vendor::Amd;
            vcpu.facts.microcode = 0x100_0065;
        }
        _ => panic!("{maker}"),
    }
    vcpu
}

/// Registers that Xen lets an initial domain read and that are left out here; the module says why.
fn is_left_out(number: u32) -> bool {
    matches!(
        number,
        0x10a | 0xc001_0010 | 0xc001_0016..=0xc001_001d | 0xc001_0112..=0xc001_0113
    )
}

fn number(hex: &str) -> u32 {
    u32::from_str_radix(hex, 16).unwrap()
}

/// No register can be read that Xen hides; what Xen shows is shown, or is known to be left out.
#[test]
fn readable_registers() {
    let mut readable = Vec::new();
    for line in include_str!("msr_readable.txt").lines().filter(|line| !line.starts_with('#')) {
        let (maker, runs) = line.split_once(' ').unwrap();
        readable.extend(runs.split(' ').map(|run| {
            let (first, last) = run.split_once('-').unwrap();
            (maker, number(first)..=number(last))
        }));
    }
    let scanned = [(0, 0x2000), (0x4000_0000, 0x110), (0xc000_0000, 0x2000), (0xc001_0000, 0x2000)];
    for maker in ["intel", "amd"] {
        let mut vcpu = processor_of(maker);
        for number in scanned.into_iter().flat_map(|(first, count)| first..first + count) {
            let shown =
                readable.iter().any(|(measured, run)| *measured == maker && run.contains(&number));
            let ours = msr::read(&mut vcpu, number).is_ok();
            assert_eq!(ours, shown && !is_left_out(number), "{maker} {number:x}");
        }
    }
}

/// What reading a register gives, what becomes of writes: as on Xen, on both makers' processors.
#[test]
fn model_specific_registers() {
    let read = |vcpu: &mut Vcpu, number| {
        let ones = u64::MAX;
        let rcx = number | 0xabcd << 32;
        let mut regs = GuestRegs { rcx, rax: ones, rdx: ones, ..GuestRegs::default() };
        match run(vcpu, &mut regs, &[0x0f, 0x32]) {
            DONE => Some(regs.rdx << 32 | regs.rax),
            outcome => {
                assert_eq!(outcome, GP);
                None
            }
        }
    };
    let write = |vcpu: &mut Vcpu, number, value: u64| {
        let rax = value & 0xffff_ffff | 0x1234 << 32;
        let mut regs = GuestRegs { rcx: number, rax, rdx: value >> 32, ..GuestRegs::default() };
        run(vcpu, &mut regs, &[0x0f, 0x30]) == DONE
    };
    let mut vcpu = Vcpu::default();
    for row in include_str!("msr.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = row.split_whitespace().collect();
        let [number, value, before, verdict, after] = words[..] else {
            vcpu = processor_of(row);
            continue;
        };
        let hex = |word| u64::from_str_radix(word, 16).unwrap();
        let read_as = |word| if word == "gp" { None } else { Some(hex(word)) };
        assert_eq!(read(&mut vcpu, hex(number)), read_as(before), "{row}");
        assert_eq!(write(&mut vcpu, hex(number), hex(value)), verdict == "ok", "{row}");
        assert_eq!(read(&mut vcpu, hex(number)), read_as(after), "{row}");
    }
    let mut vcpu = Vcpu::default();
    vcpu.facts.is_boot_vcpu = false;
    assert_eq!(read(&mut vcpu, 0x1b), Some(0xfee0_0800));
}
