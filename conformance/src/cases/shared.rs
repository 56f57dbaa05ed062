//! The shared page as a guest finds it, and how it is mapped.

use core::sync::atomic::Ordering::Relaxed;

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;

use crate::call::{UPDATE_VA_MAPPING, hypercall};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, fill_arena, peek};
use crate::tables::{FRAME, frame_of, mapping};

/// The arena's last page, over which cases map the shared page.
fn place() -> u64 {
    arena_address() + 3 * 4096
}

/// Present, writable, accessed, dirty: the flags guests commonly ask for.
const ASKED: u64 = 0x63;

pub(crate) const CASES: &[Case] = &[
    case("shared/map", "The shared page can be mapped over any mapped page.", |t| {
        over(t, ASKED, |_| Ok(()))
    }),
    case("shared/map_minimal", "Present, writable and user are flags enough.", |t| {
        over(t, 7, |_| Ok(()))
    }),
    case("shared/map_read_only", "The shared page can be mapped read-only.", |t| {
        over(t, 0x21, |_| Ok(()))
    }),
    case("shared/frame", "The entry names the frame that start_info names.", |t| {
        over(t, ASKED, |t| {
            let entry = mapping(t.boot, place()).unwrap_or(0);
            equal("frame", entry & FRAME, t.boot.start_info().shared_info)
        })
    }),
    case("shared/flags", "The entry has the flags asked for, user, and the kernel's mark.", |t| {
        over(t, ASKED, |t| {
            let entry = mapping(t.boot, place()).unwrap_or(0);
            equal("flags", entry & !FRAME, 0x0010_0000_0000_0067)
        })
    }),
    case("shared/user_flags", "An entry asked for with user is global, and has no mark.", |t| {
        over(t, 0x67, |t| {
            let entry = mapping(t.boot, place()).unwrap_or(0);
            equal("flags", entry & !FRAME, 0x167)
        })
    }),
    case("shared/twice", "The same page can be mapped at two places.", |t| {
        let page = shared_info(&Machine, t.boot);
        equal("mapped by the SDK", page.is_ok(), true)?;
        over(t, ASKED, |t| {
            let Ok(page) = shared_info(&Machine, t.boot) else {
                return equal("mapped by the SDK", "no", "yes");
            };
            page.max_pfn.store(0x1234, Relaxed);
            equal("max_pfn at the other place", peek(place() + 3088), 0x1234)?;
            page.max_pfn.store(0, Relaxed);
            Ok(())
        })
    }),
    case("shared/upcall_pending", "No vCPU has an upcall pending.", |t| {
        vcpus(t, |slot, vcpu| equal_at("vCPU", slot, vcpu & 0xff, 0))
    }),
    case("shared/upcall_mask", "Upcalls of all 32 vCPUs are masked: 1.", |t| {
        vcpus(t, |slot, vcpu| equal_at("vCPU", slot, vcpu >> 8 & 0xff, 1))
    }),
    case("shared/pending_words", "No vCPU has a word of pending events.", |t| {
        over(t, ASKED, |_| zero(8, 8))
    }),
    case("shared/fault_address", "The last fault address is 0.", |t| {
        over(t, ASKED, |_| equal("cr2", peek(place() + 16), 0))
    }),
    case("shared/events_pending", "No event is pending.", |t| over(t, ASKED, |_| zero(2048, 512))),
    case("shared/events_masked", "No event is masked.", |t| over(t, ASKED, |_| zero(2560, 512))),
    case("shared/wall_clock", "The wall clock is set, and its version is even.", |t| {
        over(t, ASKED, |_| {
            let version = peek(place() + 3072) & 0xffff_ffff;
            holds("version", version, "even, not 0", version != 0 && version & 1 == 0)?;
            let seconds = peek(place() + 3072) >> 32;
            holds("seconds", seconds, "behind 2020", seconds > 1_577_836_800)
        })
    }),
    case("shared/clock_version", "The clock of vCPU 0 is set, and its version is even.", |t| {
        over(t, ASKED, |_| {
            let version = peek(place() + 32) & 0xffff_ffff;
            holds("version", version, "even, not 0", version != 0 && version & 1 == 0)
        })
    }),
    case("shared/clock_scale", "The clock of vCPU 0 has a factor.", |t| {
        over(t, ASKED, |_| {
            let factor = peek(place() + 56) & 0xffff_ffff;
            holds("factor", factor, "not 0", factor != 0)
        })
    }),
    case("shared/clock_time", "The clock of vCPU 0 stands between 1 ms and 1000 s.", |t| {
        over(t, ASKED, |_| {
            let time = peek(place() + 48);
            holds("time", time, "in ns", (1_000_000..1_000_000_000_000).contains(&time))
        })
    }),
    case("shared/other_clocks", "The clocks of vCPUs that are not there are zero.", |t| {
        over(t, ASKED, |_| {
            for vcpu in 1..32 {
                for offset in (32..64).step_by(8) {
                    equal_at("vCPU", vcpu, peek(place() + vcpu * 64 + offset), 0)?;
                }
            }
            Ok(())
        })
    }),
    case("shared/arch", "Everything a guest tells in the page is zero at first.", |t| {
        over(t, ASKED, |_| zero(3088, 48))
    }),
    case("shared/rest", "The rest of the page is zero.", |t| {
        over(t, ASKED, |_| zero(3136, 4096 - 3136))
    }),
];

/// Maps the shared page over the arena's last page with these flags, looks, and maps back.
fn over(t: &Test<'_>, flags: u64, look: impl FnOnce(&Test<'_>) -> Outcome) -> Outcome {
    fill_arena(0xaa);
    let entry = t.boot.start_info().shared_info | flags;
    equal("mapping", hypercall(UPDATE_VA_MAPPING, &[place(), entry, 2]), 0)?;
    let mapped = equal("the arena's filler", peek(place() + 4088) == u64::MAX / 3 * 2, false);
    let outcome = mapped.and_then(|()| look(t));
    let own = frame_of(t.boot, (place() - crate::tables::VIRT_BASE) >> 12) << 12 | ASKED;
    let back: Result<(), Verdict> =
        equal("mapping back", hypercall(UPDATE_VA_MAPPING, &[place(), own, 2]), 0);
    outcome.and(back)
}

/// Looks at the first word of each of the 32 vCPUs.
fn vcpus(t: &Test<'_>, look: fn(u64, u64) -> Outcome) -> Outcome {
    over(t, ASKED, |_| (0..32).try_for_each(|slot| look(slot, peek(place() + slot * 64))))
}

/// Checks that so many bytes from an offset on are zero.
fn zero(offset: u64, bytes: u64) -> Outcome {
    for at in (offset..offset + bytes).step_by(8) {
        equal_at("word at", at, peek(place() + at), 0)?;
    }
    Ok(())
}
