//! Segment descriptors of a guest's own.

/// One descriptor of 8 bytes.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{descriptor::Descriptor};
/// let data = Descriptor::data(0x1000, 0xff);
/// assert_ne!(data, data.absent());
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Descriptor(pub u64);

const PRESENT: u64 = 1 << 47;
const SEGMENT: u64 = 1 << 44;
const RING_3: u64 = 3 << 45;
const CODE: u64 = 0xb << 40;
const DATA: u64 = 0x3 << 40;
const LONG: u64 = 1 << 53;
const BITS_32: u64 = 1 << 54;
const PAGES: u64 = 1 << 55;

impl Descriptor {
    /// No segment.
    pub const NULL: Self = Self(0);

    /// Code of 64 bits.
    pub const CODE_64: Self = Self(PRESENT | SEGMENT | RING_3 | CODE | LONG | PAGES | LIMIT_ALL);

    /// Data from `base` on, `limit` + 1 bytes. The highest 12 bits of the limit are lost.
    #[must_use]
    pub const fn data(base: u32, limit: u32) -> Self {
        let (base, limit) = (base as u64, limit as u64);
        let low = limit & 0xffff | (limit >> 16 & 0xf) << 48;
        let place = (base & 0xff_ffff) << 16 | (base >> 24) << 56;
        Self(PRESENT | SEGMENT | RING_3 | DATA | BITS_32 | low | place)
    }

    /// The same segment, marked absent: loading it is a trap.
    #[must_use]
    pub const fn absent(self) -> Self {
        Self(self.0 & !PRESENT)
    }
}

const LIMIT_ALL: u64 = 0xf << 48 | 0xffff;

#[cfg(target_os = "none")]
pub use crate::raw::descriptor::{Gdt, Ldt};

#[cfg(test)]
mod tests {
    use super::Descriptor;

    #[test]
    fn descriptors_are_what_the_manual_says() {
        assert_eq!(Descriptor::CODE_64.0, 0x00af_fb00_0000_ffff);
        assert_eq!(Descriptor::data(0, 0xf_ffff).0, 0x004f_f300_0000_ffff);
        assert_eq!(Descriptor::data(0x1234_5678, 0xa_bcde).0, 0x124a_f334_5678_bcde);
        assert_eq!(Descriptor::data(0, 0).absent().0, 0x0040_7300_0000_0000);
    }
}
