//! A domain's configuration: a file that is valid TOML and a valid xl.cfg alike.
//!
//! ```toml
//! name = "web"
//! kernel = "httpd"
//! memory = 32             # MiB; numbers may be strings
//! vcpus = 2
//! disk = ['/dev/vda2,raw,xvda,w']
//! vif = ['mac=00:16:3e:00:00:02']
//! extra = "port=80"
//! on_crash = "preserve"
//! ```
//!
//! Everything else that xl knows is refused by name, so that nothing is silently left undone.

mod disk;
mod error;
mod vif;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use disk::Disk;
pub use error::{ConfigError, Problem};
pub use vif::{Mac, Rate, Vif};

/// What happens when a domain ends in some way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Then {
    /// It is destroyed.
    #[default]
    Destroy,
    /// It is destroyed, and made again.
    Restart,
    /// It stays, to be looked at.
    Preserve,
    /// Its core is written, then it is destroyed.
    CoredumpDestroy,
    /// Its core is written, then it is destroyed, and made again.
    CoredumpRestart,
}

/// A domain's configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What it is called; no two domains have the same name.
    pub name: String,
    /// Where its files are looked for first, such as `/dev/vda1:/web/`; or nothing.
    pub beside: String,
    /// Where its kernel is.
    pub kernel: String,
    /// Where its ramdisk is, if it has one.
    pub ramdisk: Option<String>,
    /// Unit: MiB.
    pub memory: u64,
    /// Virtual CPUs, 1 to 32.
    pub vcpus: u32,
    /// The real CPUs it may use, one a bit.
    pub cpus: u64,
    /// Its weight against others when CPUs are short: 1 to 65535.
    pub cpu_weight: u16,
    /// The most of the CPUs it may use; 0: no limit. Unit: percent of one CPU.
    pub cap: u16,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network interfaces.
    pub vifs: Vec<Vif>,
    /// Its command line.
    pub extra: String,
    /// After a power-off.
    pub on_poweroff: Then,
    /// After a reboot.
    pub on_reboot: Then,
    /// After a crash.
    pub on_crash: Then,
}

/// The least memory a domain may be given. Unit: MiB.
const LEAST_MEMORY: u64 = 1;
/// The most. Unit: MiB.
const MOST_MEMORY: u64 = 1 << 20;
/// The most virtual CPUs.
const MOST_VCPUS: u64 = 32;
/// The longest name. Unit: bytes.
const LONGEST_NAME: usize = 64;

impl Then {
    /// Whether a core is written first.
    #[must_use]
    pub const fn has_core(self) -> bool {
        matches!(self, Self::CoredumpDestroy | Self::CoredumpRestart)
    }

    /// What is done with the domain after that.
    #[must_use]
    pub const fn after_core(self) -> Self {
        match self {
            Self::CoredumpDestroy => Self::Destroy,
            Self::CoredumpRestart => Self::Restart,
            other => other,
        }
    }
}

impl Config {
    /// Whether its core may be written at an end.
    #[must_use]
    pub const fn has_core(&self) -> bool {
        self.on_poweroff.has_core() || self.on_reboot.has_core() || self.on_crash.has_core()
    }

    /// Reads a configuration; `file` is its name in errors.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the line of what is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let at = |key: &str, span: usize, problem: Problem| ConfigError {
            file: file.to_string(),
            line: 1 + text.bytes().take(span).filter(|&byte| byte == b'\n').count(),
            key: key.to_string(),
            problem,
        };
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().map_or(0, |span| span.start);
            at("", span, Problem::Syntax(error.message().to_string()))
        })?;
        let mut config = Self::default();
        for (key, value) in table.get_ref() {
            config
                .set(key.get_ref(), value)
                .map_err(|problem| at(key.get_ref(), value.span().start, problem))?;
        }
        for (key, missing) in
            [("name", config.name.is_empty()), ("kernel", config.kernel.is_empty())]
        {
            if missing {
                return Err(at(key, 0, Problem::Missing));
            }
        }
        Ok(config)
    }

    /// Changes it by a word `key=value`, where the value may be a string without quotes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with the word in the file's place.
    pub fn change(&mut self, word: &str) -> Result<(), ConfigError> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let at = |key: &str, problem| ConfigError {
            file: word.to_string(),
            line: 1,
            key: key.to_string(),
            problem,
        };
        let bare = alloc::format!("{} = '{}'", key.trim(), value.trim());
        let table = DeTable::parse(word).or_else(|_| DeTable::parse(&bare));
        let table = table.map_err(|_| at("", Problem::Syntax("key=value is expected".into())))?;
        for (key, value) in table.get_ref() {
            let changed = self.set(key.get_ref(), value);
            changed.map_err(|problem| at(key.get_ref(), problem))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Problem> {
        let value = value.get_ref();
        match key {
            "name" => self.name = name(value)?,
            "kernel" => self.kernel = text(value)?,
            "ramdisk" => self.ramdisk = Some(text(value)?),
            "memory" => self.memory = number(value, LEAST_MEMORY, MOST_MEMORY)?,
            "vcpus" => self.vcpus = narrow(number(value, 1, MOST_VCPUS)?),
            "cpus" => self.cpus = cpus(value)?,
            "cpu_weight" => self.cpu_weight = narrow(number(value, 1, 65_535)?),
            "cap" => self.cap = narrow(number(value, 0, 65_535)?),
            "disk" => {
                self.disks =
                    list(value)?.iter().map(|it| Disk::parse(it)).collect::<Result<_, _>>()?
            }
            "vif" => {
                self.vifs =
                    list(value)?.iter().map(|it| Vif::parse(it)).collect::<Result<_, _>>()?
            }
            "extra" => self.extra = text(value)?,
            "on_poweroff" => self.on_poweroff = then(value)?,
            "on_reboot" => self.on_reboot = then(value)?,
            "on_crash" => self.on_crash = then(value)?,
            "type" if text(value)? == "pv" => {}
            "type" => return Err(Problem::Value("only \"pv\" is possible")),
            _ => return Err(Problem::Unknown),
        }
        Ok(())
    }
}

impl Default for Config {
    /// What holds where a file says nothing.
    fn default() -> Self {
        Self {
            name: String::new(),
            beside: String::new(),
            kernel: String::new(),
            ramdisk: None,
            memory: 128,
            vcpus: 1,
            cpus: u64::MAX,
            cpu_weight: 256,
            cap: 0,
            disks: Vec::new(),
            vifs: Vec::new(),
            extra: String::new(),
            on_poweroff: Then::Destroy,
            on_reboot: Then::Restart,
            on_crash: Then::Destroy,
        }
    }
}

/// A number that was found to be in its range.
fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}

fn text(value: &DeValue<'_>) -> Result<String, Problem> {
    value.as_str().map(ToString::to_string).ok_or(Problem::Value("a string is expected"))
}

fn name(value: &DeValue<'_>) -> Result<String, Problem> {
    let name = text(value)?;
    let good = |letter: char| letter.is_ascii_alphanumeric() || "-_.+".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(good) {
        return Err(Problem::Value("a name has 1 to 64 letters, digits, and -_.+"));
    }
    Ok(name)
}

fn number(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, Problem> {
    let number = match value {
        DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
        DeValue::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| (least..=most).contains(number)).ok_or(Problem::Range(least, most))
}

/// Strings in a list; one string alone is a list of it.
fn list(value: &DeValue<'_>) -> Result<Vec<String>, Problem> {
    match value {
        DeValue::String(_) => Ok([text(value)?].into()),
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect(),
        _ => Err(Problem::Value("a list of strings is expected")),
    }
}

/// `all`, or numbers, ranges and exceptions such as `0,2-3,^1`; also as a list.
fn cpus(value: &DeValue<'_>) -> Result<u64, Problem> {
    const WRONG: Problem = Problem::Value("CPUs are \"all\" or like \"0,2-3,^1\", up to 63");
    let words = match value {
        DeValue::Integer(_) => return Ok(1 << number(value, 0, 63)?),
        DeValue::Array(values) if values.first().is_some_and(|it| it.get_ref().is_integer()) => {
            let mut numbers = values.iter().map(|it| number(it.get_ref(), 0, 63));
            return numbers.try_fold(0, |set, cpu| Ok(set | 1 << cpu?));
        }
        _ => list(value)?.join(","),
    };
    let mut set = 0;
    for word in words.split(',').map(str::trim) {
        let (range, add) = word.strip_prefix('^').map_or((word, true), |range| (range, false));
        let (first, last) = match range.split_once('-') {
            _ if range == "all" => (0, 63),
            Some((first, last)) => {
                (first.parse().map_err(|_| WRONG)?, last.parse().map_err(|_| WRONG)?)
            }
            None => range.parse().map(|cpu| (cpu, cpu)).map_err(|_| WRONG)?,
        };
        if first > last || last > 63_u32 {
            return Err(WRONG);
        }
        let bits = (u64::MAX >> (63 - (last - first))) << first;
        set = if add { set | bits } else { set & !bits };
    }
    if set == 0 { Err(WRONG) } else { Ok(set) }
}

fn then(value: &DeValue<'_>) -> Result<Then, Problem> {
    match &*text(value)? {
        "destroy" => Ok(Then::Destroy),
        "restart" => Ok(Then::Restart),
        "preserve" => Ok(Then::Preserve),
        "coredump-destroy" => Ok(Then::CoredumpDestroy),
        "coredump-restart" => Ok(Then::CoredumpRestart),
        _ => Err(Problem::Value(
            "\"destroy\", \"restart\", \"preserve\", \"coredump-destroy\" and \"coredump-restart\" are possible",
        )),
    }
}

#[cfg(test)]
mod tests;
