//! What addresses on the console mean: function, file and line, from the ELF files that run.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use addr2line::Loader;

use crate::machine::Machine;

/// The part of the address space that belongs to the hypervisor; all else is the guest's.
const HYPERVISOR: std::ops::RangeInclusive<u64> = 0xffff_8000_0000_0000..=0xffff_87ff_ffff_ffff;

/// The files of one machine, read when the first address asks for them.
pub(crate) struct Symbols {
    kernel: Image,
    guest: Image,
}

impl Symbols {
    /// The symbols of what `machine` boots.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self {
            kernel: Image::Unread(machine.kernel.clone()),
            guest: Image::Unread(machine.guest.clone()),
        }
    }

    /// What the address in a line of a dump means: a frame of a backtrace (`  #N 0xADDRESS`), or
    /// the instruction pointer in Xen's dump of a guest (`RIP: e033:[<ADDRESS>]`).
    pub(crate) fn note(&mut self, line: &str) -> Option<String> {
        let address = address(line)?;
        let image = if HYPERVISOR.contains(&address) { &mut self.kernel } else { &mut self.guest };
        describe(image.loader()?, address)
    }
}

enum Image {
    Unread(PathBuf),
    Read(Box<Loader>),
    Useless,
}

impl Image {
    fn loader(&mut self) -> Option<&Loader> {
        if let Self::Unread(path) = self {
            *self = read(path);
        }
        match self {
            Self::Read(loader) => Some(loader),
            Self::Unread(_) | Self::Useless => None,
        }
    }
}

fn read(path: &Path) -> Image {
    match Loader::new(path) {
        Ok(loader) => Image::Read(Box::new(loader)),
        // A guest without symbols, or not an ELF file: its addresses stay numbers.
        Err(_) => Image::Useless,
    }
}

fn address(line: &str) -> Option<u64> {
    let (_, text) = line.split_once(") ").unwrap_or(("", line));
    let text = text.trim_start();
    if let Some(frame) = text.strip_prefix('#') {
        let (number, address) = frame.split_once(" 0x")?;
        number.parse::<u32>().ok()?;
        let address = u64::from_str_radix(address.split_whitespace().next()?, 16).ok()?;
        // Where a call returns to may be the next function's first line already.
        return address.checked_sub(1);
    }
    let (_, pointer) = text.strip_prefix("RIP:")?.split_once("[<")?;
    u64::from_str_radix(pointer.split_once('>')?.0, 16).ok()
}

fn describe(loader: &Loader, address: u64) -> Option<String> {
    let mut name = loader
        .find_symbol(address)
        .map(|name| addr2line::demangle_auto(Cow::from(name), None).into_owned());
    let mut place = None;
    if let Ok(mut frames) = loader.find_frames(address)
        && let Ok(Some(frame)) = frames.next()
    {
        if let Some(Ok(inlined)) = frame.function.as_ref().map(|function| function.demangle()) {
            name = Some(inlined.into_owned());
        }
        place = frame
            .location
            .and_then(|location| Some(format!("{}:{}", location.file?, location.line?)));
    }
    match (name, place) {
        (Some(name), Some(place)) => Some(format!("{name} at {place}")),
        (name, place) => name.or(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_frames_and_dumps_only() {
        assert_eq!(address("(PV)   #12 0xffff828000001234"), Some(0xffff_8280_0000_1233));
        assert_eq!(address("  #0 0x10 in main"), Some(0xf));
        assert_eq!(address("(XEN) RIP:    e033:[<ffffffff80100020>]"), Some(0xffff_ffff_8010_0020));
        assert_eq!(address("rip 0x1234"), None);
        assert_eq!(address("# 0x1234"), None);
    }

    #[test]
    fn a_function_is_named_with_file_and_line() {
        use object::{Object, ObjectSymbol};
        let own = std::env::current_exe().expect("path");
        let bytes = std::fs::read(&own).expect("file");
        let file = object::File::parse(&*bytes).expect("ELF");
        let is_describe = |name: &str| name.contains("symbols") && name.contains("describe");
        let symbol = file.symbols().find(|symbol| symbol.name().is_ok_and(is_describe));
        let inside = symbol.expect("symbol").address() + 1;
        let loader = Loader::new(&own).expect("symbols");
        let note = describe(&loader, inside).expect("note");
        assert!(note.contains("xtask::symbols::describe"), "{note}");
        assert!(note.contains("symbols.rs:"), "{note}");
    }
}
