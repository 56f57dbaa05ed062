//! CPUID by the forced-emulation prefix, as the hypervisor answers it.

use super::trap_stage::user_stage;
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at, holds};
use crate::raw::trap_emulation::FORCED_CPUID;
use crate::raw::{Code, Registers, run, snippets};

/// First leaf of the hypervisor's.
const BASE: u64 = 0x4000_0000;

pub(crate) const CASES: &[Case] = &[
    case("cpuid/signature", "Leaf 40000000 spells XenVMMXenVMM.", |_| {
        let leaf = ask(BASE, 0);
        equal("ebx", leaf.rbx, text(*b"XenV"))?;
        equal("ecx", leaf.rcx, text(*b"MMXe"))?;
        equal("edx", leaf.rdx, text(*b"nVMM"))
    }),
    case(
        "cpuid/last_leaf",
        "Leaf 40000000 names the last leaf of the hypervisor's: 40000005.",
        |_| equal("eax", ask(BASE, 0).rax, BASE + 5),
    ),
    case("cpuid/version", "Leaf 40000001 gives the version, 4.17, and nothing else.", |_| {
        leaf_is(BASE + 1, 0, [0x4_0011, 0, 0, 0])
    }),
    case(
        "cpuid/features",
        "Leaf 40000002 gives one page, its register (MSR) 40000000, and feature bit 0.",
        |_| leaf_is(BASE + 2, 0, [1, 0x4000_0000, 1, 0]),
    ),
    case(
        "cpuid/time_mode",
        "Leaf 40000003 subleaf 0: the counter is native, not emulated.",
        |_| {
            let leaf = ask(BASE + 3, 0);
            equal("eax bit 0", leaf.rax & 1, 0)?;
            equal("ebx", leaf.rbx, 0)?;
            equal("ecx", leaf.rcx, 0)?;
            equal("edx", leaf.rdx, 0)
        },
    ),
    case("cpuid/time_scale", "Leaf 40000003 subleaf 1 has no factor for a native counter.", |_| {
        leaf_is(BASE + 3, 1, [0; 4])
    }),
    case(
        "cpuid/time_host",
        "Leaf 40000003 subleaf 2 gives the processor's frequency in kHz.",
        |_| {
            let leaf = ask(BASE + 3, 2);
            let kilohertz = 100_000..10_000_000;
            holds("eax", leaf.rax, "100 MHz to 10 GHz", kilohertz.contains(&leaf.rax))?;
            leaf_is(BASE + 3, 2, [leaf.rax, 0, 0, 0])
        },
    ),
    case("cpuid/time_behind", "Leaf 40000003 has nothing behind subleaf 2.", |_| {
        leaf_is(BASE + 3, 3, [0; 4])
    }),
    case("cpuid/hvm", "Leaf 40000004 is zero: it speaks of other guests.", |_| {
        leaf_is(BASE + 4, 0, [0; 4])
    }),
    case(
        "cpuid/pv",
        "Leaf 40000005 gives the width of the machine's highest address in ebx.",
        |_| {
            let leaf = ask(BASE + 5, 0);
            equal("eax", leaf.rax, 0)?;
            holds("ebx", leaf.rbx, "24 to 36 bits", (24..=36).contains(&leaf.rbx))?;
            equal("ecx", leaf.rcx, 0)?;
            equal("edx", leaf.rdx, 0)
        },
    ),
    case("cpuid/pv_subleaf", "Leaf 40000005 has one subleaf.", |_| leaf_is(BASE + 5, 1, [0; 4])),
    case("cpuid/behind_last", "The leaves behind the hypervisor's last are zero.", |_| {
        for leaf in [6, 7, 0x10, 0xff] {
            leaf_is(BASE + leaf, 0, [0; 4])?;
        }
        Ok(())
    }),
    case("cpuid/second_base", "Leaves 40000100 to 400001ff are zero.", |_| {
        for leaf in [0x100, 0x101, 0x1ff] {
            leaf_is(BASE + leaf, 0, [0; 4])?;
        }
        Ok(())
    }),
    case("cpuid/signature_subleaf", "The hypervisor's first leaf has no subleaves.", |_| {
        equal("eax", ask(BASE, 7).rax, BASE + 5)
    }),
    case("cpuid/vendor", "Leaf 0 spells the processor's vendor as the processor does.", |_| {
        let (forced, plain) = (ask(0, 0), plain(0, 0));
        equal("ebx", forced.rbx, plain.rbx)?;
        equal("ecx", forced.rcx, plain.rcx)?;
        equal("edx", forced.rdx, plain.rdx)
    }),
    case("cpuid/last_basic", "Leaf 0 names no leaf behind the processor's last.", |_| {
        let last = ask(0, 0).rax;
        holds("eax", last, "1 to the processor's", (1..=plain(0, 0).rax).contains(&last))
    }),
    case("cpuid/behind_basic", "Basic leaves behind the last are zero.", |_| {
        for leaf in [0x40, 0x1000, 0x3fff_ffff] {
            leaf_is(leaf, 0, [0; 4])?;
        }
        Ok(())
    }),
    case("cpuid/behind_extended", "Extended leaves behind the last are zero.", |_| {
        for leaf in [0x8000_0100, 0x8000_ffff] {
            leaf_is(leaf, 0, [0; 4])?;
        }
        Ok(())
    }),
    case("cpuid/other_ranges", "Leaves of no range at all are zero.", |_| {
        for leaf in [0x4001_0000, 0x5000_0000, 0xc000_0000, 0xffff_ffff] {
            leaf_is(leaf, 0, [0; 4])?;
        }
        Ok(())
    }),
    case("cpuid/hypervisor_bit", "Leaf 1 says that a hypervisor is there.", |_| {
        equal("ecx bit 31", ask(1, 0).rcx >> 31, 1)
    }),
    case("cpuid/hidden_edx", "Leaf 1 hides VME, PSE, PGE and PSE-36.", |_| {
        equal("edx", ask(1, 0).rdx & HIDDEN_EDX, 0)
    }),
    case(
        "cpuid/hidden_ecx",
        "Leaf 1 hides VMX, MONITOR, PCID, x2APIC and the deadline timer.",
        |_| equal("ecx", ask(1, 0).rcx & HIDDEN_ECX, 0),
    ),
    case(
        "cpuid/shown_edx",
        "Leaf 1 shows what 64-bit code needs: FPU, TSC, MSR, PAE, CX8, CMOV, FXSR, SSE, SSE2.",
        |_| equal("edx", ask(1, 0).rdx & SHOWN_EDX, SHOWN_EDX),
    ),
    case("cpuid/sysenter", "Leaf 1 shows SEP of Intel's processors, and of no AMD.", |_| {
        let shown = u64::from(ask(0, 0).rbx == text(*b"Genu"));
        equal("edx bit 11", ask(1, 0).rdx >> 11 & 1, shown)
    }),
    case("cpuid/hidden_7", "Leaf 7 hides SMEP, SMAP, INVPCID, UMIP and PKU.", |_| {
        equal("ebx", ask(7, 0).rbx & (1 << 7 | 1 << 10 | 1 << 20), 0)?;
        equal("ecx", ask(7, 0).rcx & (1 << 2 | 1 << 3 | 1 << 16), 0)
    }),
    case("cpuid/shown_extended", "Leaf 80000001 shows SYSCALL, NX and long mode.", |_| {
        let shown = 1 << 11 | 1 << 20 | 1 << 29;
        equal("edx", ask(0x8000_0001, 0).rdx & shown, shown)
    }),
    case("cpuid/hidden_extended", "Leaf 80000001 hides pages of 1 GiB, and SVM.", |_| {
        equal("edx", ask(0x8000_0001, 0).rdx & 1 << 26, 0)?;
        equal("ecx", ask(0x8000_0001, 0).rcx & 1 << 2, 0)
    }),
    case("cpuid/address_width", "Leaf 80000008 gives 48 bits of virtual addresses.", |_| {
        equal("eax", ask(0x8000_0008, 0).rax >> 8 & 0xff, 48)
    }),
    case("cpuid/topology", "Leaf b is zero, and leaf 1 names no CPU.", |_| {
        leaf_is(0xb, 0, [0; 4])?;
        leaf_is(0xb, 1, [0; 4])?;
        equal("leaf 1, ebx's top", ask(1, 0).rbx >> 24, 0)
    }),
    case("cpuid/power", "Leaves 5 and 6, of power, are zero.", |_| {
        leaf_is(5, 0, [0; 4])?;
        leaf_is(6, 0, [0; 4])
    }),
    case("cpuid/memory_types", "The initial domain's kernel is shown MTRR.", |_| {
        equal("leaf 1, edx bit 12", ask(1, 0).rdx >> 12 & 1, 1)?;
        equal("leaf 80000001, edx bit 12", ask(0x8000_0001, 0).rdx >> 12 & 1, 1)
    }),
    case("cpuid/memory_types_user", "Its user mode is not.", |t| {
        user_stage(t, |s| {
            let mut registers = Registers::new();
            registers.rax = 1;
            let event = s.user(FORCED_CPUID, registers)?;
            equal("edx bit 12", event.registers.rdx >> 12 & 1, 0)
        })
    }),
    case("cpuid/intel_extended", "Of Intel's extended leaves AMD's parts are zero.", |_| {
        if ask(0, 0).rbx != text(*b"Genu") {
            return Err(Verdict::Skip("the processor is not Intel's"));
        }
        let first = ask(0x8000_0000, 0);
        equal("name in leaf 80000000", first.rbx | first.rcx | first.rdx, 0)?;
        let second = ask(0x8000_0001, 0);
        equal("eax and ebx of leaf 80000001", second.rax | second.rbx, 0)?;
        leaf_is(0x8000_0005, 0, [0; 4])?;
        let caches = ask(0x8000_0006, 0);
        equal("all but ecx of leaf 80000006", caches.rax | caches.rbx | caches.rdx, 0)
    }),
    case("cpuid/upper_inputs", "The upper halves of rax and rcx are ignored.", |_| {
        let mut registers = Registers::new();
        registers.rax = 0xffff_ffff_0000_0000 | (BASE + 1);
        registers.rcx = 0xffff_ffff_0000_0000;
        run(snippets::FORCED_CPUID, &mut registers);
        equal("rax", registers.rax, 0x4_0011)
    }),
    case("cpuid/upper_outputs", "The upper halves of the answers are zero.", |_| {
        let mut registers = Registers::new();
        registers.rax = BASE;
        registers.rbx = u64::MAX;
        registers.rcx = 0xffff_ffff_0000_0000;
        registers.rdx = u64::MAX;
        run(snippets::FORCED_CPUID, &mut registers);
        let used = registers.rax | registers.rbx | registers.rcx | registers.rdx;
        equal("upper halves", used >> 32, 0)
    }),
    case("cpuid/others_kept", "The other registers and the flags are kept.", |_| {
        let mut registers = Registers::new();
        registers.rax = BASE;
        registers.rsi = 0x1111;
        registers.rdi = 0x2222;
        registers.rbp = 0x3333;
        registers.high = [4, 5, 6, 7, 8, 9, 10, 11];
        registers.rflags = 0xed7;
        let before = registers;
        run(snippets::FORCED_CPUID, &mut registers);
        equal("rsi", registers.rsi, before.rsi)?;
        equal("rdi", registers.rdi, before.rdi)?;
        equal("rbp", registers.rbp, before.rbp)?;
        equal("rsp", registers.rsp, before.rsp)?;
        equal("flags", registers.rflags, before.rflags)?;
        for (place, (&now, &then)) in (8..).zip(registers.high.iter().zip(&before.high)) {
            equal_at("r8 to r15", place, now, then)?;
        }
        Ok(())
    }),
    case("cpuid/bad_stack", "The stack is not used.", |_| {
        let mut registers = Registers::new();
        registers.rax = BASE + 1;
        registers.rsp = 0x1000;
        run(snippets::FORCED_CPUID, &mut registers);
        equal("rax", registers.rax, 0x4_0011)
    }),
    ends_guest("cpuid/prefix_0", "Another first byte of the prefix is no prefix.", |t| {
        broken(t, snippets::PREFIX_0)
    }),
    ends_guest("cpuid/prefix_1", "Another second byte of the prefix is no prefix.", |t| {
        broken(t, snippets::PREFIX_1)
    }),
    ends_guest("cpuid/prefix_2", "Another third byte of the prefix is no prefix.", |t| {
        broken(t, snippets::PREFIX_2)
    }),
    ends_guest("cpuid/prefix_3", "Another fourth byte of the prefix is no prefix.", |t| {
        broken(t, snippets::PREFIX_3)
    }),
    ends_guest("cpuid/prefix_4", "Another last byte of the prefix is no prefix.", |t| {
        broken(t, snippets::PREFIX_4)
    }),
    ends_guest("cpuid/prefix_alone", "The prefix before another instruction is no prefix.", |t| {
        broken(t, snippets::PREFIX_NOP)
    }),
    ends_guest("cpuid/prefix_half", "The prefix before half of CPUID is no prefix.", |t| {
        broken(t, snippets::PREFIX_HALF)
    }),
    ends_guest("cpuid/prefix_twice", "The prefix before the prefix is no prefix.", |t| {
        broken(t, snippets::PREFIX_TWICE)
    }),
];

const HIDDEN_EDX: u64 = 1 << 1 | 1 << 3 | 1 << 13 | 1 << 17;
const HIDDEN_ECX: u64 = 1 << 3 | 1 << 5 | 1 << 17 | 1 << 21 | 1 << 24;
const SHOWN_EDX: u64 =
    1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 15 | 1 << 24 | 1 << 25 | 1 << 26;

pub(super) fn ask(leaf: u64, subleaf: u64) -> Registers {
    asked(snippets::FORCED_CPUID, leaf, subleaf)
}

fn plain(leaf: u64, subleaf: u64) -> Registers {
    asked(snippets::CPUID, leaf, subleaf)
}

fn asked(code: Code, leaf: u64, subleaf: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = leaf;
    registers.rcx = subleaf;
    run(code, &mut registers);
    registers
}

pub(super) fn leaf_is(leaf: u64, subleaf: u64, expected: [u64; 4]) -> Outcome {
    let seen = ask(leaf, subleaf);
    equal_at("eax of leaf", leaf, seen.rax, expected[0])?;
    equal_at("ebx of leaf", leaf, seen.rbx, expected[1])?;
    equal_at("ecx of leaf", leaf, seen.rcx, expected[2])?;
    equal_at("edx of leaf", leaf, seen.rdx, expected[3])
}

fn broken(t: &Test<'_>, code: Code) -> Outcome {
    let mut registers = Registers::new();
    registers.rax = BASE;
    t.crash(code, &mut registers)
}

fn text(bytes: [u8; 4]) -> u64 {
    u32::from_le_bytes(bytes).into()
}
