//! Two domains, of which one does what the other says.
//!
//! The *puppet* lends a page, its mailbox, to the domain that its command line names, makes a port
//! for it, and then does one thing after the other that the mailbox asks for: a hypercall, a read or
//! a write. So a case, which runs in the other domain, has both ends in its hands. They need
//! nothing to find each other: the mailbox is lent by entry 8, the port is 3, the first that is free
//! behind those of store and console.

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;
use pv_guest_sdk::shutdown::{Reason, shutdown};

use crate::call::{SCHED_OP, hypercall};
use crate::case::{Outcome, Test, Verdict, equal};
use crate::cases::event_calls::{
    BIND_INTERDOMAIN, EVENT_CHANNEL_OP, SEND, Words, about, event, unbound, word,
};
use crate::cases::poll::poll;
use crate::raw::memory::{peek, poke};
use crate::raw::pages_grants::{HOST, OKAY, PERMIT, REF, Table, Wish, map, with_table};
use crate::raw::pages_scratch::{PAGES, Page, clean};

/// The puppet's port for the other domain.
const PORT: u32 = 3;
const YIELD: u64 = 0;

/// Words of the mailbox: how many things were asked for and how many are done, what to do with six
/// arguments, and the answer.
const ASKED: u64 = 0;
const DONE: u64 = 1;
const WHAT: u64 = 2;
const ANSWER: u64 = 10;
/// Where the puppet has its mailbox, its grant table and its page of events.
const OWN: u64 = 11;
const TABLE: u64 = 12;
const SHARED: u64 = 13;
/// Its pages to experiment with: address and frame of each.
const SPARE: u64 = 16;
/// Spare pages. The puppet's first page is the mailbox, the last shows the table.
const SPARES: u64 = PAGES as u64 - 2;
/// Where arguments of hypercalls lie in the mailbox. Unit: bytes.
const ROOM: u64 = 2048;

/// Things to do beside hypercalls, whose numbers these are not.
const READ: u64 = 1 << 32;
const WRITE: u64 = READ + 1;
const END: u64 = READ + 2;

/// Does what `master` asks for, until it asks for the end.
pub(crate) fn serve(t: &Test<'_>, master: u32) -> Outcome {
    with_table(t, |table, pages| {
        let words = shared(t)?;
        let mailbox = pages[0].va;
        let at = |word: u64| mailbox + 8 * word;
        poke(at(OWN), mailbox);
        poke(at(TABLE), table.address());
        poke(at(SHARED), words.address());
        for (word, page) in (SPARE..).step_by(2).zip(&pages[1..PAGES - 1]) {
            poke(at(word), page.va);
            poke(at(word + 1), page.mfn);
        }
        table.set(REF, PERMIT, master.into(), pages[0].mfn);
        equal("port", unbound(master)?, PORT)?;
        for turn in 1.. {
            while peek(at(ASKED)) < turn {
                wait(words, PORT)?;
            }
            let argument = |number: u64| peek(at(WHAT + 1 + number));
            let answer = match peek(at(WHAT)) {
                READ => peek(argument(0)),
                WRITE => {
                    poke(argument(0), argument(1));
                    0
                }
                END => shutdown(Reason::Poweroff),
                number => {
                    let arguments = [0, 1, 2, 3, 4, 5].map(argument);
                    hypercall(number, &arguments).cast_unsigned()
                }
            };
            poke(at(ANSWER), answer);
            poke(at(DONE), turn);
            equal("send", about(SEND, PORT), 0)?;
        }
        Ok(())
    })
}

/// Waits until a port has an event, and takes it.
fn wait(words: Words, port: u32) -> Outcome {
    equal("poll", poll(&[port], 0), 0)?;
    words.set_pending(port, false);
    Ok(())
}

fn shared(t: &Test<'_>) -> Result<Words, Verdict> {
    match shared_info(&Machine, t.boot) {
        Ok(shared) => Ok(Words::at(core::ptr::from_ref(shared).expose_provenance() as u64)),
        Err(_) => Err(Verdict::Skip("nothing is shared with the hypervisor")),
    }
}

/// The puppet, and what the domain of the cases has to try on it.
pub(crate) struct Peer {
    /// The puppet's number.
    pub(crate) domain: u32,
    /// The number of the domain of the cases.
    pub(crate) own: u32,
    /// Its grant table.
    pub(crate) table: Table,
    /// Its pages to experiment with.
    pub(crate) pages: [Page; PAGES],
    /// Its page of events.
    pub(crate) words: Words,
    mailbox: u64,
    port: u32,
}

/// What a page is to the puppet.
#[derive(Clone, Copy)]
pub(crate) struct Spare {
    /// Where the puppet has it.
    pub(crate) va: u64,
    /// Its frame.
    pub(crate) mfn: u64,
}

/// Runs `body` with the puppet `domain`, for whom this domain is `own`, and ends it.
pub(crate) fn with_peer(
    t: &Test<'_>,
    [own, domain]: [u32; 2],
    body: impl FnOnce(&Peer) -> Outcome,
) -> Outcome {
    with_table(t, |table, pages| {
        // The puppet is ready when it has made its port, which is the last thing it does.
        while event(BIND_INTERDOMAIN, &[domain, PORT]) != 0 {
            hypercall(SCHED_OP, &[YIELD]);
        }
        let (port, mailbox) = (word(2), pages[PAGES - 2].va);
        let lent = Wish { domain: domain.into(), ..Wish::new(mailbox, HOST) };
        equal("status of the mailbox", map(lent)?.status, OKAY)?;
        let words = shared(t)?;
        let peer = Peer { domain, own, table, pages, words, mailbox, port };
        let outcome = body(&peer);
        peer.ask(END, &[])?;
        outcome
    })
}

impl Test<'_> {
    /// The other domain.
    ///
    /// # Errors
    /// The case does not apply where there is none.
    pub(crate) fn peer(&self) -> Result<&Peer, Verdict> {
        self.peer.ok_or(Verdict::Skip("there is no other domain"))
    }
}

impl Peer {
    /// Runs `body` with two pages of this domain's, beside the mailbox and the table of grants.
    pub(crate) fn with_pages(
        &self,
        t: &Test<'_>,
        body: impl FnOnce([Page; 2]) -> Outcome,
    ) -> Outcome {
        let pages = [self.pages[0], self.pages[1]];
        clean(t, &pages)?;
        let outcome = body(pages);
        outcome.and(clean(t, &pages))
    }

    fn ask(&self, what: u64, arguments: &[u64]) -> Result<u64, Verdict> {
        let at = |word: u64| self.mailbox + 8 * word;
        poke(at(WHAT), what);
        for (number, word) in (WHAT + 1..ANSWER).enumerate() {
            poke(at(word), arguments.get(number).copied().unwrap_or(0));
        }
        let turn = peek(at(ASKED)) + 1;
        poke(at(ASKED), turn);
        equal("send to the puppet", about(SEND, self.port), 0)?;
        while what != END && peek(at(DONE)) < turn {
            wait(self.words, self.port)?;
        }
        Ok(peek(at(ANSWER)))
    }

    /// The puppet makes a hypercall; the answer.
    pub(crate) fn call(&self, number: u64, arguments: &[u64]) -> Result<i64, Verdict> {
        Ok(self.ask(number, arguments)?.cast_signed())
    }

    /// The puppet makes a hypercall with words of the argument at the start of its room, and their
    /// address as the argument number `place`.
    pub(crate) fn call_with(
        &self,
        number: u64,
        arguments: &[u64],
        words: &[u64],
    ) -> Result<i64, Verdict> {
        for (at, &word) in (self.mailbox + ROOM..).step_by(8).zip(words) {
            poke(at, word);
        }
        self.call(number, arguments)
    }

    /// The address of the puppet's room for arguments, there.
    pub(crate) fn room(&self) -> u64 {
        peek(self.mailbox + 8 * OWN) + ROOM
    }

    /// A word of that room.
    pub(crate) fn word(&self, index: u64) -> u64 {
        peek(self.mailbox + ROOM + 8 * index)
    }

    /// A word at an address of the puppet's.
    pub(crate) fn read(&self, address: u64) -> Result<u64, Verdict> {
        self.ask(READ, &[address])
    }

    /// Writes a word at an address of the puppet's.
    pub(crate) fn write(&self, address: u64, value: u64) -> Outcome {
        self.ask(WRITE, &[address, value]).map(|_| ())
    }

    /// One of the puppet's pages.
    pub(crate) fn spare(&self, number: u64) -> Spare {
        let at = self.mailbox + 8 * (SPARE + 2 * (number % SPARES));
        Spare { va: peek(at), mfn: peek(at + 8) }
    }

    /// The puppet's call on its ports; the answer. Its argument's words are in the room.
    pub(crate) fn event(&self, command: u64, words: &[u32]) -> Result<i64, Verdict> {
        let word = |index: usize| u64::from(words.get(index).copied().unwrap_or(0));
        let words = [0, 2, 4].map(|index| word(index) | word(index + 1) << 32);
        self.call_with(EVENT_CHANNEL_OP, &[command, self.room()], &words)
    }

    /// Half a word of the room, by its number.
    pub(crate) fn half(&self, index: u64) -> u32 {
        let word = self.word(index / 2).to_le_bytes();
        let at = if index.is_multiple_of(2) { 0 } else { 4 };
        u32::from_le_bytes([word[at], word[at + 1], word[at + 2], word[at + 3]])
    }

    /// Whether a port of the puppet's is pending.
    pub(crate) fn pending(&self, port: u32) -> Result<bool, Verdict> {
        let place = peek(self.mailbox + 8 * SHARED) + 2048 + u64::from(port / 64) * 8;
        Ok(self.read(place)? >> (port % 64) & 1 != 0)
    }

    /// Clears a port's pending bit, there.
    pub(crate) fn forget(&self, port: u32) -> Outcome {
        let place = peek(self.mailbox + 8 * SHARED) + 2048 + u64::from(port / 64) * 8;
        self.write(place, self.read(place)? & !(1 << (port % 64)))
    }

    /// Writes an entry of the puppet's table.
    pub(crate) fn set_entry(&self, reference: u32, flags: u16, domain: u32, frame: u64) -> Outcome {
        let entry = u64::from(flags) | u64::from(domain) << 16 | frame << 32;
        self.write(self.entry_at(reference), entry)
    }

    /// The flags of an entry of the puppet's table.
    pub(crate) fn flags(&self, reference: u32) -> Result<u64, Verdict> {
        Ok(self.read(self.entry_at(reference))? & 0xffff)
    }

    fn entry_at(&self, reference: u32) -> u64 {
        peek(self.mailbox + 8 * TABLE) + 8 * u64::from(reference)
    }
}
