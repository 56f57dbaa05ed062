//! What a guest is told when it starts: its size, its flags, its command line, its ramdisk, where
//! its page tables and its list of frames lie.

use core::fmt;

use hypercall_abi::start::{StartFlags, StartInfo};

use crate::frames::FrameList;

/// What the loader left for the guest, checked once at the start.
///
/// It borrows the start-of-day page, the ramdisk and the list of frames, all of which belong to
/// the guest.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, println};
/// # fn example(boot: &BootInfo<'_>) {
/// println!("{} pages, {:?}, for {}", boot.pages(), boot.flags(), boot.magic());
/// let count: u32 = boot.argument("count").and_then(|word| word.parse().ok()).unwrap_or(1);
/// let is_quiet = boot.arguments().any(|word| word == "quiet");
/// println!("{count} times, quietly: {is_quiet}, of `{}`", boot.command_line());
/// println!("a ramdisk of {} bytes", boot.ramdisk().len());
/// println!("{} entries in the list of frames", boot.frames().len());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BootInfo<'a> {
    start: &'a StartInfo,
    ramdisk: &'a [u8],
    frames: FrameList<'a>,
}

impl<'a> BootInfo<'a> {
    /// Puts together what the start-of-day page says and the two areas it points to.
    ///
    /// For guests in a process: on the machine only the loader's page makes a `BootInfo`, which
    /// is why what is done with its addresses there is safe.
    ///
    /// # Errors
    /// [`BootError::Magic`] if the page is not one of this ABI.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{BootInfo, abi::start::StartInfo, boot::BootError, frames::FrameList, println};
    /// # fn example(page: &StartInfo, frames: FrameList<'_>) -> Result<(), BootError> {
    /// let boot = BootInfo::new(page, &[], frames)?; // for a test
    /// println!("{} pages", boot.start_info().nr_pages);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(not(target_os = "none"))]
    pub fn new(
        start: &'a StartInfo,
        ramdisk: &'a [u8],
        frames: FrameList<'a>,
    ) -> Result<Self, BootError> {
        Self::check(start, ramdisk, frames)
    }

    pub(crate) fn check(
        start: &'a StartInfo,
        ramdisk: &'a [u8],
        frames: FrameList<'a>,
    ) -> Result<Self, BootError> {
        if !start.magic.starts_with(b"xen-3.") {
            return Err(BootError::Magic);
        }
        Ok(Self { start, ramdisk, frames })
    }

    /// The ABI's name, `xen-3.0-x86_64`.
    #[must_use]
    pub fn magic(&self) -> &'a str {
        text(&self.start.magic)
    }

    /// Pages of memory the domain has. Unit: 4 KiB pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.start.nr_pages
    }

    /// What kind of domain this is.
    #[must_use]
    pub fn flags(&self) -> StartFlags {
        StartFlags::from_bits_retain(self.start.flags)
    }

    /// The command line, up to its first byte that is not UTF-8.
    #[must_use]
    pub fn command_line(&self) -> &'a str {
        text(&self.start.cmd_line)
    }

    /// The words of the command line.
    pub fn arguments(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.command_line().split_ascii_whitespace()
    }

    /// The value of the first word `name=value` of the command line.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&'a str> {
        self.arguments().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The ramdisk, empty if there is none.
    #[must_use]
    pub const fn ramdisk(&self) -> &'a [u8] {
        self.ramdisk
    }

    /// Which machine frame is behind which page of the guest.
    #[must_use]
    pub const fn frames(&self) -> FrameList<'a> {
        self.frames
    }

    /// The start-of-day page itself, for what has no accessor here.
    #[must_use]
    pub const fn start_info(&self) -> &'a StartInfo {
        self.start
    }
}

/// The text before the first NUL and before the first byte that is not UTF-8.
pub(crate) fn text(bytes: &[u8]) -> &str {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// Why a start-of-day page cannot be used.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{boot::BootError};
/// assert!(!BootError::Magic.to_string().is_empty());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BootError {
    /// It is not where a loader could have put it: the address is not a page's or not the
    /// guest's.
    Address(u64),
    /// It does not begin with `xen-3.`.
    Magic,
    /// It points to an area (its address, its length in bytes) that cannot be the guest's.
    Area(u64, u64),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "no start-of-day page can lie at {address:#x}"),
            Self::Magic => f.write_str("the start-of-day page does not begin with \"xen-3.\""),
            Self::Area(address, length) => {
                write!(f, "the start-of-day page names {length:#x} bytes at {address:#x}")
            }
        }
    }
}

impl core::error::Error for BootError {}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;

    use zerocopy::FromZeros;

    use super::{BootError, BootInfo, text};
    use hypercall_abi::start::{StartFlags, StartInfo};
    use hypercall_abi::types::{Mfn, Pfn};

    use crate::frames::FrameList;

    fn page(command_line: &[u8]) -> StartInfo {
        let mut start = StartInfo::new_zeroed();
        start.magic[..14].copy_from_slice(b"xen-3.0-x86_64");
        start.cmd_line[..command_line.len()].copy_from_slice(command_line);
        start.nr_pages = 2;
        start.flags = 0x303;
        start
    }

    #[test]
    fn a_page_says_what_the_loader_wrote() {
        let start = page(b"a name=one  name=two");
        let entries = [AtomicU64::new(7), AtomicU64::new(u64::MAX)];
        let boot = BootInfo::new(&start, b"disk", FrameList::new(&entries)).unwrap();
        assert_eq!(boot.magic(), "xen-3.0-x86_64");
        assert_eq!(boot.pages(), 2);
        assert_eq!(boot.flags().bits(), 0x303);
        assert!(boot.flags().contains(StartFlags::PRIVILEGED | StartFlags::INITDOMAIN));
        assert_eq!(boot.ramdisk(), b"disk");
        assert_eq!(boot.frames().get(Pfn(0)), Some(Mfn(7)));
        assert_eq!(boot.frames().get(Pfn(1)), None, "a page without a frame");
        assert_eq!(boot.frames().get(Pfn(2)), None, "a page that does not exist");
        assert_eq!(boot.arguments().collect::<std::vec::Vec<_>>(), ["a", "name=one", "name=two"]);
        assert_eq!(boot.argument("name"), Some("one"));
        assert_eq!(boot.argument("nam"), None);
        assert_eq!(boot.argument("a"), None, "a word without a value");
    }

    #[test]
    fn another_abi_is_refused() {
        let mut start = page(b"");
        start.magic[4] = b'4';
        assert_eq!(BootInfo::new(&start, &[], FrameList::new(&[])).err(), Some(BootError::Magic));
    }

    #[test]
    fn a_command_line_may_fill_its_field() {
        let start = page(&[b'x'; 1024]);
        let boot = BootInfo::new(&start, &[], FrameList::new(&[])).unwrap();
        assert_eq!(boot.command_line().len(), 1024);
    }

    #[test]
    fn text_ends_at_the_first_byte_that_is_none() {
        assert_eq!(text(b"ab\0cd"), "ab");
        assert_eq!(text(b"ab\xffcd"), "ab");
        assert_eq!(text(b"\xff"), "");
        assert_eq!(text(b""), "");
        assert_eq!(text("\u{e4}\0".as_bytes()), "\u{e4}");
    }
}
