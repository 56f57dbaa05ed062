//! Model-specific registers, read and written by the guest's kernel.

use super::trap_control::refused_at;
use super::trap_stage::{Stage, stage, user_stage};
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at};
use crate::raw::memory::{peek, poke};
use crate::raw::trap_emulation::{FORCED_CPUID, RDMSR, WRMSR};
use crate::raw::trap_snippets::{FS_LOAD, GS_LOAD};
use crate::raw::trap_stage::page;
use crate::raw::{Registers, run};
use crate::tables::{VIRT_BASE, frame_of};

const FS_BASE: u64 = 0xc000_0100;
const GS_BASE: u64 = 0xc000_0101;
const GS_SHADOW: u64 = 0xc000_0102;
const EFER: u64 = 0xc000_0080;
const PAT: u64 = 0x277;
const HYPERCALLS: u64 = 0x4000_0000;

pub(crate) const CASES: &[Case] = &[
    case("msr/bases", "The bases of fs and gs can be written and read.", |t| {
        bases(t, |s| {
            for (number, value) in [(FS_BASE, 0x1000), (GS_BASE, 0x2000), (GS_SHADOW, 0x3000)] {
                write(s, number, value)?;
                equal_at("register", number, read(s, number)?, value)?;
            }
            Ok(())
        })
    }),
    case("msr/bases_work", "They are the bases that fs and gs have.", |t| {
        bases(t, |s| {
            poke(page(8), 0x4444);
            write(s, FS_BASE, page(8))?;
            write(s, GS_BASE, page(8))?;
            equal("fs", s.quiet(FS_LOAD, Registers::new())?.rax, 0x4444)?;
            equal("gs", s.quiet(GS_LOAD, Registers::new())?.rax, 0x4444)
        })
    }),
    case("msr/shadow_is_user", "The shadow of gs is user mode's base.", |t| {
        bases(t, |s| {
            poke(page(8), 0x4444);
            write(s, GS_SHADOW, page(8))?;
            equal("gs", s.user(GS_LOAD, Registers::new())?.registers.rax, 0x4444)
        })
    }),
    case(
        "msr/bases_non_canonical",
        "A base that is no address is refused, the old one stays.",
        |t| {
            bases(t, |s| {
                for number in [FS_BASE, GS_BASE, GS_SHADOW] {
                    write(s, number, 0x1000)?;
                    for value in [0x0000_8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
                        refused_at(s, WRMSR, registers(number, value), value)?;
                    }
                    equal_at("register", number, read(s, number)?, 0x1000)?;
                }
                Ok(())
            })
        },
    ),
    case("msr/bases_hypervisor", "A base in the hypervisor is taken.", |t| {
        bases(t, |s| {
            for number in [FS_BASE, GS_BASE, GS_SHADOW] {
                write(s, number, 0xffff_8300_0000_0000)?;
                equal_at("register", number, read(s, number)?, 0xffff_8300_0000_0000)?;
            }
            Ok(())
        })
    }),
    case("msr/upper_halves", "The upper halves of rax, rcx and rdx do not matter.", |t| {
        bases(t, |s| {
            let upper = 0xffff_ffff_0000_0000;
            let mut given = registers(upper | FS_BASE, 0);
            (given.rax, given.rdx) = (upper | 0x5678_9000, upper | 0x12);
            s.quiet(WRMSR, given)?;
            equal("register", read(s, FS_BASE)?, 0x12_5678_9000)?;
            let after = s.quiet(RDMSR, given)?;
            equal("rax", after.rax, 0x5678_9000)?;
            equal("rdx", after.rdx, 0x12)
        })
    }),
    case("msr/efer", "EFER reads as d01; writing that is let through.", |t| {
        stage(t, |s| {
            equal("efer", read(s, EFER)?, 0xd01)?;
            write(s, EFER, 0xd01)
        })
    }),
    case("msr/efer_bits", "Any other value of EFER is refused.", |t| {
        stage(t, |s| {
            for bit in 0..64 {
                refused_at(s, WRMSR, registers(EFER, 0xd01 ^ 1 << bit), bit)?;
            }
            Ok(())
        })
    }),
    case("msr/pat", "The page attribute table reads as 50100070406, and cannot be written.", |t| {
        stage(t, |s| {
            equal("pat", read(s, PAT)?, 0x0501_0007_0406)?;
            refused_at(s, WRMSR, registers(PAT, 0x0501_0007_0406), 0)?;
            refused_at(s, WRMSR, registers(PAT, 0x0007_0406_0007_0406), 1)
        })
    }),
    case("msr/system_calls", "The registers of SYSCALL and SYSENTER are refused both ways.", |t| {
        stage(t, |s| {
            let all = [0x174, 0x175, 0x176, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084];
            all.into_iter().try_for_each(|number| none(s, number))
        })
    }),
    case(
        "msr/controls",
        "So are those of speculation, ranges, debugging, virtual machines.",
        |t| {
            stage(t, |s| {
                let all = [0x48, 0x49, 0xfe, 0x200, 0x2ff, 0x1d9, 0x1db, 0x480, 0xc001_0117, 0x800];
                all.into_iter().try_for_each(|number| none(s, number))
            })
        },
    ),
    case("msr/unknown", "So are numbers of nobody.", |t| {
        stage(t, |s| {
            let all = [0x2345, 0x4000_0001, 0x7fff_ffff, 0xc000_0fff, 0xffff_ffff];
            all.into_iter().try_for_each(|number| none(s, number))
        })
    }),
    case("msr/hypercalls", "Register 40000000 reads as 0.", |t| {
        stage(t, |s| equal("register", read(s, HYPERCALLS)?, 0))
    }),
    case("msr/hypercall_page", "A frame of the guest's written there gets its calls.", |t| {
        stage(t, |s| {
            (0..512).for_each(|place| poke(page(8) + 8 * place, 0));
            let frame = frame_of(t.boot, (page(8) - VIRT_BASE) >> 12);
            write(s, HYPERCALLS, frame << 12)?;
            // push rcx; push r11; mov eax, number; syscall; pop r11; pop rcx; ret
            let call = peek(page(8) + 17 * 32);
            equal("call 17, bytes 0 to 7", call, 0x0000_0011_b853_4151)?;
            let rest = peek(page(8) + 17 * 32 + 8) & 0xff_ffff_ffff_ffff;
            equal("call 17, bytes 8 to 14", rest, 0xcc_c359_5b41_050f)
        })
    }),
    case("msr/hypercall_page_refused", "Another page than 0, or a wrong frame, is refused.", |t| {
        stage(t, |s| {
            let frame = frame_of(t.boot, (page(8) - VIRT_BASE) >> 12);
            refused_at(s, WRMSR, registers(HYPERCALLS, frame << 12 | 1), 1)?;
            refused_at(s, WRMSR, registers(HYPERCALLS, 1 << 50), 2)
        })
    }),
    case("msr/apic", "The base of the interrupt controller is fee00900, and stays so.", |t| {
        stage(t, |s| {
            equal("base", read(s, 0x1b)?, 0xfee0_0900)?;
            refused_at(s, WRMSR, registers(0x1b, 0xfee0_0900), 0)?;
            refused_at(s, WRMSR, registers(0x1b, 0xfee0_0d00), 1)
        })
    }),
    case("msr/miscellaneous", "Register 1a0 ignores what is written.", |t| {
        stage(t, |s| {
            let before = read(s, 0x1a0)?;
            for value in [0, 1, u64::MAX] {
                write(s, 0x1a0, value)?;
                equal_at("register behind", value, read(s, 0x1a0)?, before)?;
            }
            Ok(())
        })
    }),
    case("msr/counters", "Intel's counters of events read as 0 and ignore writes.", |t| {
        intel(t, |s| {
            let all = (0xc1..=0xc8).chain(0x186..=0x189).chain(0x309..=0x30b).chain(0x38d..=0x390);
            for number in all {
                write(s, number, 0x1234)?;
                equal_at("register", number, read(s, number)?, 0)?;
            }
            Ok(())
        })
    }),
    case("msr/frequencies", "Those of frequency and heat read as 0, or not at all.", |t| {
        intel(t, |s| {
            for number in [0x198, 0x199, 0x19c, 0x345] {
                equal_at("register", number, read(s, number)?, 0)?;
            }
            for number in [0xe7, 0xe8, 0x199, 0x19a, 0x1b0] {
                write(s, number, 0x1234)?;
            }
            for number in [0x198, 0x19c, 0x345] {
                refused_at(s, WRMSR, registers(number, 0), number)?;
            }
            let unread = [0xe7, 0xe8, 0x19a, 0x1b0];
            unread.into_iter().try_for_each(|at| refused_at(s, RDMSR, registers(at, 0), at))
        })
    }),
    case("msr/no_handler", "Without a handler for vector 13 others read as 0.", |_| {
        for number in [0x174, 0x200, 0x2345, 0xc000_0081, 0xc001_0117] {
            let mut given = registers(number, u64::MAX);
            run(RDMSR, &mut given);
            equal_at("rax for", number, given.rax, 0)?;
            equal_at("rdx for", number, given.rdx, 0)?;
        }
        Ok(())
    }),
    ends_guest("msr/no_handler_own", "But not those from 40000001 on: a fault.", |t| {
        t.crash(RDMSR, &mut registers(HYPERCALLS + 1, 0))
    }),
    case("msr/time", "Register 10 goes forward with the counter.", |t| {
        stage(t, |s| {
            let one = read(s, 0x10)?;
            let two = read(s, 0x10)?;
            equal("forward", two > one, true)
        })
    }),
    case("msr/user", "User mode may not touch them.", |t| {
        user_stage(t, |s| {
            for code in [RDMSR, WRMSR] {
                let event = s.user(code, registers(FS_BASE, 0))?;
                equal("vector", event.vector, 13)?;
                equal("error", event.coded().error, 0)?;
                equal("rip", event.coded().rip, code.address())?;
            }
            Ok(())
        })
    }),
];

fn registers(number: u64, value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rcx = number;
    (registers.rax, registers.rdx) = (value & 0xffff_ffff, value >> 32);
    registers
}

fn read(s: &Stage, number: u64) -> Result<u64, Verdict> {
    let after = s.quiet(RDMSR, registers(number, 0))?;
    Ok(after.rdx << 32 | after.rax)
}

fn write(s: &Stage, number: u64, value: u64) -> Outcome {
    s.quiet(WRMSR, registers(number, value))?;
    Ok(())
}

/// Checks that a register is refused, to be read and to be written.
fn none(s: &Stage, number: u64) -> Outcome {
    refused_at(s, RDMSR, registers(number, 0), number)?;
    refused_at(s, WRMSR, registers(number, 0), number)
}

/// Does something on a processor of Intel's.
fn intel(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    let mut vendor = Registers::new();
    run(FORCED_CPUID, &mut vendor);
    if vendor.rbx != u64::from(u32::from_le_bytes(*b"Genu")) {
        return Err(Verdict::Skip("the processor is not Intel's"));
    }
    stage(t, does)
}

/// Does something in both modes, and clears all bases.
fn bases(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    user_stage(t, |s| {
        let outcome = does(s);
        for number in [FS_BASE, GS_BASE, GS_SHADOW] {
            write(s, number, 0)?;
        }
        outcome
    })
}
