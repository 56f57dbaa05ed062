//! The page that tells a guest, at its first instruction, what it has.
use hypercall_abi::start::{StartFlags, StartInfo, VgaConsoleText};
use hypercall_abi::types::{Mfn, PAGE_SHIFT, Pfn, Port};
use zerocopy::FromZeros;

use super::{Extent, Kind, Plan};

/// Bytes of a command line that reach the guest; the rest is cut off, as on Xen.
pub const COMMAND_LINE_MAX: usize = StartInfo::COMMAND_LINE - 1;

/// What a domain's start-info page says of the world outside; nothing by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connections {
    /// Port of the store's ring. 0 for the initial domain.
    pub store: Port,
    /// Port of the console's ring. 0 for the initial domain.
    pub console: Port,
    /// The screen, for the initial domain alone: described behind the start-info structure.
    pub video: Option<VgaConsoleText>,
}

/// Power management that an initial domain is invited to take part in, as on Xen: sleep states
/// (bit 0) and frequencies (bit 1). What it then reports may be refused.
const POWER_MANAGEMENT: u32 = 0b11 << StartFlags::PM_MASK.bits().trailing_zeros();

/// Offset of the screen's description in the page, and its length: what the two halves of the
/// console's frame number say in an initial domain. Unit: bytes.
const VIDEO_AT: u64 = 1168;
const VIDEO_LEN: u64 = 40;
const _: () = assert!(size_of::<StartInfo>() == 1168 && size_of::<VgaConsoleText>() == 40);

impl Plan {
    /// Builds the start-info page's contents. `machine` tells a frame's number in the machine.
    #[must_use]
    pub fn start_info(
        &self,
        shared_info: Mfn,
        connections: &Connections,
        command_line: &[u8],
        machine: impl Fn(Pfn) -> Mfn,
    ) -> StartInfo {
        let ring = |page: Option<Extent>| page.map_or(Mfn(0), |page| machine(page.pfn));
        let (first_p2m, nr_p2m_frames) = self.reported_p2m();
        let mut info = StartInfo {
            nr_pages: self.nr_pages,
            shared_info: shared_info.0 << PAGE_SHIFT,
            flags: self.start_flags(),
            pt_base: self.tables.va.unwrap_or_default(),
            nr_pt_frames: self.tables.pages,
            mfn_list: self.p2m.va.unwrap_or_default(),
            store_mfn: ring(self.store),
            store_evtchn: connections.store,
            console_mfn: match (self.kind, connections.video) {
                (Kind::Initial, Some(_)) => Mfn(VIDEO_AT | VIDEO_LEN << u32::BITS),
                _ => ring(self.console),
            },
            console_evtchn: connections.console,
            mod_len: self.ramdisk_len,
            mod_start: self.ramdisk.map_or(0, |part| part.va.unwrap_or(part.pfn.0)),
            first_p2m_pfn: first_p2m,
            nr_p2m_frames,
            ..StartInfo::new_zeroed()
        };
        put(&mut info.magic, StartInfo::MAGIC);
        put(&mut info.cmd_line, command_line.get(..COMMAND_LINE_MAX).unwrap_or(command_line));
        info
    }

    fn start_flags(&self) -> u32 {
        let mut flags = match self.kind {
            Kind::Initial => StartFlags::PRIVILEGED | StartFlags::INITDOMAIN,
            Kind::Toolstack => StartFlags::empty(),
        };
        flags.set(StartFlags::MOD_START_PFN, self.ramdisk.is_some_and(|part| part.va.is_none()));
        match self.kind {
            Kind::Initial => flags.bits() | POWER_MANAGEMENT,
            Kind::Toolstack => flags.bits(),
        }
    }

    /// First frame and number of frames of a list that has tables of its own. The initial domain
    /// is told the first frame behind its chunk also where the list lies elsewhere.
    fn reported_p2m(&self) -> (Pfn, u64) {
        let apart = self.list_apart().is_some();
        let frames = self.p2m.pages.saturating_add(self.p2m_tables.pages);
        match self.kind {
            Kind::Initial => (self.first_p2m, if apart { frames } else { 0 }),
            Kind::Toolstack if apart => (self.first_p2m, frames),
            Kind::Toolstack => (Pfn(0), 0),
        }
    }
}

fn put(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
