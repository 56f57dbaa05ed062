//! Frames for `iret` with all kinds of selectors and flags, and places to go that are none.

use hostile::land::{Land, WRITE, map};
use hostile::raw::memory::{arena, put, spare};
use hostile::raw::{run, trap};
use hostile::slate;
use pv_guest_sdk::abi::layout::FLAT_KERNEL_SS;
use pv_guest_sdk::abi::mmu::mmuext;
use pv_guest_sdk::println;

use crate::Attack;

/// Where 32-bit code finds a page for code and one for a stack: a stack further up would be the
/// guest's end, since a fault there could not be delivered.
const LOW: u64 = 0x40_0000;

/// Selectors of code for the guest's kernel: null, the table's own, ours of 32 and 64 bits by every
/// privilege, the hypervisor's, beyond the table.
const KERNEL: [u64; 13] =
    [0, 8, 0x10, 0x30, 0xe008, 0xe010, 0xe018, 0xe020, 0xe030, 0xe031, 0xe032, 0xe038, 0xfff8];
/// The same for its user mode.
const USER: [u64; 7] = [3, 0xb, 0x33, 0xe00b, 0xe023, 0xe033, 0xffff];
/// Selectors of stacks.
const STACK: [u64; 6] = [0xe02b, 0, 3, 0xe028, 0xe033, 0xe010];
/// Flags: none, interrupts on, I/O privilege, virtual 8086, nested, resume, identification, single
/// steps, alignment, all.
const FLAGS: [u64; 10] =
    [0, 0x202, 0x3202, 0x20202, 0x4202, 0x10202, 0x20_0202, 0x302, 0x4_0202, u64::MAX];

impl Attack {
    /// Maps the pages at [`LOW`], in both roots.
    fn low(&self) -> Option<()> {
        let [.., l3, l2, l1, code, stack] = self.land.frames;
        let [one, other] = self.land.roots;
        let tables = [((l2 << 12) + 16, l1), (l3 << 12, l2), (one << 12, l3), (other << 12, l3)];
        for (place, table) in tables {
            (self.update(place, table << 12 | WRITE) == 0).then_some(())?;
        }
        [code, stack].into_iter().zip(0..).try_for_each(|(frame, number)| {
            (map(LOW + number * 4096, frame << 12 | WRITE) == 0).then_some(())
        })
    }

    pub(crate) fn jumps(&mut self) {
        let low = self.low().is_some();
        self.must(low, "no low pages: the rest would not be tried");
        let [event, failsafe] = trap::callbacks();
        // Where a frame cannot be returned to, the failsafe callback gives up.
        self.call(4, [event, trap::give_up(257), trap::give_up(258), 0, 0, 0]);
        // A no-operation and the way back: all else traps.
        let arrived = self.jump(&KERNEL, &[0x90]);
        self.must(arrived > 0, "no jump arrived");
        let [_, user] = self.land.roots;
        self.extended(mmuext::NEW_USER_BASEPTR.into(), user, 0);
        self.call(3, [FLAT_KERNEL_SS.into(), spare(7), 0, 0, 0, 0]);
        // User mode comes back by a trap alone.
        let before = trap::count();
        self.jump(&USER, &[0x0f, 0x0b]);
        println!("{arrived} jumps came back, {} trapped", trap::count() - before);
        self.call(4, [event, failsafe, trap::give_up(258), 0, 0, 0]);
        self.bad_handlers();
        trap::register(arena());
    }

    /// Jumps in all ways to code, by some selectors. How many came to its end.
    fn jump(&self, selectors: &[u64], code: &[u8]) -> u64 {
        let page = spare(Land::CODE);
        run::write(page, code);
        run::write(LOW, code);
        let places = [page, LOW, 1 << 47, 0xffff_8400_0000_0000, u64::MAX, 0];
        let mut arrived = 0;
        for (&cs, flags) in selectors.iter().flat_map(|cs| FLAGS.map(|flags| (cs, flags))) {
            for (rip, ss) in places.into_iter().flat_map(|rip| STACK.map(|ss| (rip, ss))) {
                // rax, r11, rcx, flags (bit 8: by sysret), rip, cs, rflags, rsp, ss
                let sysret = (flags & 1) << 8;
                put(arena(), &[0, 0, 0, sysret, rip, cs, flags & !1, LOW + 0x1800, ss]);
                self.slate.add(slate::CALLS, 1);
                // mov rsp, rsi; syscall
                let jump = [0x48, 0x89, 0xf4, 0x0f, 0x05];
                arrived += u64::from(run::code(spare(5), &jump, [23, 0, 0, 0, arena(), 0]));
            }
        }
        arrived
    }

    /// Callbacks and handlers at addresses that are none.
    fn bad_handlers(&mut self) {
        for address in [1 << 47, 1 << 63, 0xffff_7fff_ffff_ffff, 0x0000_8000_0000_0000] {
            put(arena(), &[0, address]);
            self.must(self.call(30, [0, arena(), 0, 0, 0, 0]) < 0, "a callback that is no address");
            put(arena(), &[14 | 0xe033 << 16, address, 0, 0]);
            self.must(self.call(0, [arena(), 0, 0, 0, 0, 0]) < 0, "a handler that is no address");
        }
    }
}
