//! Cores of domains: `toolstack::core_file` at work on a domain that is paused meanwhile, and a partition
//! as the place where a core is kept.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use devices::hw::Buffer;
use embassy_futures::yield_now;
use hypercall_abi::sched::REASON_CRASH;
use hypercall_abi::types::{Mfn, VcpuId};
use pv_guest_sdk::control::Plain;
use serde_json::{Value, json};
use toolstack::core_file::head::Vcpu;
use toolstack::core_file::mapped::{Bytes, Frames};
use toolstack::core_file::{self, PIECE, Sink, Subject};
use toolstack::end::End;
use toolstack::volume::Source;

use crate::domain::Guest;
use crate::files::Reader;
use crate::storage::{self, Claim};
use crate::window::Window;
use crate::world::World;

/// The word on the command line that names the partition for cores of domains that have ended.
pub(crate) const WORD: &str = "cores=";
/// What a core's file begins with.
const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0";
/// Frames that are read before others run.
const TURN: u32 = 64;
/// Unit: bytes.
const SECTOR: usize = 512;

/// Writes a domain's core.
///
/// # Errors
/// Why there is none, as a sentence.
pub(crate) async fn dump(
    world: &World,
    guest: &Guest,
    sink: &mut impl Sink,
) -> Result<Value, String> {
    let _paused = Paused::new(guest)?;
    let info = guest.domain.info().map_err(|error| error.to_string())?;
    let mut vcpus = Vec::new();
    for id in (0..=info.max_vcpu_id).map(VcpuId) {
        let mut context = Box::default();
        // One that was never started has no state.
        if guest.domain.context(id, &mut context).is_ok() {
            vcpus.push(Vcpu { id, context });
        }
    }
    let window = world.window().map_err(|error| error.to_string())?;
    let mut memory = Memory { guest, window, turn: 0 };
    let subject = Subject {
        name: &guest.config.name,
        is_crashed: End::of(&info) == Some(End::Shutdown(REASON_CRASH)),
        pages: info.tot_pages,
        vcpus: &vcpus,
    };
    let summary = core_file::write(&subject, &mut memory, sink).await?;
    Ok(json!({
        "name": guest.config.name,
        "id": guest.id().0,
        "bytes": summary.length,
        "pages": summary.pages,
        "segments": summary.segments,
        "vcpus": vcpus.len(),
        "foreign": summary.foreign,
        "cut": summary.is_cut,
    }))
}

/// A domain that does not run as long as this lives.
struct Paused<'a>(&'a Guest);

impl<'a> Paused<'a> {
    fn new(guest: &'a Guest) -> Result<Self, String> {
        let paused = guest.domain.control(Plain::Pause);
        paused.map_err(|error| format!("{}: {error}", guest.config.name))?;
        Ok(Self(guest))
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if !self.0.gone.is_up() {
            // Pauses are counted: it goes on unless somebody else has paused it.
            let _is_gone = self.0.domain.control(Plain::Unpause);
        }
    }
}

/// A domain's memory.
struct Memory<'a> {
    guest: &'a Guest,
    window: Window,
    turn: u32,
}

impl Frames for Memory<'_> {
    async fn read(&mut self, frame: Mfn, into: &mut Bytes) -> Result<bool, String> {
        self.turn += 1;
        if self.turn.is_multiple_of(TURN) {
            yield_now().await;
        }
        // Its number may be another's by now.
        if self.guest.gone.is_up() {
            return Err(format!("{} is gone", self.guest.config.name));
        }
        Ok(self.guest.domain.read(self.window.page(), frame, into).is_ok())
    }
}

/// Writes a domain's core to a partition from its first byte on. The file's beginning comes last, so that
/// one that is not whole is none.
///
/// # Errors
/// Why there is none, as a sentence; of a partition that holds something else nothing is changed.
pub(crate) async fn to_partition(
    world: &World,
    guest: &Guest,
    target: &str,
) -> Result<Value, String> {
    let from_host = format!("`cargo xtask ctl dump-core {} FILE` at the host", guest.config.name);
    if !target.starts_with("/dev/") || target.contains(':') {
        return Err(format!(
            "{target}: a core goes to a partition as a whole, such as /dev/vda3; to a file by {from_host}"
        ));
    }
    let claim = world.storage.open(target, false, |_| None).await?;
    let wrong = |error: &dyn core::fmt::Display| format!("{target}: {error}");
    let buffer = Buffer::new(PIECE, 0).map_err(|error| wrong(&error))?;
    let reader = Reader { disk: &claim.disk, buffer: buffer.clone() };
    let mut first = [0; SECTOR];
    reader.read(0, &mut first).await.map_err(|error| wrong(&error))?;
    if !first.starts_with(MAGIC) && first.iter().any(|byte| *byte != 0) {
        return Err(format!(
            "{target} holds something else than a core: empty its first sector, or use {from_host}"
        ));
    }
    let mut sink = Partition { claim, target, buffer, at: 0, first };
    let answer = dump(world, guest, &mut sink).await?;
    let Partition { claim, buffer, first, .. } = sink;
    claim.disk.flush().await.map_err(|error| wrong(&error))?;
    storage::put(&claim.disk, &buffer, 0, &first).await.map_err(|error| wrong(&error))?;
    claim.disk.flush().await.map_err(|error| wrong(&error))?;
    Ok(answer)
}

struct Partition<'a> {
    claim: Claim,
    target: &'a str,
    buffer: Buffer,
    /// Where the next piece goes. Unit: sectors.
    at: u64,
    /// The file's beginning.
    first: [u8; SECTOR],
}

impl Sink for Partition<'_> {
    async fn begin(&mut self, length: u64) -> Result<(), String> {
        let room = self.claim.disk.sectors() * SECTOR as u64;
        if room < length {
            let target = self.target;
            return Err(format!("{target} has {} MiB, and the core {}", room >> 20, length >> 20));
        }
        Ok(())
    }

    async fn put(&mut self, piece: &[u8]) -> Result<(), String> {
        let mut piece = piece.to_vec();
        if let Some(first) = piece.first_chunk_mut().filter(|_| self.at == 0) {
            self.first = core::mem::replace(first, [0; SECTOR]);
        }
        let put = storage::put(&self.claim.disk, &self.buffer, self.at, &piece).await;
        put.map_err(|error| format!("{}: {error}", self.target))?;
        self.at += (piece.len() / SECTOR) as u64;
        Ok(())
    }
}
