//! Disks for domains: `blkback` connected to grants, event channels, the store and real disks.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll};

use blkback::{
    Admission, Attachment, Command, Device, Direction, Discard, DiskError, Geometry, Limits,
    PageCopy, Parameters, Ticket,
};
use devices::disk::{self, Full, Operation, Session};
use devices::hw::grant::{BATCH, Copied, Mapped, copy};
use devices::hw::{Buffer, Piece};
use embassy_futures::select::{Either3, select3};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::types::{DomId, GrantRef, PAGE_SIZE};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grants;

use crate::halves::{self, Halves, Page, map};
use crate::store::Service;
use crate::window::{Window, Windows};

/// Commands that one device has under way at its disk.
const DEPTH: usize = 64;

/// A front end's pages and its event channel.
pub(crate) struct Front {
    domain: DomId,
    channel: Channel,
    grants: Grants,
    windows: Rc<Windows>,
}

impl Front {
    fn map(&self, reference: GrantRef) -> Option<Rc<Mapped<Window>>> {
        map(self.domain, self.grants, &self.windows, reference)
    }
}

impl blkback::Guest for Front {
    type Page = Page;
    type Buffer = Buffer;
    type Mapping = Rc<Mapped<Window>>;
    type Piece = Piece;

    fn copy(&mut self, copies: &mut [PageCopy<Piece>]) {
        for batch in copies.chunks_mut(BATCH) {
            let described = batch.iter().map(|it| Copied {
                reference: it.gref,
                offset: it.offset,
                own: &it.own,
                length: it.length,
                is_to_peer: it.direction == Direction::ToGuest,
            });
            let made = copy(self.domain, described);
            batch.iter_mut().zip(0..).for_each(|(it, bit)| it.done = made >> bit & 1 == 1);
        }
    }

    fn buffer(&mut self) -> Option<Buffer> {
        Buffer::new(PAGE_SIZE, 0).ok()
    }

    fn part_of_buffer(&self, buffer: &Buffer, offset: u16, length: u16) -> Piece {
        buffer.piece(offset.into(), length.into()).expect("a part is within its page")
    }

    fn read(&self, buffer: &Buffer, bytes: &mut [u8]) {
        let mut words = [0];
        for (bytes, offset) in bytes.chunks_mut(8).zip((0..).step_by(8)) {
            buffer.read(offset, &mut words);
            let word = words[0].to_le_bytes();
            bytes.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }

    fn map(&mut self, pages: &[GrantRef], mappings: &mut Vec<Option<Self::Mapping>>) {
        mappings.extend(pages.iter().map(|&reference| Self::map(self, reference)));
    }

    fn part_of_mapping(&self, mapping: &Self::Mapping, offset: u16, length: u16) -> Piece {
        mapping.piece(offset, length)
    }

    fn notify(&mut self) {
        halves::notify(&self.channel);
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        halves::listen(&self.channel, cx);
    }
}

/// A disk, as the back end drives it.
pub(crate) struct Driven {
    session: Session,
    /// How many commands are under way.
    count: usize,
}

impl blkback::Disk<Piece> for Driven {
    fn geometry(&self) -> Geometry {
        let limits = self.session.disk().limits();
        let discard = limits.discard.map(|granularity| Discard { granularity, alignment: 0 });
        Geometry {
            sectors: limits.sectors,
            sector_size: limits.sector_size,
            physical_sector_size: limits.physical_size,
            read_only: limits.read_only,
            flush: limits.can_flush,
            discard,
        }
    }

    fn resident(&self, sector: u64, most: u16) -> Option<(Piece, u16)> {
        let piece = self.session.disk().resident(sector, most.into())?;
        let sectors = u16::try_from(piece.length() / 512).ok()?;
        Some((piece, sectors))
    }

    fn submit(&mut self, Ticket(number): Ticket, command: Command<'_, Piece>) -> Admission {
        if self.count >= DEPTH {
            return Admission::Full;
        }
        let command = match command {
            Command::Read { sector, pieces } => {
                disk::Command::Transfer(Operation::Read, sector, pieces)
            }
            Command::Write { sector, pieces } => {
                disk::Command::Transfer(Operation::Write, sector, pieces)
            }
            Command::Flush => disk::Command::Flush,
            Command::Discard { sector, count } => disk::Command::Discard(sector, count),
        };
        if self.session.submit(number, command) == Err(Full) {
            return Admission::Full;
        }
        self.count += 1;
        Admission::Accepted
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Ticket, Result<(), DiskError>)> {
        self.session.poll(cx).map(|(number, answer)| {
            self.count -= 1;
            (Ticket(number), answer.map_err(failure))
        })
    }
}

fn failure(error: disk::DiskError) -> DiskError {
    match error {
        disk::DiskError::Unsupported => DiskError::Unsupported,
        _ => DiskError::Failed,
    }
}

/// What a device is of, and how it is reached.
pub(crate) struct Served {
    /// Whose it is.
    pub(crate) domain: DomId,
    /// The places of its halves in the store.
    pub(crate) front: String,
    /// The back end's.
    pub(crate) back: String,
    /// What it is of.
    pub(crate) disk: disk::Disk,
    /// To map the front end's pages.
    pub(crate) grants: Grants,
    /// Where to map them.
    pub(crate) windows: Rc<Windows>,
}

/// Serves a device until its front end and the toolstack have closed it, or `stop` says that its
/// domain is gone.
pub(crate) async fn serve(served: Served, store: Rc<Service>, stop: &Signal<NoopRawMutex, ()>) {
    let Served { domain, front, back, disk, grants, windows } = served;
    let halves = Halves::new(&store, &front, &back);
    let driven = Driven { session: Session::new(disk), count: 0 };
    let mut device = Device::<Front, Driven>::new(driven, Limits::default(), true);
    device.changed(&halves);
    loop {
        let is_gone = halves.carry_out(device.effects(), |parameters| {
            device.attached(attach(domain, &parameters, grants, &windows));
        });
        if is_gone {
            return;
        }
        let polled = poll_fn(|cx| device.poll(cx));
        match select3(polled, halves.changed(), stop.wait()).await {
            Either3::First(()) => {}
            Either3::Second(()) => device.changed(&halves),
            Either3::Third(()) => device.remove(),
        }
    }
}

/// Maps a front end's ring and connects to its port.
fn attach(
    domain: DomId,
    parameters: &Parameters,
    grants: Grants,
    windows: &Rc<Windows>,
) -> Result<Attachment<Front>, String> {
    let channel = halves::connect(domain, parameters.port)?;
    let guest = Front { domain, channel, grants, windows: windows.clone() };
    let map = |&reference| {
        let page = guest.map(reference);
        page.map(Page).ok_or_else(|| format!("page {} of the ring is not granted", reference.0))
    };
    let pages = parameters.ring.iter().map(map).collect::<Result<_, _>>()?;
    Ok(Attachment { guest, pages })
}
