//! What every instruction does in a guest, a line for each opcode and mode.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use hostile::land::{Land, READ, SELF, WRITE, map};
use hostile::raw::memory::{arena, peek, poke, put, put_bytes, spare, toy};
use hostile::raw::step::{self, Begin, HANDLERS, Seen};
use hostile::raw::call;
use hypercall_abi::callback;
use hypercall_abi::trap::TrapInfo;
use pv_guest_sdk::{BootInfo, entry, print, println};

entry!(main);

/// Where everything lies that instructions are tried with: also 32-bit code reaches it.
const BASE: u64 = 0x4000_0000;
/// Pages from there on that can be written.
const WRITABLE: u64 = 32;
const DATA: [u64; 2] = [BASE + 0xe100, BASE + 0xe180];
const SECOND: u64 = BASE + 0xe240;
const STACK: u64 = BASE + 0x9800;
const READ_ONLY: u64 = BASE + 0x21100;
const UNMAPPED: u64 = BASE + 0x20100;
/// A level-1 table, at entries that are zero; and what these map.
const TABLE: u64 = BASE + 0x23400;
const NOT_EXECUTABLE: u64 = BASE + 0x24100;
const UPPER_TABLE: u64 = BASE + 0x25400;
/// Where jumps land: the number is also a set of flags that single-step.
const LAND: u64 = BASE + 0x902;

/// How an instruction is executed.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    cs: u64,
}

const MODES: [Mode; 4] = [
    Mode { name: "kernel", cs: 0xe030 },
    Mode { name: "user", cs: 0xe033 },
    Mode { name: "user32", cs: 0xe023 },
    Mode { name: "kernel32", cs: 0xe020 },
];

impl Mode {
    const fn is_kernel(self) -> bool {
        self.cs & 3 == 0
    }

    const fn is_wide(self) -> bool {
        self.cs & 0x10 != 0
    }
}

const PREFIXES: [&[u8]; 12] = [
    &[],
    &[0x66],
    &[0xf2],
    &[0xf3],
    &[0xf0],
    &[0x48],
    &[0x67],
    &[0x64],
    &[0x2e],
    &[0xf3, 0x48],
    &[0x66, 0x48],
    &[0x45],
];

const MAPS: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

/// Operands in memory beside the two usual ones.
const OPERANDS: [u64; 12] = [
    READ_ONLY,
    UNMAPPED,
    BASE + 0x1_fffd,
    TABLE,
    UPPER_TABLE,
    NOT_EXECUTABLE,
    8,
    0x9000_0000_0000,
    0xffff_8300_0000_0000,
    0xffff_8000_0000_0000,
    0x7fff_ffff_fffc,
    u64::MAX - 2,
];

/// What follows an opcode and its ModRM: an address as an immediate is one in `BASE`.
const TAIL: [u8; 8] = [8, 0, 0x40, 0, 0, 0, 0, 0];

fn main(boot: &BootInfo<'static>) -> Result<(), &'static str> {
    let land = Land::new(boot).ok_or("no land")?;
    let info = area(&land).ok_or("no area")?;
    entries();
    handlers();
    let word = |name| boot.argument(name);
    let number = |name| word(name).and_then(|it| u64::from_str_radix(it, 16).ok());
    let told = Told { info, show: number("op").is_some() };
    for mode in MODES.into_iter().filter(|mode| word("mode").is_none_or(|it| it == mode.name)) {
        for map in MAPS {
            let name = map.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            if number("map").is_some_and(|it| it != name) {
                continue;
            }
            for opcode in (0..=255).filter(|&it| number("op").is_none_or(|op| op == u64::from(it))) {
                told.opcode(mode, map, opcode);
            }
        }
    }
    println!("swept");
    Ok(())
}

/// Maps the area. The address of the vCPU's information.
fn area(land: &Land) -> Option<u64> {
    let [top, upper, table] = [land.frames[0], land.frames[1], land.frames[2]];
    let mut frames = land.frames.iter().skip(3).copied();
    let entries = (0..WRITABLE).map(|page| (page, 0x62 | READ)).chain([
        (0x21, READ),
        (0x24, WRITE | 1 << 63),
    ]);
    let window = toy(0);
    let fill = |frame: u64, entries: &mut dyn Iterator<Item = (u64, u64)>| {
        (map(window, frame << 12 | WRITE) == 0).then_some(())?;
        (0..512).for_each(|slot| poke(window + 8 * slot, 0));
        entries.for_each(|(slot, entry)| poke(window + 8 * slot, entry));
        (map(window, 0) == 0).then_some(())
    };
    let tables = [(0x23, table << 12 | READ), (0x25, upper << 12 | READ)];
    let mut pages = entries.map(|(page, flags)| (page, frames.next().unwrap_or(0) << 12 | flags));
    fill(table, &mut pages.by_ref().chain(tables))?;
    fill(upper, &mut [(0, table << 12 | WRITE)].into_iter())?;
    fill(top, &mut [(1, upper << 12 | WRITE)].into_iter())?;
    put(arena(), &[land.roots[0] << 12, top << 12 | WRITE]);
    (call(1, [arena(), 1, 0, SELF, 0, 0]) == 0).then_some(())?;
    put(arena(), &[15, land.roots[0], 0]);
    (call(26, [arena(), 1, 0, SELF, 0, 0]) == 0).then_some(())?;
    (call(3, [0xe02b, spare(6) + 4096, 0, 0, 0, 0]) == 0).then_some(land.shared.0)
}

/// Registers all handlers; who may call which by `int`, and which mask events, depends on the number.
fn handlers() {
    let rows = (0..256_u64).flat_map(|vector| {
        [vector | vector % 8 << 8 | 0xe033 << 16, step::handler(vector)]
    });
    (arena()..).step_by(8).zip(rows.chain([0, 0])).for_each(|(at, word)| poke(at, word));
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
    let _: Option<TrapInfo> = None;
}

const fn mixed(sum: u64, value: u64) -> u64 {
    (sum ^ value).wrapping_mul(0x100_0000_01b3).rotate_left(29)
}

/// What of an instruction is compared.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Compared {
    All,
    /// Registers and memory hold what is a machine's own.
    Trap,
    Nothing,
}

struct Told {
    /// Where the vCPU's information lies.
    info: u64,
    /// Whether each instruction is told by itself.
    show: bool,
}

impl Told {
    fn opcode(&self, mode: Mode, map: &[u8], opcode: u8) {
        let name = map.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        print!("{} {name:02x} {opcode:02x}:", mode.name);
        for prefix in PREFIXES {
            let mut sum = 1;
            for modrm in all_forms(map, opcode) {
                for data in DATA {
                    sum = self.one(mode, [prefix, map], [opcode, modrm], data, sum);
                    if modrm >= 0xc0 {
                        break;
                    }
                }
            }
            print!(" {:06x}", sum >> 40);
        }
        println!();
        print!("{} {name:02x} {opcode:02x} at:", mode.name);
        for operand in OPERANDS {
            let mut sum = 1;
            for prefix in [&[][..], &[0x48], &[0x66]] {
                for reg in 0..8 {
                    sum = self.one(mode, [prefix, map], [opcode, 6 | reg << 3], operand, sum);
                }
            }
            print!(" {:06x}", sum >> 40);
        }
        println!();
    }

    /// Executes an instruction and mixes what came of it with a sum.
    fn one(&self, mode: Mode, [prefix, map]: [&[u8]; 2], [opcode, modrm]: [u8; 2], operand: u64, sum: u64) -> u64 {
        let compared = compared(mode, prefix, map, [opcode, modrm], operand);
        if compared == Compared::Nothing {
            return sum;
        }
        let mut bytes = [0x90; 24];
        let named = [opcode, modrm];
        let all = prefix.iter().chain(map).chain(&named).chain(&TAIL);
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = *byte);
        put_bytes(BASE, &bytes);
        memory();
        poke(self.info, 0x100);
        poke(self.info + 16, 0x5555);
        let begin = Begin { registers: registers(operand), cs: mode.cs, rip: BASE, rflags: 0x102 };
        step::fresh_fpu();
        let seen = step::run(&begin);
        let words = self.words(&seen, compared, operand);
        let after = words.into_iter().fold(1, mixed);
        if self.show {
            println!("\n {:02x?} {operand:x}: {:x?}", &bytes[..12], words);
        }
        undo(map, opcode, operand);
        mixed(sum, after)
    }

    fn words(&self, seen: &Seen, compared: Compared, operand: u64) -> [u64; 64] {
        let all = compared == Compared::All;
        let frame = match seen.number {
            8 | 10..=14 | 17 | 21 => 8,
            257 => 11,
            _ => 7,
        };
        let mut words = [0; 64];
        let numbers = [seen.number, seen.at, seen.rflags, peek(self.info) & 0xffff, peek(self.info + 16)];
        // What `sysret` destroys, if it was the way to the handler.
        let lost = |number: usize| matches!(number, 1 | 11);
        let registers = seen.registers.iter().enumerate();
        let registers = registers.map(|(number, &it)| if all && !lost(number) { it } else { 0 });
        let frame = seen.frame.iter().enumerate().take(frame);
        // The first two are rcx and r11.
        let frame = frame.map(|(at, &word)| if all || at > 1 { word } else { 0 });
        let memory = (0..8).flat_map(|at| [DATA[0] + 8 * at, DATA[1] + 8 * at, TABLE + 8 * at % 32]);
        let memory = memory.filter(|_| all).map(peek);
        let _ = operand;
        let told = numbers.into_iter().chain(frame).chain(registers).chain(seen.selectors).chain(memory);
        words.iter_mut().zip(told).for_each(|(place, word)| *place = word);
        words
    }
}

/// The ModRM bytes that an opcode is tried with.
fn all_forms(map: &[u8], opcode: u8) -> impl Iterator<Item = u8> {
    let every = map == [0x0f] && matches!(opcode, 0 | 1 | 0xae | 0xc7) || map.is_empty() && matches!(opcode, 0xd8..0xe0);
    let few = (0..8).flat_map(|reg| [6 | reg << 3, 0xc3 | reg << 3]);
    let more = (0xc0..=0xff).filter(move |_| every);
    few.chain(more)
}

/// Puts what instructions read where they may read it.
fn memory() {
    let first = [LAND, 0xe033, 0x302, STACK, 0xe02b, LAND, 0xe033, 0x302];
    let second = [LAND | 0xe033 << 32, 0xe02b, 1, 2, 3, u64::MAX, 1 << 63, 0];
    put(DATA[0], &first);
    put(DATA[1], &second);
    put(SECOND, &second);
    put(STACK, &first);
}

/// In the guest's kernel mode each is the address of memory, should it become the stack's pointer.
fn registers(operand: u64) -> [u64; 16] {
    let mut registers = [0; 16];
    registers[..8].copy_from_slice(&[
        BASE + 0xc0c0,
        BASE + 0xa003,
        BASE + 0xd080,
        BASE + 0xe02b,
        STACK,
        BASE + 0xa800,
        operand,
        SECOND,
    ]);
    for (number, register) in (8..).zip(&mut registers[8..]) {
        *register = BASE + 0xf000 + number * 0x40;
    }
    registers[14] = operand;
    registers
}

/// Puts back what an instruction may have changed.
fn undo(map: &[u8], opcode: u8, operand: u64) {
    if operand == TABLE {
        entries();
    }
    if map == [0x0f] && opcode == 0x23 {
        (0..8).for_each(|register| drop(call(8, [register, 0, 0, 0, 0, 0])));
    }
}

/// Makes entries of a table what they are before each instruction: absent, and of no frame that there is.
fn entries() {
    const ABSENT: u64 = BASE + 0x1_0000;
    for entry in (0..4).filter(|entry| peek(TABLE + 8 * entry) != ABSENT) {
        hostile::land::map(BASE + (0x80 + entry) * 4096, ABSENT);
    }
}

fn compared(mode: Mode, prefix: &[u8], map: &[u8], [opcode, modrm]: [u8; 2], operand: u64) -> Compared {
    let reg = modrm >> 3 & 7;
    let own = operand < 0x8000_0000;
    // What goes to the stack's pointer, which the kernel's frames need.
    let embedded = map.is_empty() && matches!(opcode, 0x40..0x60 | 0x90..0x98 | 0xa0..0xb0 | 0xc2..0xc4 | 0xc8..0xd0 | 0xe0..0xf0 | 0xf4..0xf6 | 0xf8..0xfe | 0x70..0x80);
    let group = match map {
        [] => matches!(opcode, 0x80..0x84 | 0x8f | 0xb8..0xc2 | 0xc6 | 0xc7 | 0xd0..0xe0 | 0xf6 | 0xf7 | 0xfe | 0xff),
        [0x0f] => matches!(opcode, 0 | 1 | 0xd | 0x18..0x24 | 0x71..0x74 | 0x90..0xa0 | 0xae | 0xba | 0xc7),
        _ => false,
    };
    let extended = prefix == [0x45];
    if mode.is_kernel() {
        let moves = (reg == 4 && !group && !embedded || modrm & 0xc7 == 0xc4) && !extended;
        if moves || map == [0x0f] && opcode == 0xcc && !extended || map.is_empty() && opcode == 0xbc {
            return Compared::Nothing;
        }
    }
    let _ = mode.is_wide();
    match (map, opcode) {
        ([0x0f], 0x01 | 0xae) if operand == TABLE => Compared::Nothing,
        ([0x0f], 0xc7) if operand == TABLE && reg != 1 => Compared::Nothing,
        // The emulator fails at LOCK there.
        ([0x0f], 0xa3 | 0xab | 0xb3 | 0xba | 0xbb) if prefix == [0xf0] => Compared::Nothing,
        ([0x0f], 0x31 | 0x32 | 0xa2) => Compared::Trap,
        ([0x0f], 0x20) if reg == 3 => Compared::Trap,
        ([0x0f], 0x01) if modrm == 0xf9 || modrm < 0xc0 => Compared::Trap,
        // The emulator's processor knows no LOCK that is undefined, and Xen tries for ever.
        _ if operand == TABLE && prefix == [0xf0] => Compared::Nothing,
        ([], 0x8f | 0xc6 | 0xc7) if reg > 0 => Compared::Nothing,
        // Bits far from there, in entries of other pages.
        ([0x0f], 0xab | 0xb3 | 0xbb) if !matches!(operand, READ_ONLY | UNMAPPED) && DATA.iter().all(|it| operand != *it) => {
            Compared::Nothing
        }
        // What is not emulated here, but by Xen.
        ([], 0x8f | 0xa4 | 0xa5 | 0xc0 | 0xc1 | 0xd0..0xd4) if operand == TABLE => Compared::Nothing,
        ([0x0f], 0x90..0xa0 | 0xa4 | 0xa5 | 0xac | 0xad) if operand == TABLE => Compared::Nothing,
        // The emulator's processor gives error codes that name other vectors.
        ([], 0xcd) => Compared::Nothing,
        ([0x0f], 0x34) if mode.is_kernel() => Compared::Nothing,
        // Xen dies of one of them.
        ([], 0xd8..0xe0) if operand == TABLE => Compared::Nothing,
        _ if !own => Compared::Trap,
        _ => Compared::All,
    }
}
