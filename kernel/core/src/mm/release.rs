//! Taking all frames from a domain that has ended.

use hypercall_abi::types::Mfn;

use super::Mm;
use super::progress::{Budget, Stop};
use crate::frames::FrameOwners;
use crate::platform::Platform;

/// What a frame of the domain costs of a slice, besides its entries; any other costs 1.
const FRAME_COST: u32 = 8;

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Takes all its frames from a domain that runs no more, gets none any more and whose tables
    /// nobody changes. What others refer to becomes free when they no longer do.
    ///
    /// One pass is enough: with pins, roots and the owner's references gone nothing of the domain's
    /// own keeps a frame, and tables refer downwards only.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`]: it is to be called again.
    pub(crate) fn release_frames(&self, budget: &mut Budget) -> Result<(), Stop> {
        while let Some(mfn) = self.memory.next_frame() {
            if budget.is_spent() {
                return Err(Stop::Again);
            }
            budget.charge(1);
            if self.owns(mfn) {
                self.release_frame(mfn, budget)?;
            }
            self.memory.pass_frame(mfn);
        }
        Ok(())
    }

    fn release_frame(&self, mfn: Mfn, budget: &mut Budget) -> Result<(), Stop> {
        budget.charge(FRAME_COST);
        let Ok(frame) = self.frames.take(mfn, self.memory.id()) else { return Ok(()) };
        if let Some(held) = self.frames.unpin(&frame) {
            self.drop_table(held, budget);
        }
        // Refused if the domain has given it up already, or it is the kernel's to share.
        let _ = self.frames.disown(&frame);
        // Half checked, or half undone, also just now.
        let undone = self.frames.reclaim(mfn).map_or(Ok(()), |undo| self.undo(undo, budget));
        self.frames.put(frame);
        undone
    }
}
