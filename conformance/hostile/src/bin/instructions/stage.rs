//! Where instructions are executed: memory below 4 GiB, which 32-bit code reaches too.

use hostile::land::{Land, READ, SELF, WRITE, map};
use hostile::raw::call;
use hostile::raw::memory::{arena, peek, poke, put, put_bytes, spare, toy};
use hostile::raw::step::{self, Begin, HANDLERS, Seen};
use hypercall_abi::callback;

use super::State;
use super::forms::{Compared, Form};

/// Where it begins. As a page-table entry, an address in it names a frame behind the machine's memory.
const BASE: u64 = 0x4000_0000;
/// Pages from there on that can be written. Behind them nothing is mapped.
const WRITABLE: u64 = 32;
/// Where code lies.
const CODE: u64 = BASE;
/// What usual operands are.
pub(super) const DATA: [u64; 2] = [BASE + 0xe100, BASE + 0xe180];
/// What a string instruction's second operand is.
const SECOND: u64 = BASE + 0xe240;
const STACK: u64 = BASE + 0x9800;
/// Addresses of a page that can only be read, and of one that is not mapped.
pub(super) const READ_ONLY: u64 = BASE + 0x21100;
pub(super) const UNMAPPED: u64 = BASE + 0x20100;
/// Entries of the stage's table of level 1, which map nothing.
pub(super) const TABLE: u64 = BASE + 0x23400;
/// Addresses at the end of what is mapped, of entries of level 2, and of a page that can't be executed.
pub(super) const AFAR: [u64; 3] = [BASE + 0x1_fffd, BASE + 0x25400, BASE + 0x24100];
/// Where jumps land: as flags, the number has the one that single-steps.
const LAND: u64 = BASE + 0x902;

/// The flag that single-steps, and the one that is always set.
const STEP: u64 = 0x102;

/// Words that are compared.
const WORDS: usize = 64;

/// See the module.
pub(super) struct Stage {
    /// The address of the vCPU's information.
    info: u64,
}

impl Stage {
    /// Maps it, and registers handlers of everything. `None` if a call is refused that must not be.
    pub(super) fn new(land: &Land) -> Option<Self> {
        let [top, upper, table] = [land.frames[0], land.frames[1], land.frames[2]];
        let mut frames = land.frames.iter().skip(3).copied();
        let pages = (0..WRITABLE).map(|page| (page, 0x62 | READ));
        let pages = pages.chain([(0x21, READ), (0x24, WRITE | 1 << 63)]);
        let pages = pages.map(|(page, flags)| (page, frames.next().unwrap_or(0) << 12 | flags));
        let tables = [(0x23, table << 12 | READ), (0x25, upper << 12 | READ)];
        fill(table, pages.chain(tables))?;
        fill(upper, [(0, table << 12 | WRITE)])?;
        fill(top, [(1, upper << 12 | WRITE)])?;
        put(arena(), &[land.roots[0] << 12, top << 12 | WRITE]);
        (call(1, [arena(), 1, 0, SELF, 0, 0]) == 0).then_some(())?;
        // User mode has the same tables.
        put(arena(), &[hypercall_abi::mmu::mmuext::NEW_USER_BASEPTR.into(), land.roots[0], 0]);
        (call(26, [arena(), 1, 0, SELF, 0, 0]) == 0).then_some(())?;
        (call(3, [0xe02b, spare(6) + 4096, 0, 0, 0, 0]) == 0).then_some(())?;
        entries();
        handlers();
        Some(Self { info: land.shared.0 })
    }

    /// Does what a state needs once.
    pub(super) fn enter(&self, state: State) {
        let level = match state {
            State::Level1 => 1,
            State::Level3 => 3,
            _ => 0,
        };
        poke(arena(), level);
        call(33, [6, arena(), 0, 0, 0, 0]);
    }

    /// Undoes it.
    pub(super) fn leave(&self) {
        self.enter(State::Plain);
    }

    /// Executes an instruction: the words that are compared. `None` if it is one that is left out.
    pub(super) fn run(&self, form: &Form) -> Option<[u64; WORDS]> {
        let compared = form.compared()?;
        let rip = match form.state {
            State::Edge => BASE + WRITABLE * 4096 - 2,
            _ => CODE,
        };
        let bytes = form.bytes();
        let fitting = usize::try_from(BASE + WRITABLE * 4096 - rip).map_or(24, |left| left.min(24));
        put_bytes(rip, bytes.get(..fitting)?);
        let mut begin = Begin { registers: registers(form), cs: form.mode.cs(), rip, rflags: STEP };
        match form.state {
            State::Flags => {
                // Direction, overflow, I/O privilege, nested task, resume, alignment check, identification.
                begin.rflags = 0x25_7dd7;
                begin.registers[4] = STACK - 3;
            }
            State::Level1 | State::Level3 => {
                // Behind an access to a port Xen steps one instruction too far.
                let length = form.prefix.len() as u64
                    + if matches!(form.opcode, 0xe4..0xe8) { 2 } else { 1 };
                put_bytes(rip + length, &[0xcc]);
                begin.rflags = 2;
            }
            State::Switched => begin.rflags |= 0x200,
            State::Free => {
                let stepped = self.execute(form, &begin);
                let length = stepped.frame[2].wrapping_sub(rip);
                if stepped.number != 1 || !(1..16).contains(&length) {
                    return None;
                }
                put_bytes(rip, &bytes);
                put_bytes(rip + length, &[0xcc]);
                begin.rflags = 2;
            }
            _ => {}
        }
        let seen = self.execute(form, &begin);
        let words = self.words(&seen, compared);
        undo(form);
        Some(words)
    }

    fn execute(&self, form: &Form, begin: &Begin) -> Seen {
        memory(begin.registers[4]);
        // Nothing is pending; where the last fault was.
        poke(self.info, 0x100);
        poke(self.info + 16, 0x5555);
        step::fresh_fpu();
        let switched = form.state == State::Switched;
        if switched {
            call(5, [1, 0, 0, 0, 0, 0]);
        }
        let seen = step::run(begin);
        if switched {
            call(5, [0; 6]);
        }
        seen
    }

    fn words(&self, seen: &Seen, compared: Compared) -> [u64; WORDS] {
        let all = compared == Compared::All;
        let frame = match seen.number {
            8 | 10..=14 | 17 | 21 => 8,
            257 => 11,
            _ => 7,
        };
        let [mask, cr2] = [0, 16].map(|at| peek(self.info + at));
        // Of the flags for a system call's handler, Xen 4.17.7 clears what its stack pointer has clear.
        let rflags = if matches!(seen.number, 259 | 260) { 0 } else { seen.rflags };
        let numbers = [seen.number, seen.at, rflags, mask & 0xffff, cr2];
        // The first two are rcx and r11; as registers, they are lost if `sysret` is the way to the handler.
        let frame = seen.frame.iter().enumerate().take(frame);
        let frame = frame.map(|(at, &word)| if all || at > 1 { word } else { 0 });
        let registers = seen.registers.iter().enumerate();
        let registers = registers.map(|(at, &it)| if all && at != 1 && at != 11 { it } else { 0 });
        // `iretq` makes 0 of the null selectors.
        let selectors = seen.selectors.map(|it| if it < 4 { 0 } else { it });
        let memory = (0..8).flat_map(|at| [DATA[0], DATA[1], TABLE].map(|first| first + 8 * at));
        let memory = memory.map(|at| if all { peek(at) } else { 0 });
        let told = numbers.into_iter().chain(frame).chain(registers).chain(selectors);
        let mut words = [0; WORDS];
        words.iter_mut().zip(told.chain(memory)).for_each(|(place, word)| *place = word);
        words
    }
}

/// Makes a frame a table with entries at these places.
fn fill(frame: u64, entries: impl IntoIterator<Item = (u64, u64)>) -> Option<()> {
    let window = toy(0);
    (map(window, frame << 12 | WRITE) == 0).then_some(())?;
    (0..512).for_each(|slot| poke(window + 8 * slot, 0));
    entries.into_iter().for_each(|(slot, entry)| poke(window + 8 * slot, entry));
    (map(window, 0) == 0).then_some(())
}

/// Registers all handlers; who may call which by `int`, and which mask events, depends on the number.
fn handlers() {
    let row = |vector: u64| [vector | (vector % 8) << 8 | 0xe033 << 16, step::handler(vector)];
    let rows = (0..256).flat_map(row).chain([0, 0]);
    (arena()..).step_by(8).zip(rows).for_each(|(at, word)| poke(at, word));
    call(0, [arena(), 0, 0, 0, 0, 0]);
    let kinds = [
        callback::TYPE_EVENT,
        callback::TYPE_FAILSAFE,
        callback::TYPE_NMI,
        callback::TYPE_SYSCALL,
        callback::TYPE_SYSCALL32,
        callback::TYPE_SYSENTER,
    ];
    for (kind, number) in kinds.into_iter().zip(256..HANDLERS) {
        put(arena(), &[kind.into(), step::handler(number)]);
        call(30, [u64::from(callback::REGISTER), arena(), 0, 0, 0, 0]);
    }
}

/// Puts what instructions read where they may read it.
fn memory(stack: u64) {
    let first = [LAND, 0xe033, 0x302, STACK, 0xe02b, LAND, 0xe033, 0x302];
    let second = [LAND | 0xe033 << 32, 0xe02b, 1, 2, 3, u64::MAX, 1 << 63, 0];
    put(DATA[0], &first);
    put(DATA[1], &second);
    put(SECOND, &second);
    put(stack, &first);
}

/// The first eight are addresses on the stage, should the kernel's stack pointer become one of them; two are
/// selectors too.
fn registers(form: &Form) -> [u64; 16] {
    let mut registers = [0; 16];
    for (number, register) in (0..).zip(&mut registers) {
        *register = match number {
            0 => BASE + 0xc0c0,
            1 => BASE + 0xa003,
            2 => BASE + 0xd080,
            3 => form.source.unwrap_or(BASE + 0xe02b),
            4 => STACK,
            5 => BASE + 0xa800,
            6 | 14 => form.operand,
            7 => SECOND,
            other => BASE + 0xf000 + other * 0x40,
        };
    }
    registers
}

/// Puts back what an instruction may have changed.
fn undo(form: &Form) {
    if form.operand == TABLE {
        entries();
    }
    if form.map == [0x0f] && form.opcode == 0x23 {
        for register in 0..8 {
            call(8, [register, 0, 0, 0, 0, 0]);
        }
    }
}

/// Makes entries of the table what they are before each instruction: absent, and of no frame that there is.
fn entries() {
    const ABSENT: u64 = 2 * BASE + 0x1_0000;
    for entry in (0..4).filter(|entry| peek(TABLE + 8 * entry) != ABSENT) {
        map(BASE + (0x80 + entry) * 4096, ABSENT);
    }
}
