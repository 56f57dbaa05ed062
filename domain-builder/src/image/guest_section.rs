//! The section by which kernels described themselves before they had notes.
//!
//! Old builds of Mini-OS and of the BSDs have nothing else. Its text is pairs of a name and a value,
//! `LOADER=generic,VIRT_BASE=0x0`, up to a zero.
use super::features;
use super::notes::Notes;

/// The section's name, with the zero that ends it.
pub(super) const NAME: &[u8] = b"__xen_guest\0";

impl<'a> Notes<'a> {
    /// Takes that section's text. Names that say nothing to a builder are passed over.
    pub(super) fn read_text(&mut self, section: &'a [u8]) {
        let text = section.split(|&byte| byte == 0).next().unwrap_or_default();
        for pair in text.split(|&byte| byte == b',') {
            let mut parts = pair.splitn(2, |&byte| byte == b'=');
            let name = parts.next().unwrap_or_default();
            let value = parts.next().unwrap_or_default();
            match name {
                b"LOADER" => self.loader = Some(value),
                b"GUEST_OS" => self.guest_os = Some(value),
                b"XEN_VER" => self.xen_version = Some(value),
                b"VIRT_BASE" => self.virt_base = Some(number(value)),
                b"VIRT_ENTRY" => self.entry = Some(number(value)),
                b"ELF_PADDR_OFFSET" => self.paddr_offset = Some(number(value)),
                b"HYPERCALL_PAGE" => self.hypercall_page = Some(number(value).wrapping_shl(12)),
                // Xen stops reading here, and judges the kernel by what came before.
                b"FEATURES" if features::check_required(value).is_err() => break,
                _ => {}
            }
        }
        if let (Some(page), Some(base)) = (&mut self.hypercall_page, self.virt_base) {
            *page = page.wrapping_add(base);
        }
        // These kernels' physical addresses are virtual ones, unless they say otherwise.
        self.paddr_offset = self.paddr_offset.or(self.virt_base);
    }
}

/// The number that a text begins with, as C writes them: decimal, octal behind `0`, hexadecimal
/// behind `0x`. Without digits it is 0.
fn number(text: &[u8]) -> u64 {
    let (base, digits) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', digits @ ..] => (8, digits),
        digits => (10, digits),
    };
    let digits = digits.iter().map_while(|&byte| char::from(byte).to_digit(base));
    digits.fold(0, |value: u64, digit| value.wrapping_mul(base.into()).wrapping_add(digit.into()))
}
