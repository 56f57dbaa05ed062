//! The features a kernel asks for by name.
use super::NoteError;

/// The one feature that is known and can't be had.
const RING0: &[u8] = b"supervisor_mode_kernel";

/// Names that Xen 4.17 knows. A kernel may require any other of them: nobody checks whether it is
/// offered, and kernels rely on that (Linux requires the first, which no domain gets).
const KNOWN: [&[u8]; 7] = [
    b"writable_page_tables",
    b"writable_descriptor_tables",
    b"auto_translated_physmap",
    RING0,
    b"pae_pgdir_above_4gb",
    b"hvm_callback_vector",
    b"dom0",
];

/// Checks the names behind a `!` in a list separated by `|`.
pub(super) fn check_required(list: &[u8]) -> Result<(), NoteError> {
    let list = list.split(|&byte| byte == 0).next().unwrap_or_default();
    for name in list.split(|&byte| byte == b'|') {
        match name.strip_prefix(b"!") {
            Some(RING0) => return Err(NoteError::FeatureRing0),
            Some(name) if !KNOWN.contains(&name) => return Err(NoteError::FeatureUnknown),
            _ => {}
        }
    }
    Ok(())
}
