//! What this domain was given, line by line, in a form that is the same on every hypervisor of
//! the ABI but for values marked as varying.

use core::sync::atomic::Ordering::Relaxed;

use pv_guest_sdk::abi::memory::{E820_RAM, E820Entry};
use pv_guest_sdk::abi::start::StartFlags;
use pv_guest_sdk::abi::types::Pfn;
use pv_guest_sdk::raw::m2p;
use pv_guest_sdk::raw::registers::at_entry;
use pv_guest_sdk::raw::shared::shared_info;
use pv_guest_sdk::shared::VCPUS;
use pv_guest_sdk::{BootInfo, HypercallError, Machine, cpuid, memory, println, vary, version};

use crate::layout::Layout;

/// All of it.
///
/// # Errors
/// Those of a hypervisor that is not of this ABI.
pub(crate) fn all(boot: &BootInfo<'_>) -> Result<(), HypercallError> {
    registers();
    start_of_day(boot);
    shared_page(boot)?;
    hypervisor()?;
    machine();
    Ok(())
}

/// Which power-management tasks are the domain's: a setting of the hypervisor.
const PM_MASK: StartFlags = StartFlags::PM_MASK;
/// Ranges of the machine's memory map that are read at most.
const RANGES: usize = 64;

/// The start-of-day page and what it points to.
fn start_of_day(boot: &BootInfo<'_>) {
    println!("abi: {}", boot.magic());
    println!("command line: {}", boot.command_line());
    let (kind, power) = (boot.flags().difference(PM_MASK), boot.flags().intersection(PM_MASK));
    println!("flags: {kind:?}, {}", vary!("power", "{:#x}", power.bits()));
    println!("memory: {} pages", vary!("size", boot.pages()));
    let (ramdisk, checksum) = (boot.ramdisk(), crc32fast::hash(boot.ramdisk()));
    println!("ramdisk: {} bytes, checksum {checksum:#010x}", ramdisk.len());
    let layout = Layout::of(boot);
    println!("ascending: {layout}");
    println!("frame list: {}", vary!("at", "{:#x}", layout.frame_list));
    println!(
        "page tables: {} {}",
        vary!("at", "{:#x}", layout.page_tables),
        vary!("frames", boot.start_info().nr_pt_frames)
    );
    frames(boot);
}

/// The registers at the first instruction.
fn registers() {
    let r = at_entry();
    println!("cs {:#x}, ss {:#x}, rflags {:#x}", r.cs, r.ss, r.rflags);
    println!("ds {:#x}, es {:#x}, fs {:#x}, gs {:#x}", r.ds, r.es, r.fs, r.gs);
    println!("rsi: {}, rsp: {}", vary!("start", "{:#x}", r.rsi), vary!("stack", "{:#x}", r.rsp));
    let rest = [r.rax, r.rcx, r.rdx, r.rbx, r.rbp, r.rdi, r.r8, r.r9];
    let more = [r.r10, r.r11, r.r12, r.r13, r.r14, r.r15];
    let used = rest.iter().chain(&more).filter(|&&value| value != 0).count();
    println!("other registers that are not zero: {used}");
}

/// Whether the machine's table of frames leads back from each frame to its page.
fn frames(boot: &BootInfo<'_>) {
    let list = boot.frames();
    let astray = (0..boot.pages())
        .map(Pfn)
        .filter(|&page| list.get(page).and_then(m2p::lookup) != Some(page));
    println!("pages that are not found by their frame: {}", astray.count());
}

/// The page shared with the hypervisor: held-back and pending events, and whether its clocks run.
///
/// # Errors
/// If the hypervisor does not let it be mapped.
fn shared_page(boot: &BootInfo<'_>) -> Result<(), HypercallError> {
    let page = shared_info(&Machine, boot)?;
    let held = page.vcpus.iter().filter(|vcpu| vcpu.upcall_mask.load(Relaxed) != 0).count();
    let pending = page.vcpus.iter().filter(|vcpu| vcpu.upcall_pending.load(Relaxed) != 0).count();
    println!("virtual CPUs: {} slots, {held} hold events back, {pending} have one", VCPUS);
    let clock = page.vcpus.iter().take(1).any(|vcpu| vcpu.time.system_time.load(Relaxed) != 0);
    let wall = page.wall_clock_seconds.load(Relaxed) != 0;
    println!("clocks: {} {}", vary!("system", runs(clock)), vary!("wall", runs(wall)));
    Ok(())
}

const fn runs(set: bool) -> &'static str {
    if set { "runs" } else { "unset" }
}

/// What the hypervisor says of itself.
///
/// # Errors
/// Those of a hypervisor that is not of this ABI.
fn hypervisor() -> Result<(), HypercallError> {
    let (number, extra) = (version::version(&Machine)?, version::extra_version(&Machine)?);
    println!("hypervisor: {}", vary!("version", "{}{}", number, extra));
    println!("hypervisor's memory from {:#x}", version::hypervisor_start(&Machine)?);
    println!("page size: {}", version::page_size(&Machine)?);
    println!("features: {}", vary!("bits", "{:#x}", version::features(&Machine, 0)?));
    println!("guests it runs: {}", vary!("capabilities", version::capabilities(&Machine)?));
    println!("its sources: {}", vary!("changeset", version::changeset(&Machine)?));
    println!("its command line: {}", vary!("words", version::command_line(&Machine)?));
    let leaf = cpuid::leaf(&Machine, cpuid::HYPERVISOR, 0);
    println!("processor's hypervisor: {}", cpuid::Signature::of(leaf));
    Ok(())
}

/// The machine's memory map, which not every hypervisor gives.
fn machine() {
    let mut ranges = [E820Entry::default(); RANGES];
    match memory::machine_memory_map(&Machine, &mut ranges) {
        Ok(map) => {
            let ram: u64 = map
                .iter()
                .filter(|range| range.kind.get() == E820_RAM)
                .map(|range| range.size.get())
                .sum();
            println!("machine: {}", vary!("memory", "{}_ranges,{}_MiB", map.len(), ram >> 20));
        }
        Err(error) => println!("machine: {}", vary!("memory", error.name())),
    }
}
