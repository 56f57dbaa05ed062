//! Copying between pages, granted or own.
//!
//! Each end of a copy is *held*: the entry's use has begun, or a reference to the own frame was
//! taken. What the next copy of a batch names again stays held; everything is let go at the end of
//! the batch, before the guest can see that it is done.

use hypercall_abi::grant::{self, COPY_DEST_GREF, COPY_SOURCE_GREF, CopyPtr, GrantCopy};
use hypercall_abi::types::{DomId, GrantRef, Mfn, PAGE_SIZE};

use super::Status;
use super::entry::{Access, TO_COPY};
use super::peer::Grants;
use crate::domain::Domain;
use crate::frames::{FrameError, FrameRef, TypeRef};
use crate::platform::Platform;

/// What keeps the frame at an end of a copy.
#[derive(Debug)]
enum Kept {
    /// A use of an entry has begun.
    Entry(GrantRef),
    /// The frame is the caller's own, which reads it.
    Own(FrameRef),
    /// The frame is the caller's own, which writes it: what keeps it writable keeps it.
    Writable,
}

#[derive(Debug)]
struct Held {
    /// As what it was named: the domain, an entry or frame, and whether it is an entry.
    named: (DomId, u64, bool),
    mfn: Mfn,
    kept: Kept,
    typed: Option<TypeRef>,
}

/// One end.
struct End<P: Platform> {
    /// The domain that was named last, and found.
    domain: Option<(DomId, P::Arc<Domain<P>>)>,
    held: Option<Held>,
}

/// Copies one after the other.
#[must_use = "to be finished"]
pub struct Copier<'a, P: Platform> {
    grants: Grants<'a, P>,
    from: End<P>,
    to: End<P>,
}

impl<'a, P: Platform> Copier<'a, P> {
    /// Nothing is held yet.
    pub const fn new(grants: Grants<'a, P>) -> Self {
        Self {
            grants,
            from: End { domain: None, held: None },
            to: End { domain: None, held: None },
        }
    }

    /// Copies.
    ///
    /// # Errors
    ///
    /// The status, in the order in which Xen checks: no such domain, at either end; another domain's
    /// frame that is not granted, the entry or frame, both of the source, then of the destination; a
    /// length that leaves one of the pages.
    pub fn copy(&mut self, asked: &GrantCopy) -> Result<(), Status> {
        let (from, to) = (asked.source, asked.dest);
        let entries = (asked.flags & COPY_SOURCE_GREF != 0, asked.flags & COPY_DEST_GREF != 0);
        let (named_from, named_to) = (named(from, entries.0), named(to, entries.1));
        let stays = |end: &End<P>, named| end.held.as_ref().is_some_and(|held| held.named == named);
        let (keep_from, keep_to) = (stays(&self.from, named_from), stays(&self.to, named_to));
        if !keep_from || !keep_to {
            self.from.find(self.grants, from.domid)?;
            self.to.find(self.grants, to.domid)?;
        }
        if !keep_from {
            self.from.release(self.grants);
            self.from.hold(self.grants, named_from, false)?;
        }
        if !keep_to {
            self.to.release(self.grants);
            self.to.hold(self.grants, named_to, true)?;
        }
        let (Some(source), Some(dest)) = (&self.from.held, &self.to.held) else {
            return Err(Status::GENERAL);
        };
        let (from_at, to_at) = (usize::from(from.offset), usize::from(to.offset));
        let length = usize::from(asked.len);
        if from_at.saturating_add(length) > PAGE_SIZE || to_at.saturating_add(length) > PAGE_SIZE {
            return Err(Status(grant::BAD_COPY_ARG));
        }
        let platform = self.grants.platform();
        if length == PAGE_SIZE {
            platform.copy_frame(dest.mfn, source.mfn);
        } else {
            platform.copy_part((dest.mfn, to_at), (source.mfn, from_at), length);
        }
        Ok(())
    }

    /// Lets go of everything.
    pub fn finish(mut self) {
        self.from.release(self.grants);
        self.to.release(self.grants);
    }
}

const fn named(end: CopyPtr, is_entry: bool) -> (DomId, u64, bool) {
    let page = if is_entry { end.page & 0xffff_ffff } else { end.page };
    (end.domid, page, is_entry)
}

impl<P: Platform> End<P> {
    /// Finds the domain that is named. What is held of another is let go.
    #[inline(always)]
    fn find(&mut self, grants: Grants<'_, P>, named: DomId) -> Result<(), Status> {
        if self.domain.as_ref().is_some_and(|(id, _)| *id == named) {
            return Ok(());
        }
        self.look_up(grants, named)
    }

    #[cold]
    fn look_up(&mut self, grants: Grants<'_, P>, named: DomId) -> Result<(), Status> {
        self.release(grants);
        let domain = match grants.real(named) {
            id if id == grants.domain.id => Some(grants.domain.clone()),
            id => grants.system.domains.get(grants.platform(), id),
        };
        self.domain = domain.map(|domain| (named, domain));
        if self.domain.is_some() { Ok(()) } else { Err(Status::BAD_DOMAIN) }
    }

    /// Holds what is named. Frames are the caller's own, and it goes by no other name there.
    #[inline(always)]
    fn hold(
        &mut self,
        grants: Grants<'_, P>,
        named: (DomId, u64, bool),
        writable: bool,
    ) -> Result<(), Status> {
        let (id, page, is_entry) = named;
        if id != DomId::SELF && !is_entry {
            return Err(Status(grant::PERMISSION_DENIED));
        }
        let frames = grants.mm().frames;
        let typed_error = |error| match error {
            FrameError::NotOwned => Status::BAD_PAGE,
            FrameError::Conflict(_) | FrameError::Overflow | FrameError::Flag => Status::GENERAL,
        };
        let (_, peer) = self.domain.as_ref().ok_or(Status::BAD_DOMAIN)?;
        let (mfn, kept) = if is_entry {
            let reference = GrantRef(u32::try_from(page).unwrap_or(u32::MAX));
            let use_as = (grants.domain.id, Access::copy(writable), TO_COPY);
            let whose = (grants.platform(), peer.id);
            let mfn = peer.grants.begin_use(frames, whose, reference, use_as)?;
            (mfn, Kept::Entry(reference))
        } else if writable {
            (Mfn(page), Kept::Writable)
        } else {
            let held = frames.take(Mfn(page), peer.id).map_err(|_| Status::BAD_PAGE)?;
            (Mfn(page), Kept::Own(held))
        };
        let typed = match writable {
            true => Some(frames.take_writable(mfn, peer.memory.as_owner()).map_err(typed_error)),
            false => None,
        };
        match typed.transpose() {
            Ok(typed) => self.held = Some(Held { named, mfn, kept, typed }),
            Err(status) => {
                if let Kept::Entry(reference) = kept {
                    grants.end_use(peer, reference, Access::copy(true));
                }
                return Err(status);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn release(&mut self, grants: Grants<'_, P>) {
        let Some(held) = self.held.take() else { return };
        let frames = grants.mm().frames;
        let writable = held.typed.is_some();
        if let Some(typed) = held.typed {
            // A writable frame has no entries to undo.
            let _ = frames.put_type(typed);
        }
        match held.kept {
            Kept::Own(own) => frames.put(own),
            Kept::Writable => {}
            Kept::Entry(reference) => {
                if let Some((_, peer)) = &self.domain {
                    grants.end_use(peer, reference, Access::copy(writable));
                }
            }
        }
    }
}
