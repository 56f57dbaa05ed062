//! `stack_switch`: the stack for traps from user mode.

use super::trap_stage::{Stage, kernel_stack, user_stage};
use crate::call::hypercall;
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at};
use crate::raw::trap_snippets::{SELECTORS, UD2};
use crate::raw::{Registers, snippets};
use crate::tables::{M2P, mapped_end};

const STACK_SWITCH: u64 = 3;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("stack/switch", "Traps from user mode use the stack that was registered last.", |t| {
        user_stage(t, |s| {
            for offset in [0, 512, 1024] {
                switch(0xe02b, kernel_stack() - offset)?;
                at(s, kernel_stack() - offset - 56)?;
            }
            Ok(())
        })
    }),
    case("stack/alignment", "Their frames end at a multiple of 16.", |t| {
        user_stage(t, |s| {
            for offset in 1..16 {
                switch(0xe02b, kernel_stack() - 256 - offset)?;
                at(s, kernel_stack() - 256 - 16 - 56)?;
            }
            Ok(())
        })
    }),
    case("stack/again", "A second trap begins at the same place.", |t| {
        user_stage(t, |s| {
            at(s, kernel_stack() - 56)?;
            at(s, kernel_stack() - 56)
        })
    }),
    case("stack/any_address", "Any address is taken, with the answer 0.", |t| {
        user_stage(t, |_| {
            for address in [0, 1, 0x1000, NON_CANONICAL, HYPERVISOR, M2P, u64::MAX] {
                let answer = hypercall(STACK_SWITCH, &[0xe02b, address]);
                equal_at("answer for", address, answer, 0)?;
            }
            Ok(())
        })
    }),
    case("stack/any_selector", "Any selector is taken, and the handler's ss is e02b.", |t| {
        user_stage(t, |s| {
            for selector in [0, 3, 0x2b, 0xe010, 0xe033, 0xffff, 1 << 32] {
                switch(selector, kernel_stack())?;
                at(s, kernel_stack() - 56)?;
                let running = s.quiet(SELECTORS, Registers::new())?.rdi;
                equal_at("ss for", selector, running, 0xe02b)?;
            }
            Ok(())
        })
    }),
    case("stack/kernel", "Traps from the kernel do not use it.", |t| {
        user_stage(t, |s| {
            switch(0xe02b, 0x1000)?;
            let mut registers = Registers::new();
            registers.rsp = kernel_stack() - 1024;
            let event = s.kernel(UD2, registers)?;
            equal("frame", event.at, kernel_stack() - 1024 - 56)
        })
    }),
    ends_guest("stack/unmapped", "Without memory there, a trap from user mode ends it.", |t| {
        bad(t, 0x2000)
    }),
    ends_guest("stack/null", "So it does with stack 0.", |t| bad(t, 0)),
    ends_guest("stack/hypervisor", "And with a stack in the hypervisor.", |t| bad(t, HYPERVISOR)),
    ends_guest("stack/non_canonical", "And with one that is no address.", |t| {
        bad(t, NON_CANONICAL + 4096)
    }),
    ends_guest("stack/half", "And with room for half of a frame.", |t| {
        bad(t, mapped_end(t.boot) + 32)
    }),
    ends_guest("stack/no_handler", "And with a good stack, but no handler.", |t| {
        user_stage(t, |s| {
            s.table(|_| None)?;
            pv_guest_sdk::println!("ends {} crash {:016x}", t.name, UD2.address());
            s.user(UD2, Registers::new())?;
            equal("the guest", "goes on", "crashes")
        })
    }),
    ends_guest("stack/iret_to_nothing", "A call of iret with rsp 0 ends the guest.", |t| {
        let mut registers = Registers::new();
        registers.rax = 23;
        registers.rsp = 8;
        t.crash_at(snippets::SYSCALL, &mut registers, snippets::SYSCALL.address() + 2)
    }),
];

fn switch(selector: u64, address: u64) -> Outcome {
    equal("stack_switch", hypercall(STACK_SWITCH, &[selector, address]), 0)
}

/// Checks where the frame of a trap from user mode lies.
fn at(s: &Stage, place: u64) -> Outcome {
    equal("frame", s.user(UD2, Registers::new())?.at, place)
}

/// Traps from user mode with this stack.
fn bad(t: &Test<'_>, address: u64) -> Outcome {
    user_stage(t, |s| {
        switch(0xe02b, address)?;
        pv_guest_sdk::println!("ends {} crash {:016x}", t.name, UD2.address());
        s.user(UD2, Registers::new())?;
        equal("the guest", "goes on", "crashes")
    })
}
