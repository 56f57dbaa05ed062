//! Running guests: from the machine's description to the initial domain's first instruction, and
//! every entry from then on.

use hypercall_abi::memory::{E820_RESERVED, E820Entry};
use hypercall_abi::types::Mfn;
use hypercall_abi::virq;
use kernel_core::calls::memory_map::MemoryMap;
use kernel_core::clock::Clock;
use kernel_core::cpu::CpuId;
use kernel_core::cpu_state::Interrupt;
use kernel_core::domain::MAX_VCPUS;
use kernel_core::initial::Ingredients;
use kernel_core::irq::{Polarity, Route, Trigger};
use kernel_core::platform::Platform;
use kernel_core::ports::Ports;
use kernel_core::regs::GuestRegs;
use kernel_core::system::{Here, Identity, System};
use kernel_core::trap::Exception;
use spin::Once;

use super::entry;
use super::machine::Machine;
use super::multiboot::MapEntry;
use super::platform::X86;
use super::trap::{self, FIRST_INTERRUPT};
use super::{clock, debug, exit, fault, frames, interrupt, percpu, phys, rtc, smp, stop, video};

static SYSTEM: Once<System<X86>> = Once::new();

/// Starts the initial domain on the machine that boot found.
pub(crate) fn start(machine: &'static mut Machine) -> ! {
    let identity = Identity {
        command_line: machine.command_line,
        changeset: env!("PARAVANE_CHANGESET"),
        compiler: env!("PARAVANE_COMPILER"),
    };
    let ingredients = Ingredients {
        image: module(machine, 0),
        ramdisk: module(machine, 1),
        command_line: machine.modules.first().map_or(&[], |module| module.command_line),
        more_command_line: machine.options.domain_arguments,
        memory: machine.options.dom0_memory,
        vcpus: vcpus(machine),
        screen: video::screen(),
    };
    if machine.modules.is_empty() {
        exit::refuse(format_args!(
            "there is no guest to start: give the boot loader a PV kernel as the first module"
        ));
    }
    let platform = X86::new(frames::take_over(machine), machine.options.no_reboot);
    let memory_map = memory_map(machine);
    let ports = Ports {
        console: machine.options.serial().map(|serial| serial.port),
        timer: machine.acpi.timer_port,
    };
    let clock = Clock::new(clock::rates().tsc_khz, clock::tsc(), rtc::now());
    let system = SYSTEM.call_once(|| {
        let mut system = System::new(platform, identity, clock, ports);
        system.memory_map = memory_map;
        system
    });
    describe_lines(machine, &system.platform);
    if system.cpu_online().is_err() {
        exit::refuse(format_args!("no memory is left for the first CPU's lists"));
    }
    match system.build_initial(&ingredients) {
        Ok(first) => ::log::info!("domain 0 starts with {} vCPUs", first.domain.vcpus().count()),
        Err(error) => exit::refuse(format_args!("{error}")),
    }
    smp::wake_all();
    run_guests(system)
}

/// What another CPU does from its start on: waits for the system, then runs guests.
pub(crate) fn wait_for_guests() -> ! {
    let system = loop {
        match SYSTEM.get().filter(|system| system.cpus.get(CpuId::BOOT).is_some()) {
            Some(system) => break system,
            None => stop::wait_for_interrupt(),
        }
    };
    if system.cpu_online().is_err() {
        ::log::warn!("no memory for CPU {}: it runs nothing", percpu::current().id());
        stop::idle()
    }
    run_guests(system)
}

/// Runs guests on this CPU, which is online, for ever.
fn run_guests(system: &'static System<X86>) -> ! {
    let top = trap::guest_regs();
    // SAFETY: the place belongs to this CPU, and what this function's callers have there is not
    // needed again: nothing returns to them.
    unsafe { top.write(GuestRegs::default()) };
    // SAFETY: just written, and nobody else uses it until a guest enters ring 0.
    let regs = unsafe { &mut *top };
    let Some(here) = system.first_vcpu(regs) else { unreachable!("the CPU is online") };
    // SAFETY: this CPU's own.
    unsafe { percpu::current().here().put(here) };
    // SAFETY: `top` is the top of this CPU's stack and holds the registers of a guest.
    unsafe { entry::resume_guest(top) }
}

/// Notes the machine's lines of interrupts, as the firmware describes them, without those that the
/// kernel keeps.
fn describe_lines(machine: &Machine, platform: &X86) {
    let lines = &platform.interrupts().lines;
    lines.begin(platform, usize::try_from(machine.inputs).unwrap_or(0));
    for row in &machine.acpi.interrupts.overrides {
        let polarity = if row.flags & 3 == 3 { Polarity::Low } else { Polarity::High };
        let trigger = if row.flags >> 2 & 3 == 3 { Trigger::Level } else { Trigger::Edge };
        lines.overrule(platform, row.legacy.into(), row.interrupt, (trigger, polarity));
    }
    let console = match machine.options.serial().map(|serial| serial.port) {
        Some(0x3f8 | 0x3e8) => Some(4),
        Some(0x2f8 | 0x2e8) => Some(3),
        _ => None,
    };
    let pin = console.and_then(|line| {
        let line = lines.get(platform, u32::try_from(line).ok()?)?;
        Some((line.pin?, line))
    });
    // The first is the timer chip's.
    for kept in [Some(0), console].into_iter().flatten() {
        lines.keep(platform, kept);
    }
    if let Some((pin, line)) = pin {
        let (vector, cpu) = (interrupt::CONSOLE, CpuId::BOOT);
        let (trigger, polarity) = (line.trigger, line.polarity);
        platform.set_line(pin, Some(Route { vector, cpu, trigger, polarity }));
        crate::log::listen();
    }
}

/// Something was typed on the console: the initial domain may read it.
pub(super) fn console_input() {
    if crate::log::arrived()
        && let Some(system) = SYSTEM.get()
    {
        system.send_global_virq(virq::CONSOLE);
    }
}

/// How many vCPUs the initial domain gets: one for each CPU, within what the operator allows.
fn vcpus(machine: &Machine) -> u32 {
    let cpus = u32::try_from(smp::running()).unwrap_or(1);
    let ours = u32::try_from(MAX_VCPUS).unwrap_or(1);
    let (least, most) = machine.options.dom0_vcpus;
    let most = most.unwrap_or(cpus).clamp(1, ours);
    cpus.max(least.unwrap_or(0)).min(most)
}

/// A line of the memory map, as guests read it.
/// The firmware's memory map, in which what no domain may map is reserved, where that says nothing of it: a
/// domain may look there for room for devices.
fn memory_map(machine: &Machine) -> MemoryMap {
    let mut map: MemoryMap = machine.map.iter().map(line).collect();
    for (start, count, _) in frames::kept(machine) {
        let (addr, size) = (start.address(), count << 12);
        let apart = |line: &E820Entry| {
            let (start, size_there) = (line.addr.get(), line.size.get());
            addr + size <= start || start.saturating_add(size_there) <= addr
        };
        if map.iter().all(apart) {
            let behind = map.iter().position(|line| line.addr.get() > addr).unwrap_or(map.len());
            let line =
                E820Entry { addr: addr.into(), size: size.into(), kind: E820_RESERVED.into() };
            // Where the firmware's own lines fill the map, they come first.
            let _full = map.insert(behind, line);
        }
    }
    map
}

fn line(entry: &MapEntry) -> E820Entry {
    E820Entry { addr: entry.base.into(), size: entry.length.into(), kind: entry.kind.into() }
}

/// The contents of a boot module; nothing if there is none with that number.
fn module(machine: &Machine, number: usize) -> &'static [u8] {
    let bytes = machine.modules.get(number).map(|module| module.bytes);
    bytes.and_then(|bytes| phys::left_behind(bytes.start, bytes.len())).unwrap_or(&[])
}

/// A kernel object's frames are no longer needed.
pub(super) fn free_kernel_frames(start: Mfn, count: u64) {
    if let Some(system) = SYSTEM.get() {
        kernel_core::platform::Platform::frames(&system.platform).free_kernel(start, count);
    }
}

/// A zeroed frame for the kernel itself.
pub(super) fn alloc_kernel_frame() -> Option<Mfn> {
    let platform = &SYSTEM.get()?.platform;
    kernel_core::platform::Platform::frames(platform).alloc_kernel(platform, 1).ok()
}

/// Handles an entry from the guest that this CPU runs.
#[inline(always)]
fn handle(entry: impl FnOnce(&'static System<X86>, &mut Here<X86>)) {
    let cell = percpu::current().here();
    // SAFETY: this CPU's own.
    let here = unsafe { cell.take() };
    let (Some(system), Some(mut here)) = (SYSTEM.get(), here) else {
        unreachable!("a guest entered ring 0 on a CPU that runs none")
    };
    entry(system, &mut here);
    // SAFETY: this CPU's own.
    unsafe { cell.put(here) };
}

/// This CPU's timer has gone off, or another CPU wants it to look.
pub(super) fn interrupted(by: Interrupt) {
    if let Some(system) = SYSTEM.get()
        && let Some(cpu) = system.cpus.get(system.platform.cpu())
    {
        cpu.interrupted(by);
    }
}

/// A device raised this vector on this CPU.
pub(super) fn device_interrupt(vector: u8) {
    if let Some(system) = SYSTEM.get() {
        system.device_interrupt(vector);
    }
}

/// A guest executed `syscall`. True if it can be left by `sysret`.
pub(super) extern "sysv64" fn on_syscall(regs: &mut GuestRegs) -> bool {
    handle(|system, here| system.syscall(here, regs));
    regs.can_leave_by_sysret()
}

/// A guest raised an exception, or an interrupt came while it ran.
pub(super) extern "sysv64" fn on_trap(regs: &mut GuestRegs) {
    let [vector, ..] = regs.entry_vector.to_le_bytes();
    if vector == trap::SYSTEM_CALL {
        handle(|system, here| system.soft_interrupt(here, regs, vector));
    } else if vector >= FIRST_INTERRUPT {
        interrupt::handle(vector);
        handle(|system, here| system.interrupted(here, regs));
    } else {
        let exception = Exception {
            vector,
            error_code: regs.error_code,
            address: if vector == trap::PAGE_FAULT { fault::address() } else { 0 },
            debug_status: if vector == trap::DEBUG { debug::take_status() } else { 0 },
        };
        handle(|system, here| system.exception(here, regs, exception));
    }
}
