//! What every instruction does in a guest: a line for each opcode, mode of the processor and state it is in.
//!
//! Each is executed with the trap flag set, so whatever it does a handler is next. What the handler finds is
//! compared (`docs/src/hostile.md`): which one it is, its frame, all registers, the fault's address, the event
//! mask, memory. A line is about eight opcodes and has a sum of it for each; none depends on a frame's
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

use forms::{FEW, Form, MAPS, OPERANDS, PREFIXES};
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
    /// Memory ends two bytes on.
    Edge,
    /// No single step where the instruction before would end: a breakpoint lies there.
    Free,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Plain,
        Self::Flags,
        Self::Switched,
        Self::Level1,
        Self::Level3,
        Self::Edge,
        Self::Free,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Flags => "flags",
            Self::Switched => "switched",
            Self::Level1 => "level1",
            Self::Level3 => "level3",
            Self::Edge => "edge",
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
                if chosen && forms::is_tried(mode, state, map) {
                    let form = Form { mode, state, map, ..Form::PLAIN };
                    (0..=255).for_each(|it| one(&stage, &Form { opcode: it, ..form }, opcode));
                }
            }
            stage.leave();
        }
        if is("state", "selectors") {
            selectors(&stage, mode, opcode.is_some());
        }
    }
    println!("\nswept");
    Ok(())
}

/// Tries an opcode, with all that may stand before and behind it. Chosen, it is told in full.
fn one(stage: &Stage, form: &Form, chosen: Option<u64>) {
    let Form { mode, state, map, opcode, .. } = *form;
    if opcode % 8 == 0 {
        print!("\n{} {} {:02x} {opcode:02x}:", mode.name(), state.name(), forms::number(map));
    }
    if chosen.is_some_and(|it| it != u64::from(opcode)) {
        return;
    }
    let mut sum = Sum::new(chosen.is_some());
    let is_all = state == State::Plain && map.len() < 2;
    for prefix in
        PREFIXES.into_iter().take(if is_all && !mode.is_narrow() { PREFIXES.len() } else { FEW })
    {
        for modrm in forms::modrms(map, opcode) {
            sum.add(stage, &Form { prefix, modrm, ..*form });
        }
    }
    for operand in DATA.into_iter().skip(1).chain(OPERANDS.into_iter().filter(|_| is_all)) {
        for reg in 0..8 {
            sum.add(stage, &Form { modrm: 6 | reg << 3, operand, ..*form });
        }
    }
}

/// What of selectors is loaded, and seen: a line for each instruction, with a sum for each few.
fn selectors(stage: &Stage, mode: Mode, told: bool) {
    let loads = [0, 2, 3, 4, 5].map(|reg| (&[][..], 0x8e, 0xc3 | reg << 3));
    let looks = [(0, 0xe3), (0, 0xeb), (2, 0xc3), (3, 0xc3)];
    let looks = looks.map(|(opcode, modrm)| (&[0x0f][..], opcode, modrm));
    for (map, opcode, modrm) in loads.into_iter().chain(looks) {
        let number = forms::number(map);
        print!("\n{} selectors {number:02x} {opcode:02x} {modrm:02x}:", mode.name());
        let form = Form { mode, map, opcode, modrm, ..Form::PLAIN };
        for first in [0, 0x1000, 0xfff0].into_iter().chain((0xe000..0xe090).step_by(16)) {
            let mut sum = Sum::new(told);
            (first..first + 16).for_each(|it| sum.add(stage, &Form { source: Some(it), ..form }));
        }
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
            println!(
                "\n {:02x?} {:x} {:x?}: {words:x?}",
                &form.bytes()[..12],
                form.operand,
                form.source
            );
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
