//! What every instruction does in a guest: a line for each opcode, mode of the processor and state it is in.
//!
//! Each is executed with the trap flag set, so whatever it does a handler is next. What the handler finds is
//! compared (`docs/src/hostile.md`): which one it is, its frame, all registers, the fault's address, the event
//! mask, memory. A line has a sum of it for each prefix, or each operand in memory; none depends on a frame's
//! number, on time, or on what else is the machine's own, so that the lines of two hypervisors can be compared.
//!
//! Words on the command line choose: `mode=user32`, `state=stepped`, and in hexadecimal `map=f` and
//! `opcode=a2`, with which each instruction is told by itself.
//!
//! [`stage`] executes one, [`forms`] knows which there are and which are left out.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod forms;
mod stage;

use hostile::land::Land;
use pv_guest_sdk::{BootInfo, entry, print, println};

use forms::{Form, MAPS, OPERANDS, PREFIXES};
use stage::{DATA, Stage};

entry!(main);

/// In which mode of the processor, and of the guest.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mode {
    Kernel,
    User,
    User32,
    Kernel32,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Kernel, Self::User, Self::User32, Self::Kernel32];

    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::User => "user",
            Self::User32 => "user32",
            Self::Kernel32 => "kernel32",
        }
    }

    /// The selector of its code segment, as the `iret` call takes it: privilege 3 is user mode.
    const fn cs(self) -> u64 {
        match self {
            Self::Kernel => 0xe030,
            Self::User => 0xe033,
            Self::User32 => 0xe023,
            Self::Kernel32 => 0xe020,
        }
    }

    const fn is_kernel(self) -> bool {
        matches!(self, Self::Kernel | Self::Kernel32)
    }

    /// Whether code of it is 32-bit code.
    const fn is_narrow(self) -> bool {
        matches!(self, Self::User32 | Self::Kernel32)
    }
}

/// What else is chosen before an instruction.
#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// Nothing special; the full set of prefixes and operands.
    Plain,
    /// All flags that can be set but IF, and a stack pointer that is odd.
    Flags,
    /// The x87 unit is switched off (`fpu_taskswitch`), events are admitted.
    Switched,
    /// The kernel may use ports.
    Level1,
    /// User mode may too.
    Level3,
    /// Code ends at the end of memory, this many bytes on.
    Edge(u64),
    /// No single step where the instruction before would end: a breakpoint lies there.
    Free,
}

impl State {
    const ALL: [Self; 9] = [
        Self::Plain,
        Self::Flags,
        Self::Switched,
        Self::Level1,
        Self::Level3,
        Self::Edge(1),
        Self::Edge(2),
        Self::Edge(3),
        Self::Free,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Flags => "flags",
            Self::Switched => "switched",
            Self::Level1 => "level1",
            Self::Level3 => "level3",
            Self::Edge(1) => "edge1",
            Self::Edge(2) => "edge2",
            Self::Edge(_) => "edge3",
            Self::Free => "free",
        }
    }
}

fn main(boot: &BootInfo<'static>) -> Result<(), &'static str> {
    let land = Land::new(boot).ok_or("no land")?;
    let stage = Stage::new(&land).ok_or("no stage")?;
    let is = |name, it: &str| boot.argument(name).is_none_or(|chosen| chosen == it);
    let number = |name| boot.argument(name).and_then(|it| u64::from_str_radix(it, 16).ok());
    let opcode = number("opcode");
    for mode in Mode::ALL.into_iter().filter(|it| is("mode", it.name())) {
        for state in State::ALL.into_iter().filter(|it| is("state", it.name())) {
            stage.enter(state);
            for map in MAPS {
                let chosen = number("map").is_none_or(|it| it == forms::number(map));
                if chosen && forms::is_told_of(mode, state, map) {
                    let opcodes = (0..=255).filter(|&it| opcode.is_none_or(|op| op == u64::from(it)));
                    opcodes.for_each(|it| one(&stage, mode, state, map, it, opcode.is_some()));
                }
            }
            stage.leave();
        }
        if is("state", "selectors") {
            selectors(&stage, mode, opcode.is_some());
        }
    }
    println!("swept");
    Ok(())
}

/// A line with a sum for each prefix, and one with a sum for each operand.
fn one(stage: &Stage, mode: Mode, state: State, map: &'static [u8], opcode: u8, told: bool) {
    let begin = |what| {
        print!("{} {} {:02x} {opcode:02x}{what}:", mode.name(), state.name(), forms::number(map));
    };
    let form = Form { mode, state, prefix: &[], map, opcode, modrm: 0, operand: DATA[0], source: None };
    begin("");
    for prefix in PREFIXES.into_iter().take(if state == State::Plain { usize::MAX } else { 6 }) {
        let mut sum = Sum::new(told);
        for modrm in forms::modrms(map, opcode) {
            for operand in DATA.into_iter().take(if modrm < 0xc0 { 2 } else { 1 }) {
                sum.add(stage, &Form { prefix, modrm, operand, ..form });
            }
        }
    }
    println!();
    if state != State::Plain || map.len() > 1 {
        return;
    }
    begin(" at");
    for operand in OPERANDS {
        let mut sum = Sum::new(told);
        for prefix in [&[][..], &[0x48], &[0x66]] {
            (0..8).for_each(|reg| sum.add(stage, &Form { prefix, modrm: 6 | reg << 3, operand, ..form }));
        }
    }
    println!();
}

/// What of selectors is loaded, and seen: a line for each instruction.
fn selectors(stage: &Stage, mode: Mode, told: bool) {
    let loads = [0, 2, 3, 4, 5].map(|reg| (&[][..], 0x8e, 0xc3 | reg << 3));
    let looks = [(0, 0xe3), (0, 0xeb), (2, 0xc3), (3, 0xc3)].map(|(op, modrm)| (&[0x0f][..], op, modrm));
    for (map, opcode, modrm) in loads.into_iter().chain(looks) {
        print!("{} selectors {:02x} {opcode:02x} {modrm:02x}:", mode.name(), forms::number(map));
        for first in [0, 0x10, 0x1000, 0xe000, 0xe010, 0xe020, 0xe030, 0xe040, 0xe050, 0xe060, 0xe070, 0xe080, 0xfff0] {
            let mut sum = Sum::new(told);
            for selector in first..first + 16 {
                let form = Form { mode, state: State::Plain, prefix: &[], map, opcode, modrm, operand: DATA[0], source: Some(selector) };
                sum.add(stage, &form);
            }
        }
        println!();
    }
}

/// A sum of what was seen, which is printed at its end.
struct Sum {
    value: u64,
    /// Whether what is seen is told too.
    told: bool,
}

impl Sum {
    const fn new(told: bool) -> Self {
        Self { value: 1, told }
    }

    fn add(&mut self, stage: &Stage, form: &Form) {
        let Some(words) = stage.run(form) else { return };
        if self.told {
            println!("\n {:02x?} {:x} {:x?}: {words:x?}", &form.bytes()[..12], form.operand, form.source);
        }
        self.value = words.into_iter().fold(self.value, |sum, word| {
            (sum ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(29)
        });
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        print!(" {:06x}", self.value >> 40);
    }
}
