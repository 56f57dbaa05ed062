//! Which instructions there are, and which are left out, or not compared in full.

use super::stage::{AFAR, DATA, READ_ONLY, TABLE, UNMAPPED};
use super::{Mode, State};

/// An instruction, and what it is tried with.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) mode: Mode,
    pub(super) state: State,
    pub(super) prefix: &'static [u8],
    /// What stands before the opcode.
    pub(super) map: &'static [u8],
    pub(super) opcode: u8,
    /// The byte behind it, whatever it means.
    pub(super) modrm: u8,
    /// The address in rsi and r14.
    pub(super) operand: u64,
    /// What is in rbx, if not the usual.
    pub(super) source: Option<u64>,
}

/// What of an instruction is compared.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Compared {
    All,
    /// No registers and no memory, which hold what is a machine's own.
    Trap,
}

/// The first are tried in every state.
pub(super) const PREFIXES: [&[u8]; 6] = [&[], &[0x66], &[0xf3], &[0xf0], &[0x48], &[0x45]];
/// How many that is.
pub(super) const FEW: usize = 3;

/// What stands before opcodes; the last are the prefix that has the hypervisor execute what follows.
pub(super) const MAPS: [&[u8]; 6] = [
    &[],
    &[0x0f],
    &[0x0f, 0x38],
    &[0x0f, 0x3a],
    &[0x0f, 0x0b, b'x', b'e', b'n'],
    &[0x0f, 0x0b, b'x', b'e', b'n', 0x0f],
];

/// A map's bytes as a number.
pub(super) fn number(map: &[u8]) -> u64 {
    map.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// Operands in memory beside the two usual ones.
pub(super) const OPERANDS: [u64; 12] = [
    READ_ONLY,
    UNMAPPED,
    AFAR[0],
    TABLE,
    AFAR[1],
    AFAR[2],
    8,
    0x9000_0000_0000,
    0xffff_8300_0000_0000,
    0xffff_8000_0000_0000,
    0x7fff_ffff_fffc,
    u64::MAX - 2,
];

/// What follows an opcode and its ModRM: an address as an immediate is one of the stage.
const TAIL: [u8; 8] = [8, 0, 0x40, 0, 0, 0, 0, 0];

impl Form {
    /// The one from which others differ.
    pub(super) const PLAIN: Self = Self {
        mode: Mode::Kernel,
        state: State::Plain,
        prefix: &[],
        map: &[],
        opcode: 0,
        modrm: 0,
        operand: DATA[0],
        source: None,
    };

    /// The instruction, and what is behind it.
    pub(super) fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0x90; 24];
        let named = [self.opcode, self.modrm];
        let all = self.prefix.iter().chain(self.map).chain(&named).chain(&TAIL);
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = *byte);
        bytes
    }

    /// What of it is compared. `None`: it is left out.
    pub(super) fn compared(&self) -> Option<Compared> {
        let reg = self.modrm >> 3 & 7;
        let at_table = self.operand == TABLE;
        let locked = self.prefix == [0xf0];
        let left_out = match (self.map, self.opcode) {
            _ if self.mode.is_kernel() && self.may_move_stack() => true,
            // The emulator's processor takes a LOCK that is not allowed, and what is undefined, for the
            // instruction. Where a table is written Xen's emulation does not: it tries again for ever.
            _ if at_table && locked => true,
            ([], 0x8f | 0xc6 | 0xc7) if reg > 0 => true,
            ([0x0f], 0x01 | 0xae) if at_table => true,
            ([0x0f], 0xc7) if at_table => true,
            // A LOCK that is not allowed is found by Xen's emulation in its own order.
            _ if (locked || self.opcode == 0xf0)
                && [self.opcode, self.modrm].iter().any(|it| matches!(it, 0xfa | 0xfb)) =>
            {
                true
            }
            ([0x0f], 0x20 | 0x22) if locked && !matches!(reg, 0 | 2..=4) => true,
            // The emulator fails at LOCK there.
            ([0x0f], 0xa3 | 0xab | 0xb3 | 0xba | 0xbb) if locked => true,
            // Its fault that names a gate names another; and it is no gate that names a debug register.
            ([], 0xcd) => true,
            ([0x0f], 0x21 | 0x23) if self.prefix == [0x45] => true,
            // The stack of who calls so is at 0, where no frame can be.
            ([0x0f], 0x34) if self.mode.is_kernel() => true,
            // Xen itself fails at one of them.
            ([], 0xd8..0xe0) if at_table => true,
            // Bits that are far away, in entries of pages that are in use.
            ([0x0f], 0xab | 0xb3 | 0xbb) => {
                !matches!(self.operand, READ_ONLY | UNMAPPED) && !DATA.contains(&self.operand)
            }
            // Not emulated here (`emulate/table_write.rs`).
            ([], 0x82 | 0x8f | 0xc0 | 0xc1 | 0xd0..0xd4) if at_table => true,
            ([0x0f], 0x90..0xa0 | 0xa4 | 0xa5 | 0xac | 0xad) if at_table => true,
            // In 32-bit code segments have bases and limits (`emulate/string_io.rs`).
            ([], 0x6c..0x70) if self.mode.is_narrow() && self.state != State::Plain => true,
            // There only what depends on it, and a port that is nothing.
            _ if matches!(self.state, State::Level1 | State::Level3) => {
                self.modrm != 0xc3
                    || !matches!(self.opcode, 0x6c..0x70 | 0x9c | 0x9d | 0xe4..0xe8 | 0xec..0xf0 | 0xfa | 0xfb)
            }
            _ => false,
        };
        (!left_out).then(|| self.shown())
    }

    fn shown(&self) -> Compared {
        let reg = self.modrm >> 3 & 7;
        match (self.map, self.opcode) {
            // Time, model-specific registers, what the processor is, the root's frame, the tables' addresses.
            ([0x0f], 0x31 | 0x32 | 0xa2) => Compared::Trap,
            ([0x0f], 0x20) if reg == 3 => Compared::Trap,
            ([0x0f], 0x01) if self.modrm == 0xf9 || self.modrm < 0xc0 => Compared::Trap,
            _ if self.operand >= 0x8000_0000 => Compared::Trap,
            _ => Compared::All,
        }
    }

    /// Whether rsp may become anything, where the kernel's frames need a stack.
    fn may_move_stack(&self) -> bool {
        if self.prefix == [0x45] && !self.mode.is_narrow() {
            // All registers are others.
            return false;
        }
        let no_modrm = match self.map {
            [] => {
                matches!(self.opcode, 0x40..0x60 | 0x70..0x80 | 0x90..0x98 | 0xa0..0xb0 | 0xc2..0xc4
                | 0xc8..0xd0 | 0xe0..0xf0 | 0xf4..0xf6 | 0xf8..0xfe)
            }
            _ => false,
        };
        // The ModRM's number of a register is more of the opcode.
        let group = match self.map {
            [] => matches!(self.opcode, 0x80..0x84 | 0x8f | 0xb8..0xc2 | 0xc6 | 0xc7 | 0xd0..0xe0
                | 0xf6 | 0xf7 | 0xfe | 0xff),
            [0x0f] => {
                matches!(self.opcode, 0 | 1 | 0xd | 0x18..0x24 | 0x71..0x74 | 0x90..0xa0 | 0xae
                | 0xba | 0xc7)
            }
            _ => false,
        };
        let moves = match (self.map, self.opcode) {
            ([0x0f], 0xcc) | ([], 0xbc) => true,
            _ => self.modrm >> 3 & 7 == 4 && !group && !no_modrm,
        };
        moves || self.modrm & 0xc7 == 0xc4
    }
}

/// Whether a map is of interest there.
pub(super) fn is_tried(mode: Mode, state: State, map: &[u8]) -> bool {
    let is_forced = map.len() == 6;
    match state {
        State::Plain => map.len() < 2 || mode == Mode::Kernel || mode == Mode::User && is_forced,
        State::Level1 | State::Level3 => map.is_empty(),
        _ if mode != Mode::Kernel => {
            mode != Mode::Kernel32 && map.len() < 2 && state != State::Flags
        }
        State::Flags | State::Switched => map.len() < 2,
        State::Edge | State::Free => map.len() < 2 || is_forced,
    }
}

/// The ModRM bytes that an opcode is tried with.
pub(super) fn modrms(map: &[u8], opcode: u8) -> impl Iterator<Item = u8> {
    let every = match map {
        [] => matches!(opcode, 0xd8..0xe0),
        [0x0f] => matches!(opcode, 0 | 1 | 0xae | 0xc7),
        _ => false,
    };
    let few = (0..8).flat_map(|reg| [6 | reg << 3, 0xc3 | reg << 3]);
    few.chain((0xc0..=0xff).filter(move |_| every))
}
