//! Hypercalls with arguments nobody should pass, for guests that test the hypervisor.
//!
//! [`call`] is safe, so it must keep a hypervisor from harming this program whatever is asked. A
//! hypercall can do harm in three ways, and each is closed:
//!
//! - *It writes memory of ours.* It writes only where an argument, or a structure an argument
//!   points to, tells it. Numbers that could be an address of ours (or run into one) are refused
//!   as plain values; the one way to name memory is the [`Scratch`] given with the call, which has
//!   more room behind every allowed offset than any structure of the allowed operations, and whose
//!   contents are not addresses to any of them.
//! - *It changes our mappings, our registers, or what runs.* Operations that could are not among
//!   the allowed ones: see [`harmless`]. New ones are added there, each with its argument.
//! - *It ends us.* That is not harm in Rust's sense.

use hypercall_abi::call::Hypercall;
use hypercall_abi::{console, event, sched, version};

use super::gate::{Gate, Request};

/// Room for what an allowed operation reads or writes at most. Unit: bytes.
pub const ROOM: usize = 4096;

/// Memory for structures of probed calls: two pages, so that a structure can begin anywhere in the
/// first, or cross into the second.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
pub struct Scratch(pub [u8; 2 * ROOM]);

impl Scratch {
    /// All zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; 2 * ROOM])
    }

    /// The bytes from `offset` on, if so many are there.
    #[must_use]
    pub fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }

    /// The 32-bit value at `offset`.
    #[must_use]
    pub fn u32_at(&self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    /// The 64-bit value at `offset`.
    #[must_use]
    pub fn u64_at(&self, offset: usize) -> Option<u64> {
        self.bytes(offset).map(u64::from_le_bytes)
    }

    /// Puts bytes at `offset`. What has no room is cut off.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        let place = self.0.get_mut(offset..).unwrap_or_default();
        place.iter_mut().zip(bytes).for_each(|(place, &byte)| *place = byte);
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// One argument of a probed call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arg {
    /// A number, which is not an address of this program.
    Value(u64),
    /// The address of the scratch memory, and so many bytes (at most [`ROOM`]) on.
    Scratch(usize),
}

/// Why a call was not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The operation might harm this program, as far as this module can tell.
    Operation,
    /// This value might be an address of this program.
    Value(u64),
    /// The offset into the scratch memory leaves too little room behind it.
    Offset(usize),
    /// A call takes six arguments.
    Arguments,
}

/// Makes a hypercall that nobody should make. Missing arguments are zero.
///
/// Returns what the hypervisor left in `rax`.
///
/// # Errors
/// [`Refusal`] if the call might harm this program; it is then not made.
pub fn call(
    gate: &impl Gate,
    scratch: &mut Scratch,
    number: u64,
    args: &[Arg],
) -> Result<i64, Refusal> {
    request(scratch, number, args).map(|request| gate.call(&request))
}

/// The request that [`call`] makes.
///
/// # Errors
/// As there.
pub fn request<'a>(
    scratch: &'a mut Scratch,
    number: u64,
    args: &[Arg],
) -> Result<Request<'a>, Refusal> {
    let base = scratch.0.as_mut_ptr().expose_provenance() as u64;
    let mut values = [0; 6];
    if args.len() > values.len() {
        return Err(Refusal::Arguments);
    }
    for (value, &arg) in values.iter_mut().zip(args) {
        *value = match arg {
            Arg::Value(value) if is_ours(value) => return Err(Refusal::Value(value)),
            Arg::Value(value) => value,
            Arg::Scratch(offset) if offset > ROOM => return Err(Refusal::Offset(offset)),
            Arg::Scratch(offset) => base.saturating_add(offset as u64),
        };
    }
    if !harmless(number, values) {
        return Err(Refusal::Operation);
    }
    // SAFETY: the three ways to do harm are closed; see the module's text.
    Ok(unsafe { Request::with_number(number, values) })
}

/// Whether a structure at this address could touch memory of the guest: the top 2 GiB, where
/// everything the loader mapped lies, and one [`ROOM`] below.
fn is_ours(value: u64) -> bool {
    const FIRST: u64 = 0xffff_ffff_8000_0000 - ROOM as u64;
    const LAST: u64 = 0xffff_ffff_ffff_efff;
    (FIRST..=LAST).contains(&value)
}

/// Whether an operation writes at most [`ROOM`] bytes, at an address among its arguments only, and
/// neither changes mappings nor registers nor what runs.
///
/// The hypervisor takes sub-operations as 32 bits of the first argument.
fn harmless(number: u64, args: [u64; 6]) -> bool {
    let [first, count, ..] = args;
    let operation = (first & 0xffff_ffff) as u32;
    let Some(call) = Hypercall::from_number(number) else {
        // 50 to 54 are unknown too, but the machine's own architecture may claim them.
        return !(49..=55).contains(&number);
    };
    match call {
        // Limits and counts, and the extent of the table of all frames: nothing behind a pointer
        // within the structure. The operation is the lowest six bits, 28 and on are unknown.
        Hypercall::MemoryOp => matches!(first & 0x3f, 2..=4 | 12 | 28..=63),
        // The buffer of the build's identity is bounded by the caller's length only.
        Hypercall::XenVersion => operation != version::BUILD_ID,
        // Writing only reads memory. Reading writes as many bytes as it is told.
        Hypercall::ConsoleIo => operation != console::READ || count <= ROOM as u64,
        // Lists of ports are only read. What this module has not weighed is left out.
        Hypercall::SchedOp => {
            !matches!(operation, sched::REMOTE_SHUTDOWN | sched::WATCHDOG | sched::PIN_OVERRIDE)
        }
        // An event, later.
        Hypercall::SetTimerOp => true,
        // Structures of at most 24 bytes, but for operations that hand frames over.
        Hypercall::EventChannelOp => {
            !matches!(operation, event::INIT_CONTROL | event::EXPAND_ARRAY | event::SET_PRIORITY)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Arg, ROOM, Refusal, Scratch, call, request};
    use crate::raw::gate::Machine;

    #[test]
    fn a_probe_passes_numbers_and_scratch_addresses_on() {
        let mut scratch = Scratch::new();
        let base = scratch.0.as_ptr().addr() as u64;
        let args = [Arg::Value(1 << 32), Arg::Scratch(8), Arg::Value(u64::MAX)];
        let request = request(&mut scratch, 17, &args).unwrap();
        assert_eq!(
            (request.number(), request.args()),
            (17, [1 << 32, base + 8, u64::MAX, 0, 0, 0])
        );
        assert_eq!(call(&Machine, &mut scratch, 11, &[]), Ok(-38));
    }

    #[test]
    fn what_could_be_an_address_of_ours_is_refused() {
        let mut scratch = Scratch::new();
        for value in [0xffff_ffff_8000_0000, 0xffff_ffff_7fff_f001, 0xffff_ffff_ffff_e000] {
            let refusal = request(&mut scratch, 17, &[Arg::Value(0), Arg::Value(value)]).err();
            assert_eq!(refusal, Some(Refusal::Value(value)));
        }
        let refusal = request(&mut scratch, 17, &[Arg::Value(0), Arg::Scratch(ROOM + 1)]).err();
        assert_eq!(refusal, Some(Refusal::Offset(ROOM + 1)));
        let refusal = request(&mut scratch, 17, &[Arg::Value(0); 7]).err();
        assert_eq!(refusal, Some(Refusal::Arguments));
    }

    #[test]
    fn operations_that_change_mappings_or_what_runs_are_refused() {
        let mut scratch = Scratch::new();
        for number in [0, 1, 2, 3, 4, 5, 7, 10, 13, 14, 20, 22, 23, 24, 25, 26, 30, 33, 36] {
            let refusal = request(&mut scratch, number, &[]).err();
            assert_eq!(refusal, Some(Refusal::Operation), "number {number}");
        }
    }

    #[test]
    fn operations_are_told_apart_by_what_the_hypervisor_sees_of_their_number() {
        let mut scratch = Scratch::new();
        let read =
            |count, high: u64| [Arg::Value(high << 32 | 1), Arg::Value(count), Arg::Scratch(0)];
        assert!(request(&mut scratch, 18, &read(ROOM as u64, 1)).is_ok());
        assert!(request(&mut scratch, 18, &read(ROOM as u64 + 1, 1)).is_err());
        assert!(request(&mut scratch, 12, &[Arg::Value(1 << 6 | 1)]).is_err());
        assert!(request(&mut scratch, 12, &[Arg::Value(1 << 6 | 12)]).is_ok());
        assert!(request(&mut scratch, 32, &[Arg::Value(1 << 32 | 11)]).is_err());
        assert!(request(&mut scratch, 17, &[Arg::Value(10)]).is_err());
    }
}
