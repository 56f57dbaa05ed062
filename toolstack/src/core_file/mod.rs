//! A domain's memory and registers as an ELF core, which debuggers open together with the guest's file.
//!
//! The segments are the *virtual* addresses that the page tables of its virtual CPUs map, so that a
//! debugger needs to know nothing of page tables; each virtual CPU is a thread. A core is written from its
//! beginning to its end, a page at a time: the tables are walked once for what is mapped and once more
//! for what is there, as neither the domain's memory nor a list of its pages need fit in this one's.
//!
//! [`mapped`] walks the tables, [`head`] has what stands before the memory.

pub mod head;
pub mod mapped;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;

use hypercall_abi::types::{Mfn, PAGE_SIZE};

use self::head::Vcpu;
use self::mapped::{Frames, Mapped, Walk};

/// How much is handed on at once: all but the last piece have this length. Unit: bytes.
pub const PIECE: usize = 32 << 10;

/// Where a core goes.
pub trait Sink {
    /// Is told the core's length, before anything comes. Unit: bytes.
    ///
    /// # Errors
    ///
    /// If there is no room for it, as a sentence.
    fn begin(&mut self, length: u64) -> impl Future<Output = Result<(), String>>;

    /// Takes the next piece, [`PIECE`] bytes or the last ones.
    ///
    /// # Errors
    ///
    /// Why it can't be kept, as a sentence.
    fn put(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), String>>;
}

/// The domain whose core is wanted. It is paused.
#[derive(Debug)]
pub struct Subject<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Whether it has crashed.
    pub is_crashed: bool,
    /// Its memory. Unit: pages.
    pub pages: u64,
    /// Its virtual CPUs that have a state; a debugger shows the first one first.
    pub vcpus: &'a [Vcpu],
}

/// What a core has in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Its length. Unit: bytes.
    pub length: u64,
    /// Pages, by address: a frame that is mapped twice counts twice.
    pub pages: u64,
    /// Ranges of addresses.
    pub segments: usize,
    /// Pages that are zeros in place of a frame that is not the domain's.
    pub foreign: u64,
    /// The tables map more than any guest needs: the rest is left out.
    pub is_cut: bool,
}

/// Writes the core of a domain.
///
/// # Errors
///
/// What `frames` or `sink` say; then the core is not whole.
pub async fn write(
    subject: &Subject<'_>,
    frames: &mut impl Frames,
    sink: &mut impl Sink,
) -> Result<Summary, String> {
    let Mapped { ranges, is_cut } =
        mapped::collect(frames, &head::roots(subject.vcpus), subject.pages).await?;
    let pages = ranges.iter().map(|range| range.pages).sum();
    let head = head::of(subject, &ranges);
    let length = (head.len() as u64).saturating_add(pages * PAGE_SIZE as u64);
    sink.begin(length).await?;
    let mut pieces = Pieces { sink, piece: Vec::with_capacity(PIECE) };
    pieces.add(&head).await?;
    let mut foreign = 0;
    let mut walk = Walk::from(Mfn(u64::MAX));
    for range in &ranges {
        if walk.root() != range.root {
            walk = Walk::from(range.root);
        }
        for page in range.first..range.first + range.pages {
            // What is not mapped any more was changed from outside.
            let frame = walk.find(frames, page).await?.ok();
            let mut bytes = [0; PAGE_SIZE];
            let is_read = match frame {
                Some(frame) => frames.read(frame, &mut bytes).await?,
                None => false,
            };
            foreign += u64::from(!is_read);
            pieces.add(if is_read { &bytes } else { &[0; PAGE_SIZE] }).await?;
        }
    }
    pieces.end().await?;
    Ok(Summary { length, pages, segments: ranges.len(), foreign, is_cut })
}

/// What was not handed on yet.
struct Pieces<'a, S> {
    sink: &'a mut S,
    piece: Vec<u8>,
}

impl<S: Sink> Pieces<'_, S> {
    async fn add(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let room = PIECE.saturating_sub(self.piece.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE {
                self.end().await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), String> {
        if !self.piece.is_empty() {
            self.sink.put(&self.piece).await?;
            self.piece.clear();
        }
        Ok(())
    }
}
