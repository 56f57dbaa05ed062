//! `register_vcpu_info`: what a vCPU and the hypervisor tell each other moves elsewhere.

use crate::call::{EFAULT, EINVAL, registers};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at, holds};
use crate::cases::trap_stage::{EVENT, stage};
use crate::clock::{MS, TimeInfo, bind_ipi, clock, send};
use crate::raw::ap_snippets::NOTHING;
use crate::raw::memory::{arena_address, peek, peek_byte, poke, poke_byte};
use crate::raw::pages_scratch::{LOADED, Page, free_frame, hypervisor_frame, with};
use crate::raw::trap_snippets::LOAD;
use crate::raw::trap_stage::handler;
use crate::raw::{Registers, snippets};
use crate::tables::M2P;
use crate::vcpus::{ENOENT, VCPUS, info_of, power_off, vcpu_op, vcpu_op_of, worker};

const REGISTER: u64 = 10;
const ENXIO: i64 = -6;

/// A case of a boot of its own, whose body gets a page for the state.
macro_rules! own_boot {
    ($name:literal, $clause:literal, $body:expr) => {
        ends_guest(concat!("vcpu_info/", $name), $clause, |t| {
            with(t, |[a, ..]| {
                let body: fn(&Test<'_>, Page) -> Outcome = $body;
                body(t, a)?;
                power_off(t)
            })
        })
    };
}

pub(crate) const CASES: &[Case] = &[
    case("vcpu_info/pointer", "A place that cannot be read: EFAULT.", |_| {
        for pointer in [0, 0x1000, M2P, 1 << 47] {
            equal_at("answer for", pointer, vcpu_op(REGISTER, 0, pointer), EFAULT)?;
        }
        equal("beyond", vcpu_op(REGISTER, VCPUS, 0x1000), ENOENT)
    }),
    case(
        "vcpu_info/straddles",
        "A place across the end of its page: ENXIO, whatever the page.",
        |t| {
            with(t, |[a, ..]| {
                for offset in [4096 - 63, 4095, 4096, 4096 + 64, 1 << 31, 0xffff_ffc0] {
                    equal_at("answer for", offset, register(0, a.mfn, offset), ENXIO)?;
                    equal_at("of no page, for", offset, register(0, 1 << 33, offset), ENXIO)?;
                }
                Ok(())
            })
        },
    ),
    case("vcpu_info/misaligned", "A place that is not at a multiple of 8: ENXIO.", |t| {
        with(t, |[a, ..]| {
            for offset in [1, 2, 4, 12, 63, 4031] {
                equal_at("answer for", offset, register(0, a.mfn, offset), ENXIO)?;
            }
            Ok(())
        })
    }),
    case("vcpu_info/strangers", "Frames that are not the guest's: EINVAL.", |t| {
        for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, 1 << 52, u64::MAX, 0xb8] {
            equal_at("answer for", mfn, register(0, mfn, 0), EINVAL)?;
        }
        Ok(())
    }),
    case("vcpu_info/tables", "A page that is a page table or has descriptors: EINVAL.", |t| {
        for level in 1..=4 {
            with(t, |[a, ..]| {
                a.pin(level)?;
                equal_at("answer for level", level, register(0, a.mfn, 0), EINVAL)
            })?;
        }
        Ok(())
    }),
    case("vcpu_info/other_up", "A place for another vCPU that is up: EINVAL.", |t| {
        let ap = worker(t)?;
        with(t, |[a, ..]| {
            ap.spin()?;
            let answer = register(ap.number(), a.mfn, 0);
            ap.stop()?;
            equal("answer", answer, EINVAL)
        })
    }),
    case(
        "vcpu_info/refused",
        "Where it was refused nothing was written, and nothing is held.",
        |t| {
            with(t, |[a, ..]| {
                equal("answer", register(0, a.mfn, 4096), ENXIO)?;
                equal("first word", a.get(0), 0)?;
                a.protect()?;
                a.pin(1)?;
                a.unpin()?;
                a.is_free()
            })
        },
    ),
    own_boot!("state", "The state moves, pending is set and all selector bits.", |t, a| {
        let old = info_of(t, 0)?;
        poke(old + 24, 0x1234_5678);
        poke_byte(old + 2, 0x77);
        equal("answer", register(0, a.mfn, 128), 0)?;
        equal("pending, mask", a.get(16) & 0xffff, 0x101)?;
        equal("padding", a.get(16) >> 16 & 0xff, 0x77)?;
        equal("selector", a.get(17), u64::MAX)?;
        equal("word", a.get(19), 0x1234_5678)?;
        let (now, then) = (TimeInfo::at(a.va + 160), TimeInfo::at(old + 32));
        equal("time", now.mul, then.mul)?;
        equal("before", a.get(15), 0)?;
        equal("behind", a.get(24), 0)
    }),
    own_boot!("unmasked", "With events unmasked the callback runs at once.", |t, a| {
        stage(t, |s| {
            equal("callback", s.callback(0, 0, handler(EVENT)), 0)?;
            poke(arena_address(), a.mfn);
            poke(arena_address() + 8, 0);
            s.set_mask(0);
            let call = registers(crate::call::VCPU_OP, &[REGISTER, 0, arena_address()]);
            let event = s.kernel(snippets::SYSCALL, call)?;
            equal("vector", event.vector, EVENT)?;
            equal("rax", event.registers.rax, 0)?;
            equal("mask there", a.get(0) >> 8 & 0xff, 1)?;
            equal("mask in the frame", event.plain().cs >> 32, 0)
        })
    }),
    own_boot!("twice", "It moves once: EINVAL, to the same place too.", |_, a| {
        equal("answer", register(0, a.mfn, 0), 0)?;
        equal("again", register(0, a.mfn, 0), EINVAL)?;
        equal("elsewhere", register(0, a.mfn, 64), EINVAL)?;
        equal("misaligned", register(0, a.mfn, 1), ENXIO)?;
        equal("of no page", register(0, 1 << 33, 0), EINVAL)?;
        equal("unread", vcpu_op(REGISTER, 0, 0x1000), EFAULT)
    }),
    own_boot!("held", "Its page can be no page table any more.", |_, a| {
        equal("answer", register(0, a.mfn, 0), 0)?;
        a.protect()?;
        equal("pin", crate::raw::pages_calls::pin(1, a.mfn) < 0, true)?;
        a.is_free()
    }),
    own_boot!("read_only", "The page needs no mapping.", |t, a| {
        a.unmap()?;
        equal("answer", register(0, a.mfn, 0), 0)?;
        equal("map", a.map(LOADED), 0)?;
        equal("pending, mask", a.get(0) & 0xffff, 0x101)?;
        equal("old mask", peek_byte(info_of(t, 0)? + 1).into(), 1_u64)
    }),
    own_boot!("time", "Time is told there, and no longer where it was.", |t, a| {
        let old = info_of(t, 0)? + 32;
        equal("answer", register(0, a.mfn, 0), 0)?;
        let before = TimeInfo::at(old);
        let c = clock(t)?;
        c.poll(c.now() + 1200 * MS);
        equal("old version", TimeInfo::at(old).version, before.version)?;
        let version = TimeInfo::at(a.va + 32).version;
        holds("new version", version, "grown", version > before.version)
    }),
    own_boot!("fault_address", "Fault addresses are told there.", |t, a| {
        stage(t, |s| {
            equal("answer", register(0, a.mfn, 0), 0)?;
            s.entry(14, 0)?;
            let mut registers = Registers::new();
            registers.rsi = 0x1230;
            s.kernel(LOAD, registers)?;
            equal("address", a.get(2), 0x1230)?;
            equal("old", s.cr2() != 0x1230, true)
        })
    }),
    own_boot!(
        "aligned",
        "A place may be at any multiple of 8, the page's last 64 bytes too.",
        |_, a| {
            for (vcpu, offset) in [(0, 8), (1, 24), (3, 4096 - 64)] {
                equal_at("answer for", offset, register(vcpu, a.mfn, offset), 0)?;
            }
            Ok(())
        }
    ),
    own_boot!("other_down", "It moves for another vCPU that is down.", |t, a| {
        let ap = worker(t)?;
        equal("answer", register(ap.number(), a.mfn, 64), 0)?;
        equal("pending, mask", a.get(8) & 0xffff, 0x101)?;
        equal("selector", a.get(9), u64::MAX)?;
        a.set(8, 0x100);
        a.set(9, 0);
        let port = bind_ipi(ap.number())?;
        send(port)?;
        equal("pending, mask", a.get(8) & 0xffff, 0x101)?;
        equal("selector", a.get(9), 1 << (port / 64))?;
        equal("old", peek(info_of(t, ap.number())? + 8), 0)?;
        ap.run(NOTHING, &Registers::new()).map(|_| ())
    }),
    own_boot!("never", "It moves for one that never started, and once.", |_, a| {
        equal("answer", register(3, a.mfn, 0), 0)?;
        equal("pending, mask", a.get(0) & 0xffff, 0x101)?;
        equal("again", register(3, a.mfn, 64), EINVAL)
    }),
    own_boot!("upper_half", "The offset is 32 bits; what lies behind it is ignored.", |_, a| {
        equal("answer", register(0, a.mfn, 0xdead_beef << 32 | 64), 0)?;
        equal("pending, mask", a.get(8) & 0xffff, 0x101)
    }),
    own_boot!("same_page", "Several vCPUs may share a page.", |_, a| {
        for vcpu in 0..VCPUS {
            equal_at("answer", vcpu, register(vcpu, a.mfn, 64 * vcpu), 0)?;
        }
        Ok(())
    }),
];

/// Moves a vCPU's state.
fn register(vcpu: u64, mfn: u64, offset: u64) -> i64 {
    vcpu_op_of(REGISTER, vcpu, &[mfn, offset])
}
