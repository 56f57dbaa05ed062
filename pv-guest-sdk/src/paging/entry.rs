//! Entries of page tables.

use core::fmt;

use hypercall_abi::mmu::{ENTRY_ADDRESS_MASK, EntryFlags};
use hypercall_abi::types::Mfn;

bitflags::bitflags! {
    /// What a mapping allows beside reading.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Access: u8 {
        /// Writing.
        const WRITE = 1 << 0;
        /// Running.
        const EXECUTE = 1 << 1;
    }
}

/// Who a mapping is for.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{abi::types::Mfn, paging::{Access, Entry, Mode}};
/// // Of user mode's memory an entry says so.
/// let entry = Entry::page(Mfn(0x1f2), Access::empty(), Mode::User);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// This guest's kernel.
    Kernel,
    /// Its user mode, and the kernel if the same tables are loaded there.
    User,
}

/// One entry of a page table.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{abi::types::Mfn, paging::{Access, Entry, Mode}};
/// let entry = Entry::page(Mfn(0x1f2), Access::WRITE, Mode::Kernel);
/// assert!(entry.is_present() && entry.allows(Access::WRITE));
/// assert_eq!(entry.frame(), Mfn(0x1f2));
/// assert!(entry.borrowed().is_borrowed()); // of another domain: not to be given back
/// let table = Entry::table(Mfn(0x3a0));
/// assert_ne!(table.flags(), entry.flags());
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Entry(pub u64);

/// Software's bit by which the SDK knows a frame that belongs to somebody else than the table.
const BORROWED: u64 = 1 << 9;

impl Entry {
    /// Maps nothing.
    pub const ABSENT: Self = Self(0);

    /// Maps a page.
    #[must_use]
    pub const fn page(frame: Mfn, access: Access, mode: Mode) -> Self {
        let mut flags = EntryFlags::PRESENT.union(EntryFlags::ACCESSED).union(EntryFlags::DIRTY);
        if access.contains(Access::WRITE) {
            flags = flags.union(EntryFlags::RW);
        }
        if !access.contains(Access::EXECUTE) {
            flags = flags.union(EntryFlags::NX);
        }
        if matches!(mode, Mode::User) {
            flags = flags.union(EntryFlags::USER);
        }
        Self(frame.address() & ENTRY_ADDRESS_MASK | flags.bits())
    }

    /// Leads to a table of the next level.
    #[must_use]
    pub const fn table(frame: Mfn) -> Self {
        let flags = EntryFlags::PRESENT
            .union(EntryFlags::RW)
            .union(EntryFlags::USER)
            .union(EntryFlags::ACCESSED)
            .union(EntryFlags::DIRTY);
        Self(frame.address() & ENTRY_ADDRESS_MASK | flags.bits())
    }

    /// The same entry, for a frame that does not go with it when the table goes.
    #[must_use]
    pub const fn borrowed(self) -> Self {
        Self(self.0 | BORROWED)
    }

    /// Whether it maps anything.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.flags().contains(EntryFlags::PRESENT)
    }

    /// Whether its frame belongs to somebody else.
    #[must_use]
    pub const fn is_borrowed(self) -> bool {
        self.0 & BORROWED != 0
    }

    /// Whether it maps something and allows this.
    #[must_use]
    pub const fn allows(self, access: Access) -> bool {
        let flags = self.flags();
        self.is_present()
            && (flags.contains(EntryFlags::RW) || !access.contains(Access::WRITE))
            && (!flags.contains(EntryFlags::NX) || !access.contains(Access::EXECUTE))
    }

    /// The machine frame it leads to.
    #[must_use]
    pub const fn frame(self) -> Mfn {
        Mfn::containing(self.0 & ENTRY_ADDRESS_MASK)
    }

    /// Everything but the frame. The hypervisor changes some: a kernel's page has
    /// [`EntryFlags::USER`] and [`EntryFlags::GUEST_KERNEL`], a user's [`EntryFlags::GLOBAL`].
    #[must_use]
    pub const fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_retain(self.0 & !ENTRY_ADDRESS_MASK)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.flags();
        if !self.is_present() {
            return f.write_str("absent");
        }
        let letter = |flag, letter| if flags.contains(flag) { letter } else { '-' };
        let execute = if flags.contains(EntryFlags::NX) { '-' } else { 'x' };
        let mode = if flags.contains(EntryFlags::GUEST_KERNEL) { 'k' } else { 'u' };
        write!(f, "r{}{execute}{mode}", letter(EntryFlags::RW, 'w'))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{Access, Entry, Mode};
    use hypercall_abi::types::Mfn;

    #[test]
    fn entries_have_the_flags_that_access_and_mode_ask_for() {
        let page = |access, mode| Entry::page(Mfn(0x123), access, mode).0;
        assert_eq!(page(Access::empty(), Mode::Kernel), 1 << 63 | 0x12_3061);
        assert_eq!(page(Access::WRITE, Mode::Kernel), 1 << 63 | 0x12_3063);
        assert_eq!(page(Access::EXECUTE, Mode::User), 0x12_3065);
        assert_eq!(page(Access::all(), Mode::User), 0x12_3067);
        assert_eq!(Entry::table(Mfn(0x123)).0, 0x12_3067);
    }

    #[test]
    fn an_entry_gives_back_its_frame_and_whose_it_is() {
        let entry = Entry::page(Mfn(0xff_ffff_ffff), Access::WRITE, Mode::User);
        assert_eq!(entry.frame(), Mfn(0xff_ffff_ffff));
        assert!(entry.is_present() && !entry.is_borrowed());
        assert!(entry.borrowed().is_borrowed());
        assert_eq!(entry.borrowed().frame(), entry.frame());
        assert!(!Entry::ABSENT.is_present());
    }

    #[test]
    fn an_entry_allows_what_it_was_made_for() {
        for bits in 0..4 {
            let made = Access::from_bits_retain(bits);
            for asked in (0..4).map(Access::from_bits_retain) {
                let entry = Entry::page(Mfn(1), made, Mode::User);
                assert_eq!(entry.allows(asked), made.contains(asked));
                assert!(!Entry(entry.0 & !1).allows(asked), "absent");
            }
        }
    }

    #[test]
    fn an_entry_in_letters() {
        let page = Entry::page(Mfn(1), Access::WRITE, Mode::User);
        assert_eq!(page.to_string(), "rw-u");
        let kernel = Entry(Entry::page(Mfn(1), Access::EXECUTE, Mode::Kernel).0 | 1 << 52);
        assert_eq!(kernel.to_string(), "r-xk");
        assert_eq!(Entry::ABSENT.to_string(), "absent");
    }
}
