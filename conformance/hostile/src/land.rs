//! What a hostile guest has: frames to play with, two roots, a grant table; and which frames it
//! lives in, that it must leave alone.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::layout::MACH2PHYS_VIRT_START;
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::{grant, layout, memory, mmu};
use pv_guest_sdk::raw::shared::shared_info;
use pv_guest_sdk::{BootInfo, Machine};
use zerocopy::IntoBytes;

use crate::raw::memory::{TOYS, arena, arena_end, peek, poke, put, put_bytes, spare, toy};
use crate::raw::{call, trap};

/// Where page 0 of the guest is mapped.
const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// The bits of an entry that say which frame it names.
const FRAME: u64 = mmu::ENTRY_ADDRESS_MASK;
/// Present, for reading.
pub const READ: u64 = 5;
/// Present, for writing.
pub const WRITE: u64 = 7;
/// The domain that calls, by this name.
pub const SELF: u64 = 0x7ff0;
/// Of the address space: the slot of the top table in which everything may be mapped.
pub const FAR_SLOT: u64 = 300;

/// Frames below 4 GiB that the guest lives in, one a bit.
static LIVED_IN: [AtomicU64; 1 << 14] = [const { AtomicU64::new(0) }; 1 << 14];

fn mark(frame: u64, lived_in: bool) {
    let place = usize::try_from(frame / 64).ok().and_then(|index| LIVED_IN.get(index));
    if let Some(word) = place {
        let bit = 1 << (frame % 64);
        if lived_in {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

/// Whether the guest lives in a frame, so that it must leave it alone.
#[must_use]
pub fn is_lived_in(frame: u64) -> bool {
    let place = usize::try_from(frame / 64).ok().and_then(|index| LIVED_IN.get(index));
    place.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (frame % 64) != 0)
}

/// See the module.
#[derive(Debug)]
pub struct Land {
    /// Frames for anything.
    pub frames: [u64; TOYS],
    /// Tables of level 4 with which this guest can run.
    pub roots: [u64; 2],
    /// Where the page is mapped that is shared with the hypervisor, and its frame.
    pub shared: (u64, u64),
    /// The frame of the grant table, which is mapped at [`Land::GRANTS`]; 0: none.
    pub grant_frame: u64,
    /// The highest frame of the machine, as the hypervisor says.
    pub last_frame: u64,
    /// The page number of the top table.
    top: u64,
}

/// The frame of a page, as the loader's list has it.
fn frame_of(boot: &BootInfo<'_>, page: u64) -> u64 {
    peek(boot.start_info().mfn_list + page * 8)
}

const fn page_at(address: u64) -> u64 {
    (address - VIRT_BASE) >> 12
}

/// Makes `update_va_mapping`, with a flush.
pub fn map(address: u64, entry: u64) -> i64 {
    call(14, [address, entry, 2, 0, 0, 0])
}

impl Land {
    /// The number of the spare page at which the grant table is mapped.
    pub const GRANTS: u64 = 0;
    /// The spare page that is the second root.
    const ROOT: u64 = 1;
    /// The first of two spare pages for a vCPU's context.
    const CONTEXT: u64 = 2;
    /// The spare page for code.
    pub const CODE: u64 = 4;

    /// Takes possession. `None` if a call is refused that must not be.
    #[must_use]
    pub fn new(boot: &BootInfo<'static>) -> Option<Self> {
        let shared = shared_info(&Machine, boot).ok()?;
        let shared = core::ptr::from_ref(shared).expose_provenance() as u64;
        trap::register(arena());
        (0..boot.pages()).for_each(|page| mark(frame_of(boot, page), true));
        let top = page_at(boot.start_info().pt_base);
        let mut land = Self {
            frames: [0; TOYS],
            roots: [frame_of(boot, top); 2],
            shared: (shared, boot.start_info().shared_info >> 12),
            grant_frame: 0,
            last_frame: call(12, [memory::MAXIMUM_RAM_PAGE.into(), 0, 0, 0, 0, 0]).cast_unsigned(),
            top,
        };
        for (number, frame) in (0..).zip(&mut land.frames) {
            *frame = frame_of(boot, page_at(toy(number)));
            mark(*frame, false);
            if map(toy(number), 0) != 0 {
                return None;
            }
        }
        (map(arena_end(), 0) == 0).then_some(())?;
        land.second_root(boot)?;
        land.grants();
        Some(land)
    }

    fn second_root(&mut self, boot: &BootInfo<'_>) -> Option<()> {
        let page = spare(Self::ROOT);
        let [old, new] = &mut self.roots;
        *new = frame_of(boot, page_at(page));
        for slot in (0..512).filter(|slot| !(256..272).contains(slot)) {
            poke(page + 8 * slot, peek(VIRT_BASE + (self.top << 12) + 8 * slot));
        }
        (map(page, *new << 12 | READ) == 0).then_some(())?;
        put(arena(), &[mmu::mmuext::PIN_L4_TABLE.into(), *new, 0]);
        (call(26, [arena(), 1, 0, SELF, 0, 0]) == 0 && old != new).then_some(())
    }

    /// Asks for a grant table and maps it.
    pub fn grants(&mut self) {
        let at = arena();
        put(at, &[SELF | 1 << 32, 0, at + 64]);
        call(20, [grant::SETUP_TABLE.into(), at, 1, 0, 0, 0]);
        let frame = peek(at + 64);
        if frame != 0 && map(spare(Self::GRANTS), frame << 12 | WRITE) == 0 {
            self.grant_frame = frame;
        }
    }

    /// The machine address of the entry that maps an address of the image.
    #[must_use]
    pub fn entry_of(&self, address: u64) -> u64 {
        let mut table = self.top;
        for level in [4, 3, 2] {
            let index = address >> (12 + 9 * (level - 1)) & 511;
            let entry = peek(VIRT_BASE + (table << 12) + 8 * index);
            if level == 2 {
                return (entry & FRAME) + (address >> 12 & 511) * 8;
            }
            table = peek(MACH2PHYS_VIRT_START + 8 * (entry >> 12 & FRAME >> 12));
        }
        0
    }

    /// The context of a vCPU that takes itself down whenever it comes up, in spare pages. Its
    /// address.
    #[must_use]
    pub fn context(&self, vcpu: u64, change: impl FnOnce(&mut VcpuGuestContext)) -> u64 {
        let flags = GuestContextFlags::IN_KERNEL | GuestContextFlags::I387_VALID;
        let mut context = VcpuGuestContext { flags: flags.bits(), ..VcpuGuestContext::default() };
        put_control_words(&mut context.fpu_ctxt);
        for (vector, row) in (0_u8..32).zip(&mut context.trap_ctxt) {
            *row = hypercall_abi::trap::TrapInfo {
                vector,
                flags: 3,
                cs: layout::FLAT_KERNEL_CS,
                address: trap::park(),
                ..Default::default()
            };
        }
        let registers = &mut context.user_regs;
        (registers.rip, registers.rbx) = (trap::park(), vcpu);
        registers.rsp = spare(6 + vcpu % 2) - 64 * (vcpu % 16);
        (registers.cs, registers.ss) = (layout::FLAT_KERNEL_CS, layout::FLAT_KERNEL_SS);
        registers.rflags = 1 << 9;
        (context.kernel_ss, context.kernel_sp) = (layout::FLAT_KERNEL_SS.into(), registers.rsp);
        registers.r12 = registers.rsp;
        [context.event_callback_eip, context.failsafe_callback_eip] = [trap::park(); 2];
        context.syscall_callback_eip = trap::park();
        context.ctrlreg[3] = self.roots[0].rotate_left(12);
        change(&mut context);
        put_bytes(spare(Self::CONTEXT), context.as_bytes());
        spare(Self::CONTEXT)
    }
}

/// What a floating-point unit begins with.
fn put_control_words(state: &mut [u8]) {
    for (at, value) in [(0, 0x37f_u16), (24, 0x1f80)] {
        if let Some(place) = state.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}
