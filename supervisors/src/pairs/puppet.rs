//! A domain that does what it is told: the guest `conformance`, with the word `puppet=0` on its
//! command line. What its mailbox holds is described there.

use core::sync::atomic::Ordering;

use pv_guest_sdk::abi::types::{DomId, GrantRef, Mfn, PAGE_SIZE, Port};
use pv_guest_sdk::control::{Domain, DomainFlags, DomainInfo, Plain};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::{Grants, Mapping, Peer};
use pv_guest_sdk::paging::{Access, Page};
use pv_guest_sdk::wait::{poll, yield_now};
use pv_guest_sdk::{BootInfo, Machine};
use toolstack::archive::files;
use toolstack::build::{self, Settings};

use crate::cases::Fault;

/// Where frames of other domains are mapped.
const WINDOW: u64 = 0xffff_a000_0000_0000;
/// The puppet's memory: 16 MiB. Unit: pages.
pub(crate) const PAGES: u64 = 4096;
/// The puppet's port for this domain, and its entry for the mailbox.
pub(crate) const PORT: Port = Port(3);
pub(crate) const MAILBOX: GrantRef = GrantRef(8);

/// Words of the mailbox.
const ASKED: usize = 0;
const DONE: usize = 1;
const WHAT: usize = 2;
const ANSWER: usize = 10;
const TABLE: usize = 12;
const SPARE: usize = 16;
/// Where arguments lie.
const ROOM: usize = 256;
const OWN: usize = 11;

/// Things to do beside hypercalls.
pub(crate) const READ: u64 = 1 << 32;
pub(crate) const WRITE: u64 = READ + 1;
pub(crate) const END: u64 = READ + 2;

/// A puppet, and this domain's ends of what connects them.
pub(crate) struct Puppet {
    pub(crate) domain: Domain,
    /// Its mailbox, by its grant.
    pub(crate) mailbox: Mapping,
    pub(crate) channel: Channel,
}

/// A page of the puppet's that nobody needs.
#[derive(Clone, Copy)]
pub(crate) struct Spare {
    /// Where the puppet has it.
    pub(crate) address: u64,
    pub(crate) frame: Mfn,
}

/// The page of a window, by its number.
pub(crate) fn window(number: usize) -> Result<Page, Fault> {
    Ok(Page::at(WINDOW + (number * PAGE_SIZE) as u64).ok_or("no such window")?)
}

/// Ends a domain and gives its memory back. The memory may be in use still.
pub(crate) fn destroy(domain: &Domain) -> Result<(), Fault> {
    Ok(domain.control(Plain::Destroy)?)
}

/// Whether a domain is dying, and the pages it has; nothing if it is gone.
pub(crate) fn remains(domain: &Domain) -> Option<(bool, u64)> {
    let DomainInfo { flags, tot_pages, .. } = domain.info().ok()?;
    Some((DomainFlags::from_bits_retain(flags).contains(DomainFlags::DYING), tot_pages))
}

impl Puppet {
    /// Makes one, and connects to it. Its mailbox is mapped in the window `number`.
    pub(crate) fn start(
        boot: &BootInfo<'static>,
        grants: Grants,
        number: usize,
    ) -> Result<Self, Fault> {
        let mut files = files(boot.ramdisk()).filter_map(Result::ok);
        let file = files.find(|file| file.name == "puppet").ok_or("no puppet in the ramdisk")?;
        let (command_line, pages) = ("puppet=0", PAGES);
        let settings = Settings { image: file.bytes, ramdisk: &[], command_line, pages, vcpus: 1 };
        let domain = build::domain(&settings, window(0)?)?.domain;
        domain.control(Plain::Unpause)?;
        // Its port is the last thing it makes.
        let channel = loop {
            match Channel::connect(domain.id(), PORT) {
                Ok(channel) => break channel,
                Err(_) => yield_now(),
            }
        };
        channel.mask();
        let mailbox = grants.map(window(number)?, peer(&domain, MAILBOX), Access::WRITE)?;
        Ok(Self { domain, mailbox, channel })
    }

    pub(crate) fn word(&self, index: usize) -> u64 {
        let half = |half| u64::from(self.mailbox.load(2 * index + half));
        half(0) | half(1) << 32
    }

    #[expect(clippy::cast_possible_truncation, reason = "each half of a word is stored")]
    fn set(&self, index: usize, value: u64) {
        let Some(words) = self.mailbox.words() else { return };
        words[2 * index].store(value as u32, Ordering::Relaxed);
        words[2 * index + 1].store((value >> 32) as u32, Ordering::Release);
    }

    /// A page that nobody needs.
    pub(crate) fn spare(&self, number: usize) -> Spare {
        let at = SPARE + 2 * number;
        Spare { address: self.word(at), frame: Mfn(self.word(at + 1)) }
    }

    /// Has the puppet do something, and returns the answer; at the end there is none to wait for.
    pub(crate) fn ask(&self, what: u64, arguments: &[u64]) -> Result<u64, Fault> {
        self.set(WHAT, what);
        for (index, argument) in arguments.iter().enumerate() {
            self.set(WHAT + 1 + index, *argument);
        }
        let turn = self.word(ASKED) + 1;
        self.set(ASKED, turn);
        self.channel.send()?;
        while what != END && self.word(DONE) < turn {
            poll(&Machine, &[self.channel.port()], None)?;
            self.channel.take_pending();
        }
        Ok(self.word(ANSWER))
    }

    /// The same with a hypercall whose argument's words lie in the room of the mailbox; the words
    /// behind it.
    pub(crate) fn call<const N: usize>(
        &self,
        number: u64,
        command: u64,
        words: [u64; N],
    ) -> Result<(u64, [u64; N]), Fault> {
        for (index, word) in words.iter().enumerate() {
            self.set(ROOM + index, *word);
        }
        let room = self.word(OWN) + 8 * ROOM as u64;
        let answer = self.ask(number, &[command, room, 1])?;
        Ok((answer, core::array::from_fn(|index| self.word(ROOM + index))))
    }

    /// Lends one of the puppet's pages to a domain.
    pub(crate) fn lend(&self, reference: u32, page: Spare, to: DomId) -> Result<Peer, Fault> {
        let entry = 1 | u64::from(to.0) << 16 | page.frame.0 << 32;
        self.ask(WRITE, &[self.word(TABLE) + 8 * u64::from(reference), entry])?;
        Ok(peer(&self.domain, GrantRef(reference)))
    }
}

/// What a domain lends by an entry.
pub(crate) const fn peer(domain: &Domain, reference: GrantRef) -> Peer {
    Peer { domain: domain.id(), reference }
}
