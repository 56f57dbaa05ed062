//! A record of what guests do, for who looks for a mistake: every hypercall, exception, entry of a
//! handler, emulated instruction, refusal, crash and change of vCPU.
//!
//! It is off unless the command line asks for it ([`crate::options::Options::trace`]); then it costs one
//! look at a flag in each of these places. The platform keeps the records; who reads them knows their
//! form from here.

use core::fmt::{self, Write};

use crate::dispatch::{Answer, Reply};
use crate::domain::Domain;
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::{Context, DomainVcpu, System};
use crate::vcpu::Vcpu;

/// Words of a record.
pub const WORDS: usize = 16;
/// Words of a record that are about its kind.
pub const DETAILS: usize = 12;

/// What a record tells. In brackets, its details by number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// A hypercall, from when it begins on [0: its number, 1-6: arguments, 7: RAX, 8: when it ended, 9: 0 it
    /// has answered, 1 it goes on later, 2 it has set registers, 3 it has not returned, and 7 and 8 mean
    /// nothing; 10: 1 in a multicall; 11: the first 4 bytes that its first argument points to].
    Hypercall = 1,
    /// An exception for the guest [0: vector, 1: error code, 2: CR2].
    Exception = 2,
    /// Another entry of a handler: an event, an NMI, `int n` [0: the handler].
    Entry = 3,
    /// The hypervisor has carried out an instruction [0: its first 8 bytes, 1: RIP behind it].
    Emulated = 4,
    /// Something was refused [all: why, as text that zeros end].
    Refusal = 5,
    /// Another vCPU runs [0: which one before, as in the record's first word].
    Switch = 6,
    /// The domain has crashed [all: why, as text that zeros end].
    Crash = 7,
}

/// A record:
///
/// | word | what |
/// |---|---|
/// | 0 | kind; from bit 8 the CPU; from 16 the vCPU; from 32 the domain |
/// | 1 | system time. Unit: nanoseconds |
/// | 2 | RIP |
/// | 3 | the platform's |
/// | 4-15 | details |
pub type Record = [u64; WORDS];

impl<P: Platform> Context<'_, P> {
    fn who(&self, kind: Kind) -> u64 {
        self.system.who(self.domain, self.vcpu) | kind as u64
    }

    /// Records something that this vCPU did at an address.
    #[cold]
    pub(crate) fn trace(&self, kind: Kind, rip: u64, details: &[u64]) {
        let record = self.record(kind, self.system.now(), rip, details);
        self.system.platform.trace(&record);
    }

    fn record(&self, kind: Kind, begin: u64, rip: u64, details: &[u64]) -> Record {
        let head = [self.who(kind), begin, rip, 0];
        let mut record: Record = [0; WORDS];
        for (word, value) in record.iter_mut().zip(head.iter().chain(details)) {
            *word = *value;
        }
        record
    }

    /// Records that a hypercall begins: what the machine's end or a mistake of the hypervisor keeps from
    /// returning shows too. Where the record is, and what it says.
    #[cold]
    pub(crate) fn trace_begin(&self, number: u64, args: [u64; 6], is_inner: bool) -> (u64, Record) {
        let [a, b, c, d, e, f] = args;
        let first = guest_memory::read::<u32>(&self.system.platform, a).unwrap_or(0);
        let details = [number, a, b, c, d, e, f, 0, 0, 3, is_inner.into(), first.into()];
        let record = self.record(Kind::Hypercall, self.system.now(), self.regs.rip, &details);
        (self.system.platform.trace(&record), record)
    }

    /// Records the answer of a hypercall that was recorded before.
    #[cold]
    pub(crate) fn trace_end(&self, (place, mut record): (u64, Record), answer: Answer) {
        let [.., rax, end, state, _, _] = &mut record;
        (*rax, *state) = match answer {
            Ok(Reply::Value(value)) => (value, 0),
            Ok(Reply::Again(_)) => (0, 1),
            Ok(Reply::Registers) => (self.regs.rax, 2),
            Err(errno) => (errno.to_raw().cast_unsigned(), 0),
        };
        *end = self.system.now();
        self.system.platform.trace_again(place, &record);
    }

    /// Records an instruction at `rip` that was carried out for the guest.
    #[cold]
    pub(crate) fn trace_emulated(&self, rip: u64) {
        let code = self.code_segment();
        let byte = |at: u8| u64::from(self.fetch_byte(code, rip, at).unwrap_or(0));
        let bytes = (0..8_u8).rev().fold(0, |bytes, at| bytes << 8 | byte(at));
        self.trace(Kind::Emulated, rip, &[bytes, self.regs.rip]);
    }

    /// Records why something was refused, or the domain ends.
    #[cold]
    pub(crate) fn trace_text(&self, kind: Kind, why: fmt::Arguments<'_>) {
        let mut text = Text { bytes: [0; DETAILS * 8], used: 0 };
        // What does not fit is left out.
        let _ = text.write_fmt(why);
        let mut words = [0; DETAILS];
        for (word, bytes) in words.iter_mut().zip(text.bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        self.trace(kind, self.regs.rip, &words);
    }
}

impl<P: Platform> System<P> {
    fn who(&self, domain: &Domain<P>, vcpu: &Vcpu) -> u64 {
        let cpu = u64::from(self.platform.cpu().number());
        cpu << 8 | u64::from(vcpu.id.0 & 0xffff) << 16 | u64::from(domain.id.0) << 32
    }

    /// Records that another vCPU runs than before.
    pub(crate) fn trace_switch(&self, last: &DomainVcpu<P>, next: &DomainVcpu<P>) {
        if self.platform.is_tracing() {
            let who = |it: &DomainVcpu<P>| self.who(&it.domain, &it.vcpu);
            let head = [who(next) | Kind::Switch as u64, self.now(), 0, 0, who(last)];
            let mut record: Record = [0; WORDS];
            record.iter_mut().zip(head).for_each(|(word, value)| *word = value);
            self.platform.trace(&record);
        }
    }
}

/// Text of limited length.
struct Text {
    bytes: [u8; DETAILS * 8],
    used: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.used..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = from;
            self.used = self.used.saturating_add(1);
        }
        Ok(())
    }
}
