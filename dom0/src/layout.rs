//! Where the loader put things, by ascending address.

use core::fmt;

use pv_guest_sdk::BootInfo;

/// Addresses of the areas a guest finds at its start.
pub(crate) struct Layout {
    pub(crate) ramdisk: Option<u64>,
    pub(crate) frame_list: u64,
    pub(crate) start_info: u64,
    pub(crate) page_tables: u64,
}

impl Layout {
    pub(crate) fn of(boot: &BootInfo<'_>) -> Self {
        let start = boot.start_info();
        Self {
            ramdisk: Some(start.mod_start).filter(|_| !boot.ramdisk().is_empty()),
            frame_list: start.mfn_list,
            start_info: core::ptr::from_ref(start).addr() as u64,
            page_tables: start.pt_base,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut areas = [
            (self.ramdisk, "ramdisk"),
            (Some(self.frame_list), "frame list"),
            (Some(self.start_info), "start-of-day page"),
            (Some(self.page_tables), "page tables"),
        ];
        areas.sort_unstable();
        f.write_str("image")?;
        let mut present = areas.iter().filter(|(address, _)| address.is_some());
        present.try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}
