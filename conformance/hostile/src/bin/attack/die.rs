//! Guests that die, each in another state.

use hostile::land::{Land, READ, SELF, WRITE, map};
use hostile::raw::memory::{arena, arena_end, peek, poke, put, spare, toy};
use hostile::raw::{Store, TRAPPED, call, load, run, store};
use pv_guest_sdk::abi::layout::FLAT_KERNEL_SS;
use pv_guest_sdk::abi::mmu::mmuext;
use pv_guest_sdk::abi::sched;
use pv_guest_sdk::println;

use crate::Attack;

/// Pages that stay mapped.
const HELD: u64 = 16;

impl Attack {
    /// Grants pages to the next domain, and dies a while after that has mapped some.
    pub(crate) fn grant(&mut self) {
        let next = self.peer;
        let entry = |number| spare(Land::GRANTS) + 8 * number;
        for (number, frame) in (8..72).zip(self.land.frames) {
            poke(entry(number), 1 | next << 16 | frame << 32);
        }
        // The last one that is kept mapped is being written to.
        let is_mapped = || peek(entry(7 + HELD)) & 1 << 4 != 0;
        let mut rounds = 0;
        while !is_mapped() && rounds < 1_000_000 {
            self.rest();
            rounds += 1;
        }
        let mapped = is_mapped();
        self.must(mapped, "nobody has mapped what was granted");
        (0..100).for_each(|_| self.rest());
        self.die("die-fault");
    }

    fn rest(&self) {
        self.call(29, [u64::from(sched::YIELD), 0, 0, 0, 0, 0]);
    }

    /// Maps a page by the peer's entry. Its handle, unless that is refused.
    fn map_entry(&self, address: u64, entry: u64) -> Option<u64> {
        put(arena(), &[address, 2 | entry << 32, self.peer | 0xffff << 16, 0]);
        self.call(20, [0, arena(), 1, 0, 0, 0]);
        let answer = peek(arena() + 16);
        (answer >> 16 & 0xffff == 0).then_some(answer >> 32)
    }

    /// Maps what the domain before it grants, again and again, while and after that one dies, and keeps
    /// some of it to its own end.
    pub(crate) fn map_granted(&mut self) {
        let [mut mapped, mut refused, mut held] = [0, 0, 0];
        for round in 0..1_000_000 {
            let (place, entry) = match held {
                HELD.. => (toy(round % 32), 8 + round % 64),
                held => (toy(32 + held), 8 + held),
            };
            match self.map_entry(place, entry) {
                Some(handle) => {
                    mapped += 1;
                    let wrote = store(place, round, Store::Move);
                    self.must(wrote, "what is mapped can't be written");
                    if held < HELD {
                        held += 1;
                    } else {
                        put(arena(), &[place, 0, handle]);
                        self.call(20, [1, arena(), 1, 0, 0, 0]);
                    }
                }
                // Before it grants, or after its death.
                None => refused += u64::from(held == HELD),
            }
            if refused == 2000 {
                break;
            }
            if round % 8 == 0 {
                self.rest();
            }
        }
        println!("mapped {mapped}, refused {refused}");
        self.must(held == HELD && refused != 0, "the peer did not die meanwhile");
        let is_there = (0..HELD).all(|number| store(toy(32 + number), 1, Store::Move));
        self.must(is_there, "what was mapped is gone with the peer");
    }

    /// Dies in one state or another.
    pub(crate) fn die(&mut self, how: &str) {
        match how {
            "die-multicall" => self.in_multicall(),
            "die-vcpus" => self.with_vcpus_half_up(),
            "die-running" => self.while_others_run(&[0xeb, 0xfe], 0),
            "die-pinning" => self.while_tables_are_checked(),
            "die-poll" => {
                put(arena(), &[0, 0, 0]);
                self.for_ever(sched::POLL);
            }
            "die-blocked" => self.for_ever(sched::BLOCK),
            "die-suspended" => _ = self.ask(29, sched::SHUTDOWN.into(), &[2]),
            "die-callback" => {
                self.call(4, [0xffff_8400_0000_0000, 0, 0, 0, 0, 0]);
                self.no_handlers();
                let (shared, _) = self.land.shared;
                poke(shared, peek(shared) | 1);
                self.call(29, [u64::from(sched::BLOCK), 0, 0, 0, 0, 0]);
            }
            "die-timers" => {
                self.ask(24, 6, &[1_000_000]);
                self.ask(29, 6, &[0]);
            }
            "die-granted" => self.with_grants_to_itself(),
            "die-ports" => {
                for port in 0..300 {
                    self.ask(32, 6, &[SELF | [SELF, 0, 1][port % 3] << 16, 0]);
                    self.ask(32, 7, &[port as u64 % 4, 0]);
                    self.ask(32, 4, &[port as u64]);
                }
            }
            "die-debug" => {
                for (number, address) in (0..).zip([spare(Land::CODE), arena(), toy(0), 0]) {
                    self.call(8, [number, address, 0, 0, 0, 0]);
                }
                self.call(8, [7, 0xff0_00ff, 0, 0, 0, 0]);
            }
            _ => self.die_by_code(how),
        }
        // Nobody has died so far: a fault without a handler.
        self.no_handlers();
        load(0);
        self.must(call(17, [0; 6]) == TRAPPED, "this guest should be dead");
    }

    fn no_handlers(&self) {
        self.call(0, [0, 0, 0, 0, 0, 0]);
    }

    /// Waits, with the words in the arena, for what never comes.
    fn for_ever(&self, command: u32) -> ! {
        loop {
            self.call(29, [u64::from(command), arena(), 0, 0, 0, 0]);
        }
    }

    fn in_multicall(&self) {
        let list = arena();
        for number in 0..64 {
            put(list + 64 * number, &[17, 0, 0, 0, 0, 0, 0, 0]);
        }
        // shutdown, crashed
        poke(arena_end() - 16, 3);
        put(list + 64 * 40, &[29, 0, 2, arena_end() - 16, 0, 0, 0, 0]);
        self.call(13, [list, 64, 0, 0, 0, 0]);
    }

    fn with_vcpus_half_up(&self) {
        for vcpu in 1..4 {
            let context = self.land.context(vcpu, |context| {
                // The last one faults where there is no handler.
                if vcpu == 3 {
                    context.user_regs.rip = 0;
                    context.trap_ctxt = [Default::default(); 256];
                }
            });
            self.up(vcpu, context);
        }
        loop {
            self.rest();
        }
    }

    fn up(&self, vcpu: u64, context: u64) {
        self.call(24, [0, vcpu, context, 0, 0, 0]);
        self.call(24, [1, vcpu, 0, 0, 0, 0]);
    }

    /// The other vCPUs execute code, with a number in r13, while this one goes on for a while.
    fn while_others_run(&self, code: &[u8], number: u64) {
        run::write(spare(Land::CODE), code);
        for vcpu in 1..4 {
            let context = self.land.context(vcpu, |context| {
                let registers = &mut context.user_regs;
                registers.rip = spare(Land::CODE);
                (registers.r13, registers.r14, registers.r15) = (number, SELF, arena());
            });
            self.up(vcpu, context);
        }
        (0..30).for_each(|_| self.rest());
    }

    /// The others pin and unpin a table of level 4, below which there is more than one entry to the
    /// hypervisor may look at.
    fn while_tables_are_checked(&mut self) {
        let [page, l1, l3, l4, l2 @ ..] = self.land.frames;
        let l2 = &l2[..16];
        let mut fill = |table: u64, slots: u64, entry: &dyn Fn(u64) -> u64| {
            let done =
                (0..slots).all(|slot| self.update((table << 12) + 8 * slot, entry(slot)) == 0);
            self.must(done, "this guest cannot write its own frames");
        };
        fill(l1, 512, &|_| page << 12 | READ);
        l2.iter().for_each(|&table| fill(table, 512, &|_| l1 << 12 | WRITE));
        fill(l3, 16, &|slot| {
            let table = usize::try_from(slot).ok().and_then(|slot| l2.get(slot));
            table.map_or(0, |table| table << 12 | WRITE)
        });
        fill(l4, 8, &|_| l3 << 12 | WRITE);
        let count = 64;
        for pair in 0..count / 2 {
            let operations =
                [mmuext::PIN_L4_TABLE.into(), l4, 0, mmuext::UNPIN_TABLE.into(), l4, 0];
            put(arena() + 48 * pair, &operations);
        }
        // mov eax, 26; mov rdi, r15; mov esi, r13d; xor edx, edx; mov r10, r14; syscall; jmp
        let code = [
            0xb8, 26, 0, 0, 0, 0x4c, 0x89, 0xff, 0x44, 0x89, 0xee, 0x31, 0xd2, 0x4d, 0x89, 0xf2,
            0x0f, 0x05, 0xeb, 0xec,
        ];
        self.while_others_run(&code, count);
    }

    /// Pages that it grants to itself are mapped, some twice, when it dies.
    fn with_grants_to_itself(&mut self) {
        let own = self.own;
        self.peer = own;
        let mut mapped = 0;
        for (number, frame) in (8..40).zip(self.land.frames) {
            poke(spare(Land::GRANTS) + 8 * number, 1 | own << 16 | frame << 32);
            let places = [toy(number), toy(number + 32)];
            mapped += places.iter().filter(|&&at| self.map_entry(at, number).is_some()).count();
        }
        self.must(mapped == 64, "what it grants to itself can't be mapped");
    }

    /// Dies by instructions that no compiler writes.
    fn die_by_code(&mut self, how: &str) {
        // mov rsp, rsi; syscall (iret)
        let jump = [0x48, 0x89, 0xf4, 0x0f, 0x05];
        let leave = |cs, rip, stack| {
            put(spare(7), &[0, 0, 0, 0, rip, cs, 0x202, stack, FLAT_KERNEL_SS.into()]);
            run::code(spare(5), &jump, [23, 0, 0, 0, spare(7), 0]);
        };
        match how {
            // mov rsp, rsi; ud2
            "die-stack" => {
                let code = [0x48, 0x89, 0xf4, 0x0f, 0x0b];
                run::code(spare(Land::CODE), &code, [0, 0, 0, 0, 1 << 63, 0]);
            }
            "die-sysenter" => _ = run::code(spare(Land::CODE), &[0x0f, 0x34], [0; 6]),
            // To user mode, without tables for it.
            "die-iret" => leave(0xe033, 0, 0),
            // By code of 32 bits whose stack is where it has no addresses.
            "die-narrow" => leave(0xe020, spare(5), spare(6)),
            // In a handler that is nowhere: each fault is one more, down to the end of the stack.
            "die-handler" => {
                put(arena(), &[14 | 0xe033 << 16, 1 << 46, 0, 0]);
                self.call(0, [arena(), 0, 0, 0, 0, 0]);
                load(0);
            }
            // In user mode, by a fault without a handler, or one whose frame has no stack to go to.
            "die-user" | "die-triple" => {
                let [_, user] = self.land.roots;
                self.extended(mmuext::NEW_USER_BASEPTR.into(), user, 0);
                let stack = if how == "die-user" { spare(6) } else { 1 << 46 };
                self.call(3, [FLAT_KERNEL_SS.into(), stack, 0, 0, 0, 0]);
                if how == "die-user" {
                    self.no_handlers();
                }
                run::write(spare(Land::CODE), &[0x0f, 0x0b]);
                leave(0xe033, spare(Land::CODE), 0);
            }
            // With descriptors of its own in use.
            "die-segments" => {
                let [table, local, ..] = self.land.frames;
                let descriptor = 0x00cf_f300_0000_ffff;
                for (frame, at) in [(table, 8), (local, 0)] {
                    self.must(self.update((frame << 12) + at, descriptor) == 0, "a descriptor");
                }
                put(arena() + 512, &[table]);
                self.call(2, [arena() + 512, 512, 0, 0, 0, 0]);
                map(toy(1), local << 12 | READ);
                self.extended(mmuext::SET_LDT.into(), toy(1), 512);
                // mov ds, eax; mov fs, ebx
                let code = [0x8e, 0xd8, 0x8e, 0xe3];
                let loaded = run::code(spare(Land::CODE), &code, [11, 7, 0, 0, 0, 0]);
                self.must(loaded, "its descriptors can't be loaded");
            }
            _ => {}
        }
    }
}
