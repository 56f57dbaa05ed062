//! The page that tells a guest, at its first instruction, what it has.
use hypercall_abi::start::{StartFlags, StartInfo};
use hypercall_abi::types::{Mfn, PAGE_SHIFT, Pfn, Port};
use zerocopy::FromZeros;

use super::{Extent, Kind, Plan};

/// Bytes of a command line that reach the guest; the rest is cut off, as on Xen.
pub const COMMAND_LINE_MAX: usize = StartInfo::COMMAND_LINE - 1;

/// The event channels of a domain's store and console; both 0 for the initial domain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connections {
    /// Port of the store's ring.
    pub store: Port,
    /// Port of the console's ring.
    pub console: Port,
}

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
            flags: self.start_flags().bits(),
            pt_base: self.tables.va.unwrap_or_default(),
            nr_pt_frames: self.tables.pages,
            mfn_list: self.p2m.va.unwrap_or_default(),
            store_mfn: ring(self.store),
            store_evtchn: connections.store,
            console_mfn: ring(self.console),
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

    fn start_flags(&self) -> StartFlags {
        let mut flags = match self.kind {
            Kind::Initial => StartFlags::PRIVILEGED | StartFlags::INITDOMAIN,
            Kind::Toolstack => StartFlags::empty(),
        };
        flags.set(StartFlags::MOD_START_PFN, self.ramdisk.is_some_and(|part| part.va.is_none()));
        flags
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
