//! What addresses on the console mean: function, file and line, from the ELF files that run.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use addr2line::Loader;

use crate::machine::Machine;

/// The part of the address space that belongs to the hypervisor; all else is the guest's.
const HYPERVISOR: std::ops::RangeInclusive<u64> = 0xffff_8000_0000_0000..=0xffff_87ff_ffff_ffff;

/// The files of one machine, read when the first address asks for them.
pub(crate) struct Symbols {
    kernel: Image,
    guest: Image,
    /// By what the lines of a domain below the initial one begin with.
    domains: Vec<(String, Image)>,
}

impl Symbols {
    /// The symbols of what `machine` boots.
    pub(crate) fn of(machine: &Machine) -> Self {
        let below = |(name, path): &(String, PathBuf)| (format!("{name}| "), Image::at(path));
        Self {
            kernel: Image::at(&machine.kernel),
            guest: Image::at(&machine.guest),
            domains: machine.domains.iter().map(below).collect(),
        }
    }

    /// What the address in a line of a dump means: a frame of a backtrace (`  #N 0xADDRESS`), or
    /// the instruction pointer (`rip e033:ADDRESS`, Xen's `RIP: e033:[<ADDRESS>]`). Behind `NAME| ` it is
    /// one of that domain.
    pub(crate) fn note(&self, line: &str) -> Option<String> {
        let address = address(line)?;
        let below = self.domains.iter().find(|(start, _)| line.starts_with(start));
        let image = match below {
            Some((_, image)) => image,
            None if HYPERVISOR.contains(&address) => &self.kernel,
            None => &self.guest,
        };
        describe(image.loader()?, address)
    }
}

/// One ELF file: read at the first question. One without symbols stays silent.
struct Image {
    path: PathBuf,
    loader: OnceCell<Option<Loader>>,
}

impl Image {
    fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), loader: OnceCell::new() }
    }

    fn loader(&self) -> Option<&Loader> {
        self.loader.get_or_init(|| Loader::new(&self.path).ok()).as_ref()
    }
}

fn address(line: &str) -> Option<u64> {
    let hex = |text: &str| {
        let end = text.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(text.len());
        u64::from_str_radix(text.get(..end)?, 16).ok()
    };
    if let Some((_, frame)) = line.split_once(" #") {
        let (number, address) = frame.split_once(" 0x")?;
        number.parse::<u32>().ok()?;
        // Where a call returns to may be the next function's first line already.
        return hex(address)?.checked_sub(1);
    }
    let (_, pointer) = line.split_once("rip ").or_else(|| line.split_once("RIP:"))?;
    let (_, pointer) = pointer.split_once(':')?;
    hex(pointer.trim_start_matches("[<"))
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
            // Line tables alone know short names; the symbol's says where it belongs.
            if !name.as_ref().is_some_and(|whole| whole.ends_with(&*inlined)) {
                name = Some(inlined.into_owned());
            }
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
        assert_eq!(
            address("(PV) error: rip e033:ffffffff80103b9a rflags 2"),
            Some(0xffff_ffff_8010_3b9a)
        );
        assert_eq!(address("(PV) error:   #1 0x11"), Some(0x10));
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
