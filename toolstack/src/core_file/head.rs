//! What stands before the memory in a core: the ELF header, segments, registers.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::types::{Mfn, PAGE_SHIFT, PAGE_SIZE, VcpuId};

use super::Subject;
use super::mapped::Range;

/// Lengths of the file's header and of a segment's. Unit: bytes.
const HEADER: u64 = 64;
const SEGMENT: u64 = 56;
/// Types of segments, and a segment's permissions: what a page may be used for is not told.
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const ALL: u32 = 7;
/// Types of notes.
const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
/// The signal of a domain that has crashed: SIGABRT.
const ABORTED: u16 = 6;
/// In a note of the registers: where the signal is, the thread's number, and the registers. Unit: bytes.
const STATUS: usize = 336;
const STATUS_SIGNAL: [usize; 2] = [0, 12];
const STATUS_ID: usize = 32;
const STATUS_REGISTERS: usize = 112;
const STATUS_HAS_FLOATS: usize = 328;
/// In the note of the program: where its name is, and its command line. Unit: bytes.
const PROGRAM: usize = 136;
const PROGRAM_NAME: usize = 40;
const PROGRAM_NAME_MOST: usize = 15;
const PROGRAM_LINE: usize = 56;
const PROGRAM_LINE_MOST: usize = 79;

/// A virtual CPU.
#[derive(Clone, Debug)]
pub struct Vcpu {
    /// Its number.
    pub id: VcpuId,
    /// Its state.
    pub context: Box<VcpuGuestContext>,
}

impl Vcpu {
    fn is_in_kernel(&self) -> bool {
        self.context.flags & GuestContextFlags::IN_KERNEL.bits() != 0
    }
}

/// The top tables of all virtual CPUs, those that are in use first.
pub(super) fn roots(vcpus: &[Vcpu]) -> Vec<Mfn> {
    let root = |vcpu: &Vcpu, in_use: bool| {
        let [_, user, _, kernel, ..] = vcpu.context.ctrlreg;
        Mfn((if vcpu.is_in_kernel() == in_use { kernel } else { user }) >> PAGE_SHIFT)
    };
    let all = [true, false].into_iter().flat_map(|used| vcpus.iter().map(move |it| root(it, used)));
    let mut roots = Vec::new();
    for root in all.filter(|root| root.0 != 0) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

/// The head of a core of these ranges, whose pages come right behind it.
pub(super) fn of(subject: &Subject<'_>, ranges: &[Range]) -> Vec<u8> {
    let notes = notes(subject);
    let count = ranges.len() as u64 + 1;
    let notes_at = HEADER + count * SEGMENT;
    let mut at = (notes_at + notes.len() as u64).next_multiple_of(PAGE_SIZE as u64);
    let mut head = Vec::new();
    // ELF of 64 bits, little-endian; a core, for x86-64, of version 1; no entry, segments behind this
    // header and no sections.
    head.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    [4, 62].into_iter().for_each(|it: u16| head.extend_from_slice(&it.to_le_bytes()));
    head.extend_from_slice(&1_u32.to_le_bytes());
    [0, HEADER, 0].into_iter().for_each(|it: u64| head.extend_from_slice(&it.to_le_bytes()));
    head.extend_from_slice(&[0; 4]);
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    for length in [64, 56, count, 64, 0, 0] {
        head.extend_from_slice(&length.to_le_bytes());
    }
    let mut segment = |kind: u32, numbers: [u64; 6]| {
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&ALL.to_le_bytes());
        numbers.iter().for_each(|it| head.extend_from_slice(&it.to_le_bytes()));
    };
    segment(PT_NOTE, [notes_at, 0, 0, notes.len() as u64, 0, 4]);
    for range in ranges {
        let length = range.pages << PAGE_SHIFT;
        segment(PT_LOAD, [at, range.address(), 0, length, length, PAGE_SIZE as u64]);
        at += length;
    }
    head.extend_from_slice(&notes);
    head.resize(head.len().next_multiple_of(PAGE_SIZE), 0);
    head
}

/// What the domain is called, and the registers of its virtual CPUs.
fn notes(subject: &Subject<'_>) -> Vec<u8> {
    let mut notes = Vec::new();
    let mut program = [0; PROGRAM];
    let name = subject.name.as_bytes();
    put(&mut program, PROGRAM_NAME, name.get(..PROGRAM_NAME_MOST).unwrap_or(name));
    put(&mut program, PROGRAM_LINE, name.get(..PROGRAM_LINE_MOST).unwrap_or(name));
    note(&mut notes, NT_PRPSINFO, &program);
    let signal = if subject.is_crashed { ABORTED } else { 0 };
    for vcpu in subject.vcpus {
        note(&mut notes, NT_PRSTATUS, &status(vcpu, signal));
        note(&mut notes, NT_FPREGSET, &vcpu.context.fpu_ctxt);
    }
    notes
}

fn note(notes: &mut Vec<u8>, kind: u32, content: &[u8]) {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [5, length, kind].iter().for_each(|it: &u32| notes.extend_from_slice(&it.to_le_bytes()));
    notes.extend_from_slice(b"CORE\0\0\0\0");
    notes.extend_from_slice(content);
    notes.resize(notes.len().next_multiple_of(4), 0);
}

/// The registers as Linux has them in a core, where the vCPU is a thread by its number and 1, as 0 is none.
fn status(vcpu: &Vcpu, signal: u16) -> [u8; STATUS] {
    let (state, user) = (&vcpu.context, &vcpu.context.user_regs);
    let gs_base = if vcpu.is_in_kernel() { state.gs_base_kernel } else { state.gs_base_user };
    let segments = [user.ds, user.es, user.fs, user.gs].map(u64::from);
    // Behind RDI, RAX at the entry of a system call, of which there is none: all bits.
    let registers = [
        [user.r15, user.r14, user.r13, user.r12, user.rbp, user.rbx, user.r11, user.r10],
        [user.r9, user.r8, user.rax, user.rcx, user.rdx, user.rsi, user.rdi, u64::MAX],
        [
            user.rip,
            user.cs.into(),
            user.rflags,
            user.rsp,
            user.ss.into(),
            state.fs_base,
            gs_base,
            0,
        ],
    ];
    let registers = registers.as_flattened().iter().take(23).chain(&segments);
    let mut status = [0; STATUS];
    put(&mut status, STATUS_SIGNAL[0], &u32::from(signal).to_le_bytes());
    put(&mut status, STATUS_SIGNAL[1], &signal.to_le_bytes());
    put(&mut status, STATUS_ID, &(vcpu.id.0 + 1).to_le_bytes());
    for (register, at) in registers.zip((STATUS_REGISTERS..).step_by(8)) {
        put(&mut status, at, &register.to_le_bytes());
    }
    put(&mut status, STATUS_HAS_FLOATS, &[1]);
    status
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}
