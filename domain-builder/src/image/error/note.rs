//! The notes for Xen, each alone.
use core::fmt;

/// Why the notes don't make a PV guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in the sentences below")]
pub enum NoteError {
    /// No note of Xen's.
    None,
    /// A number of neither 4 nor 8 bytes.
    Size { note: &'static str, len: u64 },
    /// No note `XEN_VERSION`.
    VersionMissing,
    /// `XEN_VERSION` other than "xen-3.0".
    VersionUnknown,
    /// No note LOADER.
    LoaderMissing,
    /// LOADER other than "generic".
    LoaderUnknown,
    /// `PADDR_OFFSET` without `VIRT_BASE`.
    BaseMissing,
    /// The kernel insists on a feature that nobody knows.
    FeatureUnknown,
    /// The kernel insists on running in ring 0.
    FeatureRing0,
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str(
                "no Xen notes, neither in PT_NOTE segments nor in note sections, and no section \
                 __xen_guest: this is not a kernel for Xen PV (a Linux kernel needs CONFIG_XEN_PV)",
            ),
            Self::Size { note, len } => write!(
                f,
                "Xen note {note} holds {len} bytes where a number of 4 or 8 bytes belongs: correct \
                 the note"
            ),
            Self::VersionMissing => {
                f.write_str("Xen note XEN_VERSION (5) is missing: add it with value \"xen-3.0\"")
            }
            Self::VersionUnknown => f.write_str(
                "Xen note XEN_VERSION (5) does not begin with \"xen-3.0\", the only interface \
                 there is: correct the note",
            ),
            Self::LoaderMissing => {
                f.write_str("Xen note LOADER (8) is missing: add it with value \"generic\"")
            }
            Self::LoaderUnknown => f.write_str(
                "Xen note LOADER (8) does not begin with \"generic\": this kernel asks for another \
                 loader and can't be booted until the note is changed",
            ),
            Self::BaseMissing => f.write_str(
                "Xen note PADDR_OFFSET (4) is given without VIRT_BASE (3): add VIRT_BASE or drop \
                 PADDR_OFFSET",
            ),
            Self::FeatureUnknown => f.write_str(
                "Xen note FEATURES (10) requires, by a leading \"!\", a feature that does not \
                 exist: correct the note",
            ),
            Self::FeatureRing0 => f.write_str(
                "Xen note FEATURES (10) requires supervisor_mode_kernel, which no 64-bit PV guest \
                 gets: build the kernel without it",
            ),
        }
    }
}
