//! Log records of the `log` crate, on the hypervisor's console.
//!
//! One record is one line, `LEVEL target: message`. Levels up to `info` are shown; the word
//! `log=LEVEL` on the guest's command line says otherwise.

use log::{LevelFilter, Log, Metadata, Record};

use crate::boot::BootInfo;

struct ConsoleLog;

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            crate::println!("{:5} {}: {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// The level a command line asks for.
fn level(boot: &BootInfo<'_>) -> LevelFilter {
    boot.argument("log").and_then(|word| word.parse().ok()).unwrap_or(LevelFilter::Info)
}

/// Sends log records to the console. [`crate::entry!`] does so before `main`; a second call only
/// sets the level again.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, log, logger};
/// # fn example(boot: &BootInfo<'static>) {
/// logger::start(boot); // at the level that the command line names
/// log::info!("{} pages", boot.pages());
/// # }
/// ```
pub fn start(boot: &BootInfo<'_>) {
    let _already_set = log::set_logger(&ConsoleLog);
    log::set_max_level(level(boot));
}

#[cfg(test)]
mod tests {
    use hypercall_abi::start::StartInfo;
    use log::LevelFilter;
    use zerocopy::FromZeros;

    use super::level;
    use crate::boot::BootInfo;
    use crate::frames::FrameList;

    #[test]
    fn the_command_line_chooses_the_level() {
        for (words, expected) in [
            ("", LevelFilter::Info),
            ("log=debug", LevelFilter::Debug),
            ("a log=OFF b", LevelFilter::Off),
            ("log=nonsense", LevelFilter::Info),
            ("verylog=debug", LevelFilter::Info),
        ] {
            let mut start = StartInfo::new_zeroed();
            start.magic[..6].copy_from_slice(b"xen-3.");
            start.cmd_line[..words.len()].copy_from_slice(words.as_bytes());
            let boot = BootInfo::new(&start, &[], FrameList::new(&[])).unwrap();
            assert_eq!(level(&boot), expected, "{words:?}");
        }
    }
}
