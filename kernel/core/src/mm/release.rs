//! Taking all frames from a domain that has ended.

use hypercall_abi::types::Mfn;

use super::Mm;
use super::progress::{Budget, Stop};
use crate::frames::{FrameError, FrameOwners};
use crate::platform::Platform;

/// What a frame costs of a slice, besides its entries.
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
        let (table, id) = (self.platform.frames(), self.memory.id());
        loop {
            // Most are nothing but memory.
            let mut freed = 0_u64;
            while !budget.is_spent()
                && let Some(last) = table.let_first_go(self.platform, id)
            {
                freed = freed.saturating_add(last.into());
                budget.charge(FRAME_COST);
            }
            self.memory.shrink(freed);
            match table.first_of(id) {
                None => return Ok(()),
                Some(_) if budget.is_spent() => return Err(Stop::Again),
                Some(mfn) => self.release_frame(mfn, budget)?,
            }
        }
    }

    fn release_frame(&self, mfn: Mfn, budget: &mut Budget) -> Result<(), Stop> {
        budget.charge(FRAME_COST);
        let (table, id) = (self.platform.frames(), self.memory.id());
        let frame = match self.frames.take(mfn, id) {
            Ok(frame) => frame,
            // Nobody can refer to it once more.
            Err(FrameError::Overflow) => {
                table.forget_owned(self.platform, id, mfn);
                return Ok(());
            }
            // Another CPU is about to free it, or has just done so.
            Err(_) => return Err(Stop::Again),
        };
        if let Some(held) = self.frames.unpin(&frame) {
            self.drop_table(held, budget);
        }
        // Refused if the domain has given it up already, or it is the kernel's to share.
        let _ = self.frames.disown(&frame);
        // Half checked, or half undone, also just now.
        let undone = self.frames.reclaim(mfn).map_or(Ok(()), |undo| self.undo(undo, budget));
        if undone.is_ok() {
            table.forget_owned(self.platform, id, mfn);
        }
        self.frames.put(frame);
        undone
    }
}
