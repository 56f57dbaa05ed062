//! Makes many small domains, which wait for ever, and ends them: what that costs the hypervisor, in
//! time and in memory, and whether it leaves anything behind.
//!
//! Command line: `live=N`, domains that are there at once (50); `cycles=N`, domains made and ended
//! one after the other (100); `pages=N`, the memory of each (2048); `strict`: it is an error if one of
//! many takes more than 20 KiB of the hypervisor's, or the last of many costs 5 % more than the first.
//! The ramdisk has the guest, `still`. What takes how long is told in units of the processor's counter: instructions, where the
//! machine counts them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, vec::Vec};
use core::error::Error;
use core::sync::atomic::Ordering;

use pv_guest_sdk::abi::domctl::DomainFlags;
use pv_guest_sdk::abi::regs::VcpuGuestContext;
use pv_guest_sdk::abi::types::{DomId, Mfn, VcpuId};
use pv_guest_sdk::control::{ControlError, CreateDomain, Domain, MaxMem, Plain, survey};
use pv_guest_sdk::extension::{self, Rings};
use pv_guest_sdk::paging::{Memory, Page};
use pv_guest_sdk::raw::registers::counter;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, Machine, entry, println, vary, wait};
use toolstack::archive::files;
use toolstack::build::{self, Settings};
use toolstack::end::End;

entry!(main);
pv_guest_sdk::heap!();

/// Where frames of domains are mapped.
const WINDOW: u64 = 0xffff_a000_0000_0000;
/// How often it is asked whether memory is free that was given back.
const PATIENCE: u64 = 1000;
/// What fills the memory of a domain, for the next one to be searched for.
const MARKER: u32 = 0x6d61_726b;

/// What a domain may take of the hypervisor's memory, beside what it sees itself. Unit: bytes.
const MOST: u64 = 20 << 10;

struct Crowd<'a> {
    settings: Settings<'a>,
    strict: bool,
    window: Page,
}

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    Vcpu::start(boot)?;
    Memory::start(boot)?;
    let file = files(boot.ramdisk()).next().ok_or("the ramdisk has no guest")??;
    let window = Page::at(WINDOW).ok_or("no window")?;
    let pages = word(boot, "pages", 2048)?;
    let settings =
        Settings { image: file.bytes, ramdisk: &[], command_line: "wait", pages, vcpus: 1 };
    let strict = boot.arguments().any(|word| word == "strict");
    let crowd = Crowd { settings, strict, window };
    crowd.hide_and_seek()?;
    crowd.changed()?;
    crowd.live(word(boot, "live", 50)?)?;
    crowd.cycles(word(boot, "cycles", 100)?)
}

/// The number that the command line gives a name.
fn word(boot: &BootInfo<'_>, name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    let mut words = boot.arguments().filter_map(|word| word.split_once('='));
    let value = words.find(|(word, _)| *word == name).map(|(_, value)| value.parse());
    value.unwrap_or(Ok(default)).map_err(|_| format!("`{name}` is to be a number").into())
}

/// Frames that are free. Unit: frames.
fn free() -> Result<u64, Box<dyn Error>> {
    Ok(survey::machine()?.free_pages)
}

/// What something costs, in units of the processor's counter.
fn cost<T>(what: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<(u64, T), Box<dyn Error>> {
    let before = counter();
    let done = what()?;
    Ok((counter() - before, done))
}

/// Whether the last of many costs more than the first.
fn rises(costs: &[u64]) -> bool {
    let [first, .., last] = costs else { return false };
    last.abs_diff(*first) > first / 20
}

impl Crowd<'_> {
    /// Makes a domain, which is paused.
    fn make(&self) -> Result<Domain, Box<dyn Error>> {
        Ok(build::domain(&self.settings, self.window)?.domain)
    }

    /// Fills a domain's memory, ends it, and looks for that in the next one's.
    fn hide_and_seek(&self) -> Result<(), Box<dyn Error>> {
        let first = self.bare()?;
        let hidden: u64 = self.search(&first, true)?;
        first.0.control(Plain::Destroy)?;
        let second = self.bare()?;
        let again = second.1.iter().filter(|frame| first.1.contains(frame)).count();
        let found = self.search(&second, false)?;
        second.0.control(Plain::Destroy)?;
        println!(
            "marker: {} frames of {} came back, {found} words in them",
            vary!("again", again),
            self.settings.pages
        );
        if found != 0 || hidden != 0 || again == 0 {
            return Err("memory of a domain that has ended is seen by the next".into());
        }
        Ok(())
    }

    /// A domain is known by what it was connected to, and its vCPU takes another state, if that has
    /// the same tables.
    fn changed(&self) -> Result<(), Box<dyn Error>> {
        let built = build::domain(&self.settings, self.window)?;
        let known = extension::rings(&Machine, built.domain.id())?;
        let is_built = |rings: Rings| {
            (rings.console_frame, rings.console_port) == (built.console.0, built.console_port.0)
                && (rings.store_frame, rings.store_port) == (built.store.0, built.store_port.0)
        };
        let mut state = VcpuGuestContext::default();
        built.domain.context(VcpuId(0), &mut state)?;
        built.domain.set_context(VcpuId(0), &mut state)?;
        let mut again = VcpuGuestContext::default();
        built.domain.context(VcpuId(0), &mut again)?;
        let same = (again.user_regs, again.ctrlreg) == (state.user_regs, state.ctrlreg);
        state.ctrlreg[3] += 1 << 12;
        let refused = match built.domain.set_context(VcpuId(0), &mut state) {
            Err(ControlError::Refused(error)) => error.name(),
            _ => "nothing",
        };
        Self::settle(&built.domain)?;
        built.domain.control(Plain::Destroy)?;
        println!("rings: {}", vary!("known", "{:?}", known.map(is_built)));
        println!("state: the same {same}, with other tables {refused}");
        if !same || !known.is_none_or(is_built) || refused != "EOPNOTSUPP" {
            return Err("what a domain is told is not what it has".into());
        }
        Ok(())
    }

    /// A domain with memory that nobody has looked at, and its frames.
    fn bare(&self) -> Result<(Domain, Vec<u64>), Box<dyn Error>> {
        let settings = CreateDomain {
            max_vcpus: 1,
            max_evtchn_port: 1023,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_opts: 1,
            ..CreateDomain::default()
        };
        let domain = Domain::create(DomId(0), &settings)?;
        domain.apply(&mut MaxMem { max_memkb: 4 * self.settings.pages })?;
        let mut frames: Vec<u64> = (0..self.settings.pages).collect();
        domain.populate(&mut frames)?;
        Ok((domain, frames))
    }

    /// How many words of a domain's memory are not zero; perhaps fills it with the marker then.
    fn search(
        &self,
        (domain, frames): &(Domain, Vec<u64>),
        fill: bool,
    ) -> Result<u64, Box<dyn Error>> {
        let mut found = 0;
        for &frame in frames {
            let page = domain.map(self.window, Mfn(frame))?;
            for place in page.words() {
                found += u64::from(place.load(Ordering::Relaxed) == MARKER);
                if fill {
                    place.store(MARKER, Ordering::Relaxed);
                }
            }
        }
        Ok(found)
    }

    /// Lets a domain run until it waits.
    fn settle(domain: &Domain) -> Result<(), Box<dyn Error>> {
        domain.control(Plain::Unpause)?;
        loop {
            let info = domain.info()?;
            if let Some(end) = End::of(&info) {
                return Err(format!("a domain that is to wait has ended: {end}").into());
            }
            let flags = DomainFlags::from_bits_retain(info.flags);
            if flags.contains(DomainFlags::BLOCKED) && !flags.contains(DomainFlags::RUNNING) {
                return Ok(());
            }
            wait::yield_now();
        }
    }

    /// Many at once.
    fn live(&self, count: u64) -> Result<(), Box<dyn Error>> {
        let before = free()?;
        let mut domains = Vec::new();
        let (mut made, mut ended) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let there = free()?;
            let (time, domain) = cost(|| self.make())?;
            Self::settle(&domain)?;
            // Its own pages, the one it shares with the hypervisor, and that of its grants.
            let visible = domain.info()?.tot_pages.max(self.settings.pages) + 2;
            let kernel = 4 * (there - free()?).saturating_sub(visible);
            if number == 1 || number == count / 2 || number == count {
                println!("domain {number}: {}", vary!("cost", "{}_made,{}_KiB", time, kernel));
            }
            domains.push(domain);
            made.push(time);
        }
        let visible = count * (self.settings.pages + 2);
        let kernel = 4096 * (before - free()?).saturating_sub(visible);
        let each = kernel.checked_div(count).unwrap_or(0);
        println!("{count} domains live, {} of kernel memory each", vary!("bytes", each));
        for (number, domain) in (1..).zip(domains) {
            let (time, ()) = cost(|| Ok(domain.control(Plain::Destroy)?))?;
            if number == 1 || number == count / 2 || number == count {
                println!("domain {number}: {}", vary!("cost", "{}_ended", time));
            }
            ended.push(time);
        }
        println!("free: {}", vary!("frames", "{}_before,{}_after", before, free()?));
        if self.strict && (each > MOST || rises(&made) || rises(&ended)) {
            return Err("one of many costs more than a single one, or too much".into());
        }
        Ok(())
    }

    /// One after the other.
    fn cycles(&self, count: u64) -> Result<(), Box<dyn Error>> {
        let before = free()?;
        for number in 1..=count {
            let (made, domain) = cost(|| self.make())?;
            Self::settle(&domain)?;
            let (ended, ()) = cost(|| Ok(domain.control(Plain::Destroy)?))?;
            if number == 1 || number == count {
                println!("cycle {number}: {}", vary!("cost", "{}_made,{}_ended", made, ended));
            }
        }
        // Some hypervisors take their time.
        for _ in 0..PATIENCE {
            if free()? < before {
                wait::yield_now();
            }
        }
        let after = free()?;
        println!("{count} cycles, free: {}", vary!("frames", "{}_before,{}_after", before, after));
        if before <= after { Ok(()) } else { Err("memory is lost from cycle to cycle".into()) }
    }
}
