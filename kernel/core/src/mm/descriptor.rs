//! Segment descriptors of guests.
//!
//! A frame that the processor reads descriptors from is checked as a whole and then of a type of its
//! own, so that the guest can't write it. What is allowed is what can't lead out of ring 3.

use core::sync::atomic::Ordering;

use hypercall_abi::layout::{FIRST_RESERVED_GDT_ENTRY, FLAT_KERNEL_CS};
use hypercall_abi::types::Mfn;

use super::Mm;
use super::refusal::{Refusal, Why};
use super::tables::slot;
use crate::frames::{Begun, FrameError, FrameOwners, FrameType, Joined, TypeRef};
use crate::platform::Platform;

/// Descriptors in a frame.
const ENTRIES: u16 = 512;

const PRESENT: u64 = 1 << 47;
const RING: u64 = 3 << 45;
/// Code or data, not a system descriptor.
const ORDINARY: u64 = 1 << 44;
const KIND: u64 = 0xf << 40;
const CALL_GATE: u64 = 0xc << 40;
/// Bits of a call gate that must be zero.
const GATE_RESERVED: u64 = 0xff << 32;

/// What becomes of a descriptor that a guest writes; `None` if it may not have it.
///
/// - One that is not present faults when used: any is good.
/// - Code and data get ring 3; base and limit are the guest's business.
/// - Of system descriptors only call gates to the guest's own code remain, whose selector gets ring
///   3, but the gate itself ring 0, so that calling it faults; and type 0, the second half of one.
///
/// Measured on Xen 4.17.
#[must_use]
pub fn checked(descriptor: u64) -> Option<u64> {
    if descriptor & ORDINARY != 0 && descriptor & PRESENT != 0 {
        return Some(descriptor | RING);
    }
    if descriptor & PRESENT == 0 || descriptor & KIND == 0 {
        return Some(descriptor);
    }
    let selector = (descriptor >> 16) & 0xffff;
    let own = (selector >> 3) < u64::from(FIRST_RESERVED_GDT_ENTRY)
        || selector & 4 != 0
        || selector == u64::from(FLAT_KERNEL_CS);
    let gate = descriptor & KIND == CALL_GATE && own && descriptor & GATE_RESERVED == 0;
    gate.then_some(descriptor & !RING | 3 << 16)
}

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Takes a reference to a frame as one of descriptors, after checking it.
    ///
    /// # Errors
    ///
    /// The frame is not the domain's, in use as something else, or has a descriptor that a guest may
    /// not have.
    pub fn take_descriptors(&self, mfn: Mfn) -> Result<TypeRef, Refusal> {
        let want = FrameType::Descriptors;
        let begun = self.frames.begin_type(mfn, self.owner(), want);
        let held = match begun.map_err(|error| Refusal::frame(mfn, want, error))? {
            Begun::Held(held) => held,
            Begun::Validate { busy, .. } => match self.check_descriptors(mfn) {
                Ok(()) => self.frames.commit(busy),
                Err(why) => {
                    self.frames.finish(busy);
                    return Err(Refusal::new(why));
                }
            },
        };
        if self.owns(mfn) {
            return Ok(held);
        }
        self.put_descriptors(held);
        Err(Refusal::frame(mfn, want, FrameError::NotOwned))
    }

    /// Puts back a reference of [`Mm::take_descriptors`]. No CPU may use the frame any more but by
    /// what it has cached.
    pub fn put_descriptors(&self, held: TypeRef) {
        // Descriptors refer to no frames: there is nothing to undo.
        let _ = self.frames.put_type(held);
    }

    fn check_descriptors(&self, mfn: Mfn) -> Result<(), Why> {
        let table = self.platform.table(mfn);
        for index in 0..ENTRIES {
            let Some(slot) = slot(table, index) else { continue };
            let value = slot.load(Ordering::Relaxed);
            let good = checked(value).ok_or(Why::Descriptor { mfn, index, value })?;
            if good != value {
                slot.store(good, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// `update_descriptor(address, descriptor)`: writes a descriptor of a frame of the domain that
    /// holds descriptors, or is nothing else that would forbid it.
    ///
    /// # Errors
    ///
    /// The machine address is not aligned, the frame not the domain's or in use as something else,
    /// or the descriptor not one that a guest may have.
    pub fn update_descriptor(&self, address: u64, descriptor: u64) -> Result<(), Refusal> {
        let mfn = Mfn::containing(address);
        let [low, high, ..] = ((address >> 3) & 0x1ff).to_le_bytes();
        let index = u16::from_le_bytes([low, high]);
        if !address.is_multiple_of(8) {
            return Err(Refusal::new(Why::Misaligned(address)));
        }
        let why = Why::Descriptor { mfn, index, value: descriptor };
        let good = checked(descriptor).ok_or(Refusal::new(why))?;
        let held = match self.frames.join_type(mfn, self.memory.id(), FrameType::Descriptors) {
            Ok(held) => Ok(held),
            Err(Joined::Foreign(held)) => {
                self.put_descriptors(held);
                Err(FrameError::NotOwned)
            }
            Err(Joined::Error(_)) => self.frames.take_writable(mfn, self.owner()),
        };
        let held = held.map_err(|error| Refusal::frame(mfn, FrameType::Writable, error))?;
        if let Some(slot) = slot(self.platform.table(mfn), index) {
            slot.store(good, Ordering::Release);
        }
        // Neither kind has anything to undo.
        let _ = self.frames.put_type(held);
        Ok(())
    }
}
