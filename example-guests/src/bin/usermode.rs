//! A small kernel: three programs in address spaces of their own, run in turn. Two of them count,
//! the third does what it must not do and is ended.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::VecDeque;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_sdk::line::LineWriter;
use pv_guest_sdk::paging::{Memory, MemoryError, Space};
use pv_guest_sdk::user::{self, Exit, Program, User};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, Machine, console, entry, println, vary};

entry!(main);
pv_guest_sdk::heap!();

/// System calls: print some bytes, let the others run, end.
const WRITE: u32 = 1;
const YIELD: u32 = 2;
const EXIT: u32 = 3;
/// What an unknown system call answers: -ENOSYS.
const UNKNOWN: u64 = (-38_i64).cast_unsigned();

/// A variable of the kernel.
static KERNEL: AtomicU64 = AtomicU64::new(42);

struct Process {
    name: &'static str,
    user: User,
}

fn main(boot: &BootInfo<'static>) -> Result<(), MemoryError> {
    Vcpu::start(boot)?;
    let memory = Memory::start(boot)?;
    // The heap takes its first memory before free pages are counted.
    let mut ready: VecDeque<Process> = VecDeque::with_capacity(8);
    let free = memory.free();
    let programs: [(_, Program, u64); 3] =
        [("one", counter, 2), ("two", counter, 4), ("bad", offender, 0)];
    for (name, program, argument) in programs {
        ready.push_back(Process { name, user: User::new(Space::new()?, program, argument)? });
    }
    println!("{} programs, {} pages", ready.len(), vary!("used", free - memory.free()));
    let mut turns = 0;
    while let Some(mut process) = ready.pop_front() {
        turns += 1;
        if run(&mut process)? {
            ready.push_back(process);
        }
    }
    println!("the kernel's variable is {}", KERNEL.load(Ordering::Relaxed));
    println!("{turns} turns; all memory is back: {}", memory.free() == free);
    Ok(())
}

/// Counts to `limit`, and lets others run after each step.
extern "C" fn counter(limit: u64) -> ! {
    let mut sum = 0;
    for step in 1..=limit {
        sum += step;
        say(format_args!("step {step} of {limit}, sum {sum}\n"));
        user::call(YIELD, [0; 3]);
    }
    user::call(EXIT, [sum, 0, 0]);
    user::stop()
}

/// Tries what a program must not do.
extern "C" fn offender(_: u64) -> ! {
    let _no_answer = console::write(&Machine, b"a hypercall from user mode is a system call");
    say(format_args!(
        "asks for memory that is not its own: {}\n",
        user::call(WRITE, [0x1000, 1, 0])
    ));
    user::call(YIELD, [0; 3]);
    say(format_args!("reads a variable of the kernel\n"));
    // Nobody writes it, so the compiler must not know which one it is.
    let variable = core::hint::black_box(&KERNEL);
    say(format_args!("it is {}\n", variable.load(Ordering::Relaxed)));
    user::call(EXIT, [0; 3]);
    user::stop()
}

/// Prints, by system calls.
fn say(text: core::fmt::Arguments<'_>) {
    let mut writer = LineWriter::new(|piece: &[u8]| {
        user::call_with(WRITE, piece);
    });
    let _cannot_fail = writer.write_fmt(text);
}

/// Runs a program until it lets others run (then it may go on later) or ends.
fn run(process: &mut Process) -> Result<bool, MemoryError> {
    let user = &mut process.user;
    loop {
        match user.run()? {
            Exit::Call(call, [address, length, _]) if call == WRITE.into() => {
                let answer = write(process.name, user.space(), address, length);
                user.answer(answer);
            }
            Exit::Call(call, _) if call == YIELD.into() => return Ok(true),
            Exit::Call(call, [status, ..]) if call == EXIT.into() => {
                println!("{} ends with {status}", process.name);
                return Ok(false);
            }
            Exit::Call(number, _) => {
                println!("{} makes unknown call {:#x}", process.name, number);
                user.answer(UNKNOWN);
            }
            Exit::Trap(trap) => {
                let reason = trap.error.explain(trap.vector);
                println!("{} is ended: {}, {reason}", process.name, trap.vector);
                return Ok(false);
            }
            Exit::Event => {}
        }
    }
}

/// Prints what a program asks for: how many bytes, or -1 if they are not the program's.
fn write(name: &str, space: &Space, address: u64, length: u64) -> u64 {
    let mut bytes = [0; 80];
    let length = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    let Some(text) = bytes.get_mut(..length) else { return u64::MAX };
    match space.read(address, text) {
        Ok(()) => {
            println!("{name}: {}", core::str::from_utf8(text).unwrap_or("?").trim_end());
            length as u64
        }
        Err(error) => {
            println!("{name} names memory that it has not: {error}");
            u64::MAX
        }
    }
}
