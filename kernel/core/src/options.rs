//! The kernel's command line: Xen's names and value syntax for what exists here too.
//!
//! Three kinds of words: options that mean something here; options Xen has that mean nothing here,
//! which are accepted and reported ([`Options::ignored`]), so that a boot entry written for Xen
//! works; and everything else, which is refused. A word `--` ends the options: what follows belongs
//! to the initial domain.

mod known;
mod size;

use core::fmt;

use heapless::Vec;

pub use size::{Amount, parse_size};

/// Most ignored options that are reported.
const IGNORED: usize = 32;

/// How much is logged; Xen's names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// Errors.
    Error,
    /// And warnings.
    Warning,
    /// And what happens at boot.
    Info,
    /// And what helps to find a mistake.
    Debug,
    /// Everything.
    All,
}

/// A serial port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Serial {
    /// I/O address of its first register.
    pub port: u16,
    /// Bits per second.
    pub baud: u32,
}

/// Where the console is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Console {
    /// The first serial port.
    Com1,
    /// The second serial port.
    Com2,
    /// Nowhere.
    None,
}

/// What the initial domain gets of memory; amounts not given are the kernel's choice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DomainMemory {
    /// What it starts with.
    pub initial: Option<Amount>,
    /// The least it starts with.
    pub min: Option<Amount>,
    /// The most it may ever have.
    pub max: Option<Amount>,
}

/// Everything the command line says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options<'a> {
    /// `dom0_mem=[min:<amount>,][max:<amount>,][<amount>]`
    pub dom0_memory: DomainMemory,
    /// `dom0_max_vcpus=<number>` or `<min>-<max>`: least and most virtual CPUs of the initial domain.
    pub dom0_vcpus: (Option<u32>, Option<u32>),
    /// `loglvl=<level>`: the kernel's own lines.
    pub log_level: LogLevel,
    /// `guest_loglvl=<level>`: lines about what guests do.
    pub guest_log_level: LogLevel,
    /// `console=com1|com2|none`, a list of which the first that exists here counts.
    pub console: Console,
    /// `com1=<baud>[,8n1[,<port>]]`
    pub com1: Serial,
    /// `com2=`, as `com1`.
    pub com2: Serial,
    /// `noreboot`: when the initial domain has failed, the machine stands still instead of ending.
    pub no_reboot: bool,
    /// `maxcpus=<number>`, and 1 for `nosmp`: how many CPUs to start; none given, all.
    pub max_cpus: Option<u32>,
    /// `mem=<size>`: use no memory at or above this address, in bytes.
    pub memory_limit: Option<u64>,
    /// `trace=<size>`: keep records of what guests do in so much memory, in bytes.
    pub trace: Option<u64>,
    /// `poison`: mark the kernel's stack before each hypercall, for tests that look for what is left of it.
    pub poison: bool,
    /// `meltdown=unsafe`: start on a CPU on which guests can read ring 0's memory.
    pub meltdown_unsafe: bool,
    /// Words that mean something to Xen and nothing here.
    pub ignored: Vec<&'a str, IGNORED>,
    /// What follows `--`: to be appended to the initial domain's command line.
    pub domain_arguments: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            dom0_memory: DomainMemory::default(),
            dom0_vcpus: (None, None),
            log_level: LogLevel::Info,
            guest_log_level: LogLevel::Warning,
            console: Console::Com1,
            com1: Serial { port: 0x3f8, baud: 115_200 },
            com2: Serial { port: 0x2f8, baud: 115_200 },
            no_reboot: false,
            max_cpus: None,
            memory_limit: None,
            trace: None,
            poison: false,
            meltdown_unsafe: false,
            ignored: Vec::new(),
            domain_arguments: "",
        }
    }
}

impl Options<'_> {
    /// The serial port the console is on.
    pub fn serial(&self) -> Option<Serial> {
        match self.console {
            Console::Com1 => Some(self.com1),
            Console::Com2 => Some(self.com2),
            Console::None => None,
        }
    }
}

/// Why the command line is refused. Its text is one sentence for the operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused<'a> {
    /// It is not UTF-8 text.
    NotText,
    /// Neither this kernel nor Xen has the option.
    Unknown(&'a str),
    /// The option exists, its value does not; with what would be right.
    Value(&'a str, &'static str),
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str(
                "the kernel's command line is not UTF-8 text: write it in plain letters",
            ),
            Self::Unknown(word) => write!(
                f,
                "the kernel's command line has `{word}`, which is no option: remove it or correct its spelling"
            ),
            Self::Value(word, right) => {
                write!(f, "the kernel's command line has `{word}`: the value must be {right}")
            }
        }
    }
}

/// Reads the kernel's command line, without the kernel's own name.
///
/// Where an option is given twice, the later one counts.
///
/// # Errors
///
/// [`Refused`], for the first word that is not understood.
pub fn parse(line: &[u8]) -> Result<Options<'_>, Refused<'_>> {
    let line = core::str::from_utf8(line).map_err(|_| Refused::NotText)?;
    let (line, domain_arguments) = split_at_separator(line);
    let mut options = Options { domain_arguments, ..Options::default() };
    for word in line.split_ascii_whitespace() {
        apply(&mut options, word)?;
    }
    Ok(options)
}

/// Splits at the first word that is `--`.
fn split_at_separator(line: &str) -> (&str, &str) {
    if let Some(rest) = line.strip_prefix("-- ") {
        return ("", rest.trim());
    }
    match line.split_once(" -- ") {
        Some((options, rest)) => (options, rest.trim()),
        None => (line.strip_suffix(" --").unwrap_or(line), ""),
    }
}

fn apply<'a>(options: &mut Options<'a>, word: &'a str) -> Result<(), Refused<'a>> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let given = value.unwrap_or("");
    let must_be = |right| Refused::Value(word, right);
    match name {
        "dom0_mem" => {
            options.dom0_memory = domain_memory(given).ok_or(must_be(
                "[min:<amount>,][max:<amount>,][<amount>], an amount like 64M, 25% or -128M",
            ))?;
        }
        "dom0_max_vcpus" => {
            options.dom0_vcpus = vcpus(given).ok_or(must_be("<number> or <min>-<max>"))?;
        }
        "loglvl" => options.log_level = level(given).ok_or(must_be(LEVELS))?,
        "guest_loglvl" => options.guest_log_level = level(given).ok_or(must_be(LEVELS))?,
        "console" => {
            options.console = console(given).ok_or(must_be("a list of com1, com2, vga, none"))?;
        }
        "com1" => options.com1 = serial(given, options.com1).ok_or(must_be(SERIAL))?,
        "com2" => options.com2 = serial(given, options.com2).ok_or(must_be(SERIAL))?,
        "dom0" => dom0(options, word, given)?,
        "noreboot" => options.no_reboot = boolean(value).ok_or(must_be(BOOLEAN))?,
        "maxcpus" => {
            let number = given.parse().ok().filter(|number| *number > 0);
            options.max_cpus = Some(number.ok_or(must_be("a number of CPUs, at least 1"))?);
        }
        "nosmp" => {
            if boolean(value).ok_or(must_be(BOOLEAN))? {
                options.max_cpus = Some(1);
            }
        }
        "mem" => options.memory_limit = Some(parse_size(given).ok_or(must_be("a size like 512M"))?),
        "poison" => options.poison = boolean(value).ok_or(must_be(BOOLEAN))?,
        "trace" => options.trace = Some(parse_size(given).ok_or(must_be("a size like 32M"))?),
        "meltdown" => {
            if given != "unsafe" {
                return Err(must_be("`unsafe`, or the option must go"));
            }
            options.meltdown_unsafe = true;
        }
        _ if known::of_xen(name) => ignore(options, word),
        _ => return Err(Refused::Unknown(word)),
    }
    Ok(())
}

const LEVELS: &str = "none, error, warning, info, debug or all";
const SERIAL: &str = "<baud>[,8n1[,<port>]]";
const BOOLEAN: &str = "yes or no";

/// Reports beyond [`IGNORED`] are lost; the words are ignored all the same.
fn ignore<'a>(options: &mut Options<'a>, word: &'a str) {
    let _ = options.ignored.push(word);
}

/// Xen's ways to write a truth value; the bare name is `yes`.
fn boolean(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("yes" | "on" | "true" | "enable" | "1") => Some(true),
        Some("no" | "off" | "false" | "disable" | "0") => Some(false),
        Some(_) => None,
    }
}

/// `<level>[/<level for lines that are limited in rate>]`; one level serves for both here.
fn level(value: &str) -> Option<LogLevel> {
    let name = |name| {
        Some(match name {
            "none" => LogLevel::None,
            "error" => LogLevel::Error,
            "warning" => LogLevel::Warning,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "all" => LogLevel::All,
            _ => return None,
        })
    };
    match value.split_once('/') {
        Some((first, second)) => name(second).and(name(first)),
        None => name(value),
    }
}

fn console(value: &str) -> Option<Console> {
    let mut chosen = None;
    for device in value.split(',') {
        // A trailing H or L (only bytes with the top bit set, or clear) matters to shared ports.
        let found = match device.trim_end_matches(['H', 'L']) {
            "com1" => Some(Console::Com1),
            "com2" => Some(Console::Com2),
            "none" => Some(Console::None),
            "vga" => None,
            _ => return None,
        };
        chosen = chosen.or(found);
    }
    Some(chosen.unwrap_or(Console::None))
}

/// `<baud>[/<clock>][,<data, parity, stop bits>[,<port>[,<irq>...]]]`
fn serial(value: &str, default: Serial) -> Option<Serial> {
    let mut parts = value.split(',');
    let speed = parts.next()?.split('/').next()?;
    let baud = match speed {
        "auto" | "" => default.baud,
        _ => speed.parse().ok().filter(|baud| (50..=115_200).contains(baud))?,
    };
    if !matches!(parts.next(), None | Some("" | "8n1")) {
        return None;
    }
    let port = match parts.next() {
        None | Some("") => default.port,
        Some(port) => u16::try_from(size::number(port)?).ok()?,
    };
    Some(Serial { port, baud })
}

fn vcpus(value: &str) -> Option<(Option<u32>, Option<u32>)> {
    let number = |text: &str| text.parse::<u32>().ok();
    match value.split_once('-') {
        None => Some((Some(number(value)?), Some(number(value)?))),
        Some((min, "")) => Some((Some(number(min)?), None)),
        Some(("", max)) => Some((None, Some(number(max)?))),
        Some((min, max)) => Some((Some(number(min)?), Some(number(max)?))),
    }
}

fn domain_memory(value: &str) -> Option<DomainMemory> {
    let mut memory = DomainMemory::default();
    for part in value.split(',') {
        if let Some(min) = part.strip_prefix("min:") {
            memory.min = Some(Amount::parse(min)?);
        } else if let Some(max) = part.strip_prefix("max:") {
            memory.max = Some(Amount::parse(max)?);
        } else {
            memory.initial = Some(Amount::parse(part)?);
        }
    }
    Some(memory)
}

fn dom0<'a>(options: &mut Options<'a>, word: &'a str, value: &'a str) -> Result<(), Refused<'a>> {
    const RIGHT: &str = "a list with pv, the only kind of guest there is";
    for part in value.split(',') {
        match part {
            "pv" => {}
            "pvh" | "" => return Err(Refused::Value(word, RIGHT)),
            _ if known::of_dom0(part) => ignore(options, word),
            _ => return Err(Refused::Value(word, RIGHT)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
