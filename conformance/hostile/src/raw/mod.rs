//! The one place of this crate where `unsafe` is allowed: wild hypercalls, wild instructions, and
//! the memory they may name.
//!
//! As in the conformance suite, what is here is safe to *call* because of a rule that this crate
//! keeps as a whole: **wild arguments name only memory that no Rust object lives in** (the pages of
//! [`memory`], addresses outside the image), or the domain is expected to end. Whatever traps
//! meanwhile is given up: see [`trap`].
#![allow(unsafe_code, reason = "wild instructions and hypercalls are what these guests are for")]

pub mod memory;
pub mod run;
pub mod step;
pub mod trap;

use core::arch::asm;

/// What [`call`] answers if the guest trapped on the way, which no hypercall does.
pub const TRAPPED: i64 = i64::MIN;

/// Makes any hypercall with any arguments.
pub fn call(number: u64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    let (result, trapped): (i64, u64);
    // SAFETY: by this crate's rule the call changes no memory of Rust's. All registers that a call or
    // a trap may change are declared; the handler of traps goes on at `2:` with the stack as it was.
    unsafe {
        asm!(
            "mov [rip + __h_rsp], rsp",
            "lea rcx, [rip + 2f]",
            "mov [rip + __h_back], rcx",
            "syscall",
            "xor ecx, ecx",
            "jmp 3f",
            "2: mov ecx, 1",
            "3: mov qword ptr [rip + __h_back], 0",
            inlateout("rax") number => result,
            inlateout("rdi") a => _,
            inlateout("rsi") b => _,
            inlateout("rdx") c => _,
            inlateout("r10") d => _,
            inlateout("r8") e => _,
            inlateout("r9") f => _,
            lateout("rcx") trapped,
            lateout("r11") _,
        );
    }
    if trapped == 0 { result } else { TRAPPED }
}

/// Loads a word. `None` if that trapped.
pub fn load(address: u64) -> Option<u64> {
    let (value, trapped): (u64, u64);
    // SAFETY: reads alone; a trap goes on at `2:`.
    unsafe {
        asm!(
            "mov [rip + __h_rsp], rsp",
            "lea {t}, [rip + 2f]",
            "mov [rip + __h_back], {t}",
            "mov {v}, [{a}]",
            "xor {t:e}, {t:e}",
            "jmp 3f",
            "2: mov {t:e}, 1",
            "3: mov qword ptr [rip + __h_back], 0",
            t = out(reg) trapped,
            v = inout(reg) 0_u64 => value,
            a = in(reg) address,
        );
    }
    (trapped == 0).then_some(value)
}

/// Stores a word by one of some instructions. Whether it went through.
pub fn store(address: u64, value: u64, how: Store) -> bool {
    macro_rules! store {
        ($($instruction:literal),+) => {{
            let trapped: u64;
            // SAFETY: by this crate's rule no Rust object lives there; a trap goes on at `2:`.
            unsafe {
                asm!(
                    "mov [rip + __h_rsp], rsp",
                    "lea rcx, [rip + 2f]",
                    "mov [rip + __h_back], rcx",
                    $($instruction,)+
                    "xor ecx, ecx",
                    "jmp 3f",
                    "2: mov ecx, 1",
                    "3: mov qword ptr [rip + __h_back], 0",
                    out("rcx") trapped,
                    inout("rax") value => _,
                    in("rdi") address,
                );
            }
            trapped == 0
        }};
    }
    match how {
        Store::Move => store!("mov [rdi], rax"),
        Store::Exchange => store!("xchg [rdi], rax"),
        Store::Compare => store!("xor ecx, ecx", "xchg rax, rcx", "lock cmpxchg [rdi], rcx"),
        Store::And => store!("and [rdi], rax"),
        Store::Add => store!("lock add [rdi], rax"),
        Store::SetBit => store!("bts qword ptr [rdi], 1"),
        Store::Half => store!("mov [rdi], eax"),
        Store::Byte => store!("mov [rdi], al"),
    }
}

/// The instructions of [`store`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of instructions")]
pub enum Store {
    Move,
    Exchange,
    Compare,
    And,
    Add,
    SetBit,
    Half,
    Byte,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Move,
        Self::Exchange,
        Self::Compare,
        Self::And,
        Self::Add,
        Self::SetBit,
        Self::Half,
        Self::Byte,
    ];
}
