//! Virtual pages.

use core::fmt;

use hypercall_abi::layout::{HYPERVISOR_FIRST_SLOT, HYPERVISOR_SLOTS};
use hypercall_abi::mmu::ENTRIES_PER_TABLE;
use hypercall_abi::types::PAGE_SHIFT;

/// A virtual page, by the address of its first byte.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{paging::Page};
/// const AT: Page = Page::fixed(0x1000_0000);
/// assert_eq!(Page::at(0x1000_0001), None); // not a page's address
/// assert_eq!(Page::containing(0x1000_0001), Some(AT));
/// assert_eq!(AT.next().map(Page::address), Some(0x1000_1000));
/// assert_eq!(AT.index(1), 0); // its place in the last table
/// assert!(AT.is_lower() && AT.is_free());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Page(u64);

/// Bits of an address that one level of tables translates.
const LEVEL_BITS: u32 = 9;

impl Page {
    /// The page that begins at `address`. `None` if none begins there: the address is not a
    /// multiple of 4096, or not canonical.
    #[must_use]
    pub const fn at(address: u64) -> Option<Self> {
        let page = Self::containing(address);
        match page {
            Some(page) if page.0 == address => Some(page),
            _ => None,
        }
    }

    /// The page that begins at a fixed address.
    ///
    /// # Panics
    /// If none begins there; of a constant, when the program is compiled.
    #[must_use]
    #[expect(clippy::panic, reason = "a fixed address is right or wrong for ever")]
    pub const fn fixed(address: u64) -> Self {
        match Self::at(address) {
            Some(page) => page,
            None => panic!("no page begins at this address"),
        }
    }

    /// The page that holds the byte at `address`, if the address is canonical.
    #[must_use]
    pub const fn containing(address: u64) -> Option<Self> {
        match address >> 47 {
            0 | 0x1_ffff => Some(Self(address >> PAGE_SHIFT << PAGE_SHIFT)),
            _ => None,
        }
    }

    /// The address of its first byte.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0
    }

    /// The page after it, if there is one.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1 << PAGE_SHIFT) {
            Some(next) => Self::at(next),
            None => None,
        }
    }

    /// Its place in the table of `level`, 1 to 4 (the top one).
    #[must_use]
    pub const fn index(self, level: u32) -> usize {
        let shifted = self.0 >> (PAGE_SHIFT + LEVEL_BITS * (level - 1));
        #[expect(clippy::cast_possible_truncation, reason = "nine bits are left")]
        let index = (shifted % ENTRIES_PER_TABLE as u64) as usize;
        index
    }

    /// Whether the page belongs to the lower half of the address space, where user mode lives.
    #[must_use]
    pub const fn is_lower(self) -> bool {
        self.0 >> 47 == 0
    }

    /// Whether the page is for a guest's kernel to use as it likes: all of the lower half, and of
    /// the upper half the slots 288 to 447 of the top table (from 0xffff900000000000 to
    /// 0xffffdfffffffffff). The SDK has its own mappings elsewhere.
    #[must_use]
    pub const fn is_free(self) -> bool {
        self.is_lower() || matches!(self.index(4), 288..=447)
    }
}

const _: () = assert!(HYPERVISOR_FIRST_SLOT + HYPERVISOR_SLOTS <= 288);

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn only_canonical_multiples_of_4096_are_pages() {
        for address in [0, 0x1000, 0x7fff_ffff_f000, 0xffff_8000_0000_0000, 0xffff_ffff_ffff_f000] {
            assert_eq!(Page::at(address).map(Page::address), Some(address));
            assert_eq!(Page::containing(address | 0xfff), Page::at(address));
        }
        for address in [1, 0xfff, 0x8000_0000_0000, 0xffff_7fff_ffff_f000, u64::MAX] {
            assert_eq!(Page::at(address), None, "{address:#x}");
        }
    }

    #[test]
    fn an_address_is_four_indices_of_nine_bits() {
        let page = Page::at(0xffff_8000_0000_0000 | 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12).unwrap();
        assert_eq!([4, 3, 2, 1].map(|level| page.index(level)), [257, 2, 3, 4]);
    }

    #[test]
    fn the_halves_end_where_they_end() {
        assert_eq!(Page::at(0x7fff_ffff_f000).unwrap().next(), None);
        assert_eq!(Page::at(0xffff_ffff_ffff_f000).unwrap().next(), None);
        assert_eq!(Page::at(0).unwrap().next(), Page::at(0x1000));
    }

    #[test]
    fn guests_may_use_what_neither_the_hypervisor_nor_the_sdk_has() {
        let free = |address| Page::at(address).unwrap().is_free();
        assert!(free(0) && free(0x7fff_ffff_f000));
        assert!(free(0xffff_9000_0000_0000) && free(0xffff_dfff_ffff_f000));
        assert!(!free(0xffff_8000_0000_0000), "the hypervisor's");
        assert!(!free(0xffff_8880_0000_0000), "the map of all frames");
        assert!(!free(0xffff_ffff_8000_0000), "the image");
    }
}
