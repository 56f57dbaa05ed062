//! Execution against what was measured on Xen 4.17: the same instructions, registers and levels,
//! the same outcome.

use kernel_core::emulate::code::CodeSize;
use kernel_core::emulate::execute::{After, Fault, Outcome, execute};
use kernel_core::emulate::port::KernelRing;
use kernel_core::emulate::state::Mode;
use kernel_core::emulate::width::Width;
use kernel_core::emulate::{forced, privileged};
use kernel_core::regs::GuestRegs;

use crate::random::Random;
use crate::vcpu::{PAGE, Vcpu};

const RIP: u64 = 0x10_0000;
pub(crate) const DONE: Outcome = Outcome::Emulated(After::Continue);
pub(crate) const GP: Outcome = Outcome::Inject(Fault::GeneralProtection);
const UD: Outcome = Outcome::Inject(Fault::InvalidOpcode);

fn in_mode(vcpu: &mut Vcpu, regs: &mut GuestRegs, size: CodeSize, bytes: &[u8]) -> Outcome {
    let source = |offset: u8| bytes.get(usize::from(offset)).copied();
    let before = *regs;
    regs.rip = RIP;
    let Ok(decoded) = privileged::decode(size, &source) else {
        *regs = before;
        return Outcome::NotOurs;
    };
    let outcome = execute(vcpu, regs, size, decoded);
    let length = u64::try_from(bytes.len()).unwrap();
    match outcome {
        Outcome::Emulated(After::Continue) => assert_eq!(regs.rip, RIP + length),
        Outcome::Emulated(After::DebugException(_)) => {}
        Outcome::NotOurs | Outcome::Inject(Fault::Page { .. }) => assert_eq!(regs.rip, RIP),
        Outcome::Inject(_) => assert_eq!(*regs, GuestRegs { rip: RIP, ..before }),
    }
    outcome
}

pub(crate) fn run(vcpu: &mut Vcpu, regs: &mut GuestRegs, bytes: &[u8]) -> Outcome {
    in_mode(vcpu, regs, CodeSize::Bits64, bytes)
}

/// DR6: a single step.
const STEP: u64 = 1 << 14;

fn rax(value: u64) -> GuestRegs {
    GuestRegs { rax: value, ..GuestRegs::default() }
}

/// Who may execute what: kernel with levels 0, 1, 2, 3, user with levels 0, 1, 2, 3.
#[test]
fn privileges() {
    const KERNEL: [bool; 8] = [true, true, true, true, false, false, false, false];
    const LEVEL: [bool; 8] = [false, true, true, true, false, false, false, true];
    const NOBODY: [bool; 8] = [false; 8];
    const ROWS: [(&[u8], [bool; 8]); 34] = [
        (&[0xfa], LEVEL),
        (&[0xfb], LEVEL),
        (&[0xe4, 0x42], LEVEL),
        (&[0xec], LEVEL),
        (&[0x66, 0xed], LEVEL),
        (&[0xe6, 0x80], LEVEL),
        (&[0xef], LEVEL),
        (&[0x0f, 0x06], KERNEL),
        (&[0x0f, 0x09], KERNEL),
        (&[0xf3, 0x0f, 0x09], KERNEL),
        (&[0x0f, 0x20, 0xc3], KERNEL),
        (&[0x0f, 0x20, 0x00], KERNEL),
        (&[0x0f, 0x20, 0xd3], KERNEL),
        (&[0x0f, 0x20, 0xdb], KERNEL),
        (&[0x0f, 0x20, 0xe3], KERNEL),
        (&[0x0f, 0x22, 0xd0], KERNEL),
        (&[0x0f, 0x22, 0xe0], KERNEL),
        (&[0x0f, 0x21, 0xc3], KERNEL),
        (&[0x0f, 0x23, 0xf8], KERNEL),
        (&[0x0f, 0x31], KERNEL),
        (&[0x0f, 0x01, 0xf9], KERNEL),
        (&[0xf4], NOBODY),
        (&[0x0f, 0x01, 0xf0], NOBODY),
        (&[0x0f, 0x08], NOBODY),
        (&[0x0f, 0x01, 0x38], NOBODY),
        (&[0x0f, 0x33], NOBODY),
        (&[0x0f, 0x20, 0xcb], NOBODY),
        (&[0x44, 0x0f, 0x20, 0xc3], NOBODY),
        (&[0x44, 0x0f, 0x22, 0xc0], NOBODY),
        (&[0x0f, 0x01, 0x10], NOBODY),
        (&[0x0f, 0x00, 0xd8], NOBODY),
        (&[0x0f, 0x01, 0xf8], NOBODY),
        (&[0x0f, 0x07], NOBODY),
        (&[0x0f, 0x35], NOBODY),
    ];
    for (bytes, expected) in ROWS {
        for (case, expected) in (0_u8..).zip(expected) {
            let mode = if case < 4 { Mode::Kernel } else { Mode::User };
            let mut vcpu = Vcpu { mode, ..Vcpu::default() };
            vcpu.io.level = case & 3;
            let outcome = run(&mut vcpu, &mut GuestRegs::default(), bytes);
            assert_eq!(outcome == DONE, expected, "{bytes:02x?} case {case}: {outcome:?}");
        }
    }
}

#[test]
fn architectural_iopl_makes_the_kernel_ring_0() {
    let mut vcpu = Vcpu::default();
    vcpu.io.level = 0;
    assert_eq!(run(&mut vcpu, &mut GuestRegs::default(), &[0xfa]), GP);
    vcpu.io.kernel_ring = KernelRing::Ring0;
    assert_eq!(run(&mut vcpu, &mut GuestRegs::default(), &[0xfa]), DONE);
    vcpu.mode = Mode::User;
    assert_eq!(run(&mut vcpu, &mut GuestRegs::default(), &[0xfa]), GP);
}

#[test]
fn control_registers() {
    let mut vcpu = Vcpu::default();
    let vcpu = &mut vcpu;
    let read = |vcpu: &mut Vcpu, modrm| {
        let mut regs = GuestRegs::default();
        assert_eq!(run(vcpu, &mut regs, &[0x0f, 0x20, modrm]), DONE);
        regs.rbx
    };
    let write = |vcpu: &mut Vcpu, modrm, value| run(vcpu, &mut rax(value), &[0x0f, 0x22, modrm]);
    for bit in 0..64 {
        let expected = if bit == 3 { DONE } else { GP };
        assert_eq!(write(vcpu, 0xc0, 0x8005_0033 ^ 1 << bit), expected, "cr0 bit {bit}");
    }
    assert_eq!(read(vcpu, 0xc3), 0x8005_003b);
    assert_eq!(run(vcpu, &mut GuestRegs::default(), &[0x0f, 0x06]), DONE);
    assert_eq!(read(vcpu, 0xc3), 0x8005_0033);

    assert_eq!(read(vcpu, 0xe3), 0x660);
    assert_eq!(write(vcpu, 0xe0, u64::MAX), DONE);
    assert_eq!(read(vcpu, 0xe3), 0x5_066c);
    vcpu.cr4_features = u64::MAX;
    assert_eq!(write(vcpu, 0xe0, u64::MAX), DONE);
    assert_eq!(read(vcpu, 0xe3), 0x5_066c);
    vcpu.cr4_features = 0xc;
    assert_eq!(write(vcpu, 0xe0, u64::MAX), DONE);
    assert_eq!(read(vcpu, 0xe3), 0x66c);
    assert_eq!(write(vcpu, 0xe0, 0), DONE);
    assert_eq!(read(vcpu, 0xe3), 0x660);

    assert_eq!(write(vcpu, 0xd0, 1 << 63 | 5), DONE);
    assert_eq!(read(vcpu, 0xd3), 1 << 63 | 5);

    assert_eq!(read(vcpu, 0xdb), 0x1ed3_d000);
    assert_eq!(write(vcpu, 0xd8, 0x1ed3_dfff), DONE);
    for refused in [0, 0x123, 0x1ed3_c000, 1 << 63 | 0x1ed3_d000] {
        assert_eq!(write(vcpu, 0xd8, refused), GP);
    }
}

#[test]
fn compatibility_mode_has_32_bit_registers() {
    let mut vcpu = Vcpu::default();
    let mut regs = GuestRegs { rax: 0xffff_ffff_8005_003b, ..GuestRegs::default() };
    assert_eq!(in_mode(&mut vcpu, &mut regs, CodeSize::Bits32, &[0x0f, 0x22, 0xc0]), DONE);
    assert!(vcpu.task_switched);
    assert_eq!(in_mode(&mut vcpu, &mut regs, CodeSize::Bits32, &[0xf3, 0x6c]), Outcome::NotOurs);
}

#[test]
fn debug_registers() {
    let mut vcpu = Vcpu::default();
    let mut regs = GuestRegs { rax: 0x1000, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut regs, &[0x0f, 0x23, 0xd8]), DONE);
    assert_eq!(vcpu.debug[3], 0x1000);
    assert_eq!(run(&mut vcpu, &mut rax(0xdead), &[0x0f, 0x23, 0xd8]), GP);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x0f, 0x21, 0xe3]), DONE);
    assert_eq!(regs.rbx, 0xffff_0ff0);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x0f, 0x21, 0xeb]), DONE);
    assert_eq!(regs.rbx, 0x400);
    vcpu.cr4 = 8;
    assert_eq!(run(&mut vcpu, &mut regs, &[0x0f, 0x21, 0xe3]), UD);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x0f, 0x21, 0xf3]), DONE);
}

#[test]
fn ports() {
    let mut vcpu = Vcpu::default();
    let mut regs = GuestRegs { rax: 0x1122_3344_5566_7788, rdx: 0xcf8, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut regs, &[0xec]), DONE);
    assert_eq!(regs.rax, 0x1122_3344_5566_77ff);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x66, 0xed]), DONE);
    assert_eq!(regs.rax, 0x1122_3344_5566_ffff);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x48, 0xed]), DONE);
    assert_eq!(regs.rax, 0xffff_ffff);
    assert_eq!(run(&mut vcpu, &mut regs, &[0xe6, 0x80]), DONE);
    assert_eq!(run(&mut vcpu, &mut regs, &[0xef]), DONE);
    assert_eq!(vcpu.written, [(0x80, Width::B1, 0xff), (0xcf8, Width::B4, u32::MAX)]);
}

/// A port of several bytes needs all of its bits clear, and does not wrap.
#[test]
fn port_bitmap() {
    let mut vcpu = Vcpu::default();
    vcpu.io.level = 0;
    vcpu.open_ports = vec![0x61, 0x62, 0xffff, 0];
    for mode in [Mode::Kernel, Mode::User] {
        vcpu.mode = mode;
        let mut at = |port, bytes: &[u8]| {
            run(&mut vcpu, &mut GuestRegs { rdx: port, ..GuestRegs::default() }, bytes)
        };
        assert_eq!(at(0x61, &[0xec]), DONE);
        assert_eq!(at(0x60, &[0xec]), GP);
        assert_eq!(at(0x61, &[0x66, 0xed]), DONE);
        assert_eq!(at(0x62, &[0x66, 0xed]), GP);
        assert_eq!(at(0x61, &[0xed]), GP);
        assert_eq!(at(0xffff, &[0xec]), DONE);
        assert_eq!(at(0xffff, &[0x66, 0xed]), GP);
    }
}

fn string(at: u64, count: u64) -> GuestRegs {
    GuestRegs { rdi: at, rsi: at, rcx: count, rdx: 0x3fd, ..GuestRegs::default() }
}

const fn page_fault(address: u64, error_code: u32) -> Outcome {
    Outcome::Inject(Fault::Page { address, error_code })
}

#[test]
fn string_input() {
    let mut vcpu = Vcpu::default();
    let mut regs = string(PAGE, 3);
    assert_eq!(run(&mut vcpu, &mut regs, &[0xf3, 0x6c]), DONE);
    assert_eq!((regs.rdi, regs.rcx), (PAGE + 3, 0));
    assert_eq!(vcpu.page[..4], [0xff, 0xff, 0xff, 0]);
    let mut regs = string(PAGE | 0xffff_ffff << 32, 0xffff_ffff_0000_0002);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x67, 0xf3, 0x6d]), DONE);
    assert_eq!((regs.rdi, regs.rcx), (PAGE + 8, 0));
    let mut regs = GuestRegs { rflags: 0x400, ..string(PAGE + 4, 3) };
    assert_eq!(run(&mut vcpu, &mut regs, &[0xf2, 0x6c]), DONE);
    assert_eq!(regs.rdi, PAGE + 1);
    // The registers end where the fault was.
    let mut regs = string(PAGE + 0xffe, 5);
    assert_eq!(run(&mut vcpu, &mut regs, &[0xf3, 0x6c]), page_fault(PAGE + 0x1000, 2));
    assert_eq!((regs.rdi, regs.rcx), (PAGE + 0x1000, 3));
    let mut regs = string(PAGE + 0xffe, 5);
    assert_eq!(run(&mut vcpu, &mut regs, &[0x6d]), page_fault(PAGE + 0x1000, 2));
    for elsewhere in [0x8000_0000_0000, 0xffff_8000_0000_0000, 0xffff_8300_0000_0000] {
        assert_eq!(run(&mut vcpu, &mut string(elsewhere, 3), &[0x6c]), GP);
    }
    vcpu.io.level = 0;
    assert_eq!(run(&mut vcpu, &mut string(0x4000_0000, 1), &[0x6c]), GP);
    assert_eq!(run(&mut vcpu, &mut string(0x4000_0000, 0), &[0xf3, 0x6c]), DONE);
}

#[test]
fn string_output() {
    let mut vcpu = Vcpu::default();
    vcpu.page[..4].copy_from_slice(&[1, 2, 3, 4]);
    let mut regs = string(PAGE, 2);
    assert_eq!(run(&mut vcpu, &mut regs, &[0xf3, 0x66, 0x6f]), DONE);
    assert_eq!((regs.rsi, regs.rcx), (PAGE + 4, 0));
    assert_eq!(vcpu.written, [(0x3fd, Width::B2, 0x201), (0x3fd, Width::B2, 0x403)]);
    vcpu.bases[0] = PAGE - 0x10;
    assert_eq!(run(&mut vcpu, &mut string(0x12, 1), &[0x64, 0x6e]), DONE);
    assert_eq!(vcpu.written.last(), Some(&(0x3fd, Width::B1, 3)));
    assert_eq!(run(&mut vcpu, &mut string(0x4000_0000, 1), &[0x6e]), page_fault(0x4000_0000, 0));
    (vcpu.mode, vcpu.io.level) = (Mode::User, 3);
    assert_eq!(run(&mut vcpu, &mut string(0x4000_0000, 1), &[0x6e]), page_fault(0x4000_0000, 4));
}

/// A long string instruction lets the guest in now and then.
#[test]
fn string_instructions_are_bounded() {
    let mut vcpu = Vcpu::default();
    let mut regs = string(PAGE, 4096);
    let bytes = [0xf3, 0x6e];
    let source = |offset: u8| bytes.get(usize::from(offset)).copied();
    let decoded = privileged::decode(CodeSize::Bits64, &source).unwrap();
    let mut entries = 0;
    while regs.rip == 0 {
        assert_eq!(execute(&mut vcpu, &mut regs, CodeSize::Bits64, decoded), DONE);
        entries += 1;
    }
    assert_eq!((regs.rcx, vcpu.written.len(), entries), (0, 4096, 64));
}

#[test]
fn single_steps() {
    let stepped = Outcome::Emulated(After::DebugException(STEP));
    // What reaches the machine, and what has no effect at all, leaves it to the next instruction.
    for bytes in [&[0xfa][..], &[0xfb], &[0xec]] {
        let mut regs = GuestRegs { rflags: 0x1_0100, ..GuestRegs::default() };
        let mut vcpu = Vcpu { direct: Some(0), ..Vcpu::default() };
        assert_eq!(run(&mut vcpu, &mut regs, bytes), DONE);
        assert_eq!((regs.rip, regs.rflags), (RIP + 1, 0x100));
    }
    for bytes in [&[0xec][..], &[0x0f, 0x20, 0xc3], &[0x0f, 0x09]] {
        let mut regs = GuestRegs { rflags: 0x1_0100, ..GuestRegs::default() };
        assert_eq!(run(&mut Vcpu::default(), &mut regs, bytes), stepped);
        assert_eq!((regs.rip, regs.rflags), (RIP + u64::try_from(bytes.len()).unwrap(), 0x100));
    }
    let mut regs = GuestRegs { rflags: 0x100, ..string(PAGE, 2) };
    assert_eq!(run(&mut Vcpu::default(), &mut regs, &[0xf3, 0x6c]), stepped);
    assert_eq!((regs.rip, regs.rcx), (RIP, 1));
    assert_eq!(run(&mut Vcpu::default(), &mut regs, &[0xf3, 0x6c]), stepped);
    assert_eq!((regs.rip, regs.rcx), (RIP + 2, 0));
}

#[test]
fn breakpoints_on_ports() {
    let mut vcpu = Vcpu { watched: Some(0x81), ..Vcpu::default() };
    let struck = Outcome::Emulated(After::DebugException(1));
    let dx = |port| GuestRegs { rdx: port, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut dx(0x81), &[0xee]), struck);
    assert_eq!(run(&mut vcpu, &mut dx(0x80), &[0xef]), struck);
    assert_eq!(run(&mut vcpu, &mut dx(0x80), &[0xee]), DONE);
    assert_eq!(run(&mut vcpu, &mut rax(0), &[0xe4, 0x81]), struck);
    let mut regs = GuestRegs { rflags: 0x100, ..dx(0x81) };
    let both = Outcome::Emulated(After::DebugException(STEP | 1));
    assert_eq!(run(&mut vcpu, &mut regs, &[0xec]), both);
    let mut regs = GuestRegs { rdx: 0x81, ..string(PAGE, 3) };
    assert_eq!(run(&mut vcpu, &mut regs, &[0xf3, 0x6c]), struck);
    assert_eq!((regs.rip, regs.rcx), (RIP, 2));
    vcpu.io.level = 0;
    assert_eq!(run(&mut vcpu, &mut dx(0x81), &[0xee]), GP);
}

#[test]
fn registers_nobody_hears_of() {
    let mut vcpu = Vcpu { handles_faults: false, ..Vcpu::default() };
    let read = |vcpu: &mut Vcpu, rcx| {
        let mut regs = GuestRegs { rcx, rax: 1, rdx: 1, ..GuestRegs::default() };
        (run(vcpu, &mut regs, &[0x0f, 0x32]), regs.rax, regs.rdx)
    };
    assert_eq!(read(&mut vcpu, 0x174), (DONE, 0, 0));
    assert_eq!(read(&mut vcpu, 0x4000_0001), (GP, 1, 1));
    let mut regs = GuestRegs { rcx: 0x174, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut regs, &[0x0f, 0x30]), GP);
    vcpu.handles_faults = true;
    assert_eq!(read(&mut vcpu, 0x174), (GP, 1, 1));
    assert_eq!(read(&mut vcpu, 0xe7), (GP, 1, 1));
}

#[test]
fn extended_control() {
    let mut vcpu = Vcpu::default();
    let set = [0x0f, 0x01, 0xd1];
    assert_eq!(run(&mut vcpu, &mut rax(3), &set), UD);
    vcpu.cr4 = 1 << 18;
    for value in 0..0x800 {
        let valid = [1, 3, 7, 0xe7].contains(&value);
        assert_eq!(run(&mut vcpu, &mut rax(value), &set) == DONE, valid, "{value:x}");
    }
    vcpu.xcr0_features = 7;
    assert_eq!(run(&mut vcpu, &mut rax(0xe7), &set), GP);
    let high = GuestRegs { rax: 7, rdx: 1, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut { high }, &set), GP);
    let other = GuestRegs { rax: 7, rcx: 1, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut { other }, &set), GP);
    let mut ignored = GuestRegs { rax: 7 | 0xf << 32, rcx: 1 << 32, ..GuestRegs::default() };
    assert_eq!(run(&mut vcpu, &mut ignored, &set), DONE);
    assert_eq!(vcpu.xcr0, 7);
    vcpu.mode = Mode::User;
    assert_eq!(run(&mut vcpu, &mut rax(7), &set), Outcome::NotOurs);
}

#[test]
fn forced_emulation() {
    let decode = |bytes: &[u8]| forced::decode(&|at: u8| bytes.get(usize::from(at)).copied());
    let decoded = decode(b"\x0f\x0bxen\x0f\xa2").unwrap();
    let mut regs = GuestRegs { rax: 1, rcx: 2, rbx: u64::MAX, ..GuestRegs::default() };
    let outcome = execute(&mut Vcpu::default(), &mut regs, CodeSize::Bits64, decoded);
    assert_eq!((outcome, regs.rip), (DONE, 7));
    assert_eq!((regs.rax, regs.rbx, regs.rcx, regs.rdx), (1, 2, 0xffff_fffe, 0xffff_fffd));
    for other in [
        &b"\x0f\x0bxen\x66\x0f\xa2"[..],
        b"\x0f\x0bxen\x90",
        b"\x0f\x0bxen\x0f",
        b"\x0f\x0bxem\x0f\xa2",
    ] {
        assert!(decode(other).is_err(), "{other:x?}");
    }
}

/// Whatever the instruction and the registers: a fault or a refusal changes nothing.
#[test]
fn faults_change_nothing() {
    let mut random = Random::new(6);
    let first = [0x0f, 0x66, 0x48, 0x6c, 0x6e, 0xe4, 0xec, 0xef, 0xfa];
    let second = [0x01, 0x06, 0x09, 0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0xa2];
    for _ in 0..200_000 {
        let mut vcpu = Vcpu::default();
        vcpu.io.level = random.byte() & 3;
        vcpu.mode = random.pick(&[Mode::Kernel, Mode::User]);
        let bytes = [random.pick(&first), random.pick(&second), random.byte(), random.byte()];
        let numbers = [0, 3, PAGE, 0xc000_0100, 0x400, random.next()];
        let mut regs = GuestRegs { rdi: PAGE, ..GuestRegs::default() };
        regs.rax = random.pick(&numbers);
        regs.rcx = random.pick(&numbers);
        regs.rdx = random.pick(&numbers);
        let before = regs;
        let source = |offset: u8| bytes.get(usize::from(offset)).copied();
        let Ok(decoded) = privileged::decode(CodeSize::Bits64, &source) else { continue };
        match execute(&mut vcpu, &mut regs, CodeSize::Bits64, decoded) {
            Outcome::Emulated(_) => {}
            Outcome::Inject(_) | Outcome::NotOurs => assert_eq!(regs, before, "{bytes:x?}"),
        }
    }
}
