//! Running guests: from the machine's description to the initial domain's first instruction, and
//! every entry from then on.

use hypercall_abi::memory::E820Entry;
use hypercall_abi::types::Mfn;
use kernel_core::clock::Clock;
use kernel_core::domains::Domains;
use kernel_core::initial::Ingredients;
use kernel_core::ports::Ports;
use kernel_core::regs::GuestRegs;
use kernel_core::system::{DomainVcpu, Identity, System};
use kernel_core::trap::Exception;
use spin::Once;

use super::entry;
use super::machine::Machine;
use super::multiboot::MapEntry;
use super::platform::X86;
use super::trap::{self, FIRST_INTERRUPT};
use super::{clock, debug, exit, fault, frames, interrupt, phys, rtc, video, window};

static SYSTEM: Once<System<X86>> = Once::new();
static RUNNING: Once<DomainVcpu<X86>> = Once::new();

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
        screen: video::screen(),
    };
    if machine.modules.is_empty() {
        exit::refuse(format_args!(
            "there is no guest to start: give the boot loader a PV kernel as the first module"
        ));
    }
    let platform = X86::new(frames::take_over(machine));
    let memory_map = machine.map.iter().map(line).collect();
    let ports = Ports { console: machine.options.serial().map(|serial| serial.port) };
    let clock = Clock::new(clock::rates().tsc_khz, clock::tsc(), rtc::now());
    let system = SYSTEM.call_once(|| System {
        platform,
        identity,
        domains: Domains::new(),
        clock,
        memory_map,
        ports,
    });
    let (running, regs) = match system.build_initial(&ingredients) {
        Ok(built) => built,
        Err(error) => exit::refuse(format_args!("{error}")),
    };
    let running = RUNNING.call_once(|| running);
    if window::load(running.vcpu.window).is_err() {
        exit::refuse(format_args!("no memory is left for the first vCPU's descriptor tables"));
    }
    ::log::info!("domain 0 starts at {:#x}", regs.rip);
    system.load_address_space(running);
    super::fpu::reset();
    interrupt::start_tick();
    let top = trap::guest_regs();
    // SAFETY: the place belongs to this CPU, and what this function's callers have there is not
    // needed again: nothing returns to them.
    unsafe { top.write(regs) };
    // SAFETY: `top` is the top of this CPU's stack and holds the registers of a guest.
    unsafe { entry::resume_guest(top) }
}

/// A line of the memory map, as guests read it.
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

fn current() -> (&'static System<X86>, &'static DomainVcpu<X86>) {
    match (SYSTEM.get(), RUNNING.get()) {
        (Some(system), Some(running)) => (system, running),
        _ => unreachable!("a guest entered ring 0 before there was one"),
    }
}

/// A guest executed `syscall`. True if it can be left by `sysret`.
pub(super) extern "sysv64" fn on_syscall(regs: &mut GuestRegs) -> bool {
    let (system, running) = current();
    system.syscall(running, regs);
    regs.can_leave_by_sysret()
}

/// A guest raised an exception, or an interrupt came while it ran.
pub(super) extern "sysv64" fn on_trap(regs: &mut GuestRegs) {
    let (system, running) = current();
    let [vector, ..] = regs.entry_vector.to_le_bytes();
    if vector == trap::SYSTEM_CALL {
        system.soft_interrupt(running, regs, vector);
    } else if vector >= FIRST_INTERRUPT {
        interrupt::handle(vector);
        system.interrupted(running, regs);
    } else {
        let exception = Exception {
            vector,
            error_code: regs.error_code,
            address: if vector == trap::PAGE_FAULT { fault::address() } else { 0 },
            debug_status: if vector == trap::DEBUG { debug::take_status() } else { 0 },
        };
        system.exception(running, regs, exception);
    }
}
