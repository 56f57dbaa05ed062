//! Paravane's ring 0: what happens from the boot loader's jump to the initial domain's first
//! instruction, in this order.
//!
//! Every decision that is not about the machine itself is `kernel-core`'s; everything that touches
//! the machine is in [`x86`].
#![no_std]
#![no_main]

mod log;
mod panic;
mod x86;

use ::log::{debug, info, warn};
use kernel_core::options::{self, Options};
use spin::{Mutex, MutexGuard};
use x86::exit::{self, refuse};
use x86::machine::Machine;
use x86::memory::{self, Memory};
use x86::multiboot::{self, Handover};
use x86::{
    acpi, apic, clock, cpu, entry, gdt, guest, idt, ioapic, layout, paging, peephole, percpu, pic,
    smap, smp, trace,
};

/// The machine's way from the boot stack to the main stack. It stays here: on a stack, every function
/// it passes through would have room for a copy.
static FOUND: Mutex<Option<Machine>> = Mutex::new(None);

/// First half, on the boot stack and the boot page tables: finds out what there is, and builds what
/// the second half stands on.
fn boot(magic: u32, information: u32) -> ! {
    let defaults = Options::default();
    log::start(defaults.serial(), defaults.log_level, defaults.guest_log_level);
    idt::load();

    let handover =
        multiboot::handover(magic, information).unwrap_or_else(|why| refuse(format_args!("{why}")));
    let options =
        options::parse(handover.command_line).unwrap_or_else(|why| refuse(format_args!("{why}")));
    log::start(options.serial(), options.log_level, options.guest_log_level);
    info!("Paravane {}", env!("CARGO_PKG_VERSION"));
    info!("command line: {}", handover.command_line.escape_ascii());
    for word in &options.ignored {
        info!("option `{word}` is Xen's and means nothing here");
    }
    require_cpu(&options);
    pic::mask();

    let mut machine = take_over(handover, options);
    cpu::enable_no_execute();
    if paging::build(&mut machine.memory, &machine.ram, machine.frames).is_none() {
        too_little_memory();
    }
    let numbers = machine.acpi.interrupts.cpu(x86::boot_apic_id());
    let Some(cpu) = percpu::prepare(&mut machine.memory, numbers) else {
        too_little_memory();
    };
    gdt::load(cpu);
    cpu::init();
    *FOUND.lock() = Some(machine);
    percpu::switch_to_main_stack(cpu, run)
}

/// Second half, on the main stack and the final page tables.
extern "C" fn run() -> ! {
    smap::arm();
    entry::enable_syscall();
    percpu::current().set_running();
    let Some(machine) = MutexGuard::leak(FOUND.lock()) else {
        unreachable!("the first half put it there")
    };
    info!(
        "memory: {} MiB usable, {} MiB free, {} frames",
        machine.ram.iter().map(memory::Range::len).sum::<u64>() >> 20,
        machine.memory.free_bytes() >> 20,
        machine.frames,
    );
    if apic::find(&mut machine.memory).is_none() {
        too_little_memory();
    }
    apic::enable();
    let inputs = ioapic::find(&mut machine.memory, &machine.acpi.interrupts);
    let (Some(inputs), Some(())) = (inputs, peephole::prepare(&mut machine.memory)) else {
        too_little_memory();
    };
    machine.inputs = inputs;
    let Some(rates) = clock::calibrate(machine.acpi.timer_port) else {
        refuse(format_args!(
            "neither ACPI's timer nor the PC's timer chip runs, so time can't be told: enable one in the firmware"
        ));
    };
    info!("clock: TSC {} kHz, APIC timer {} kHz", rates.tsc_khz, rates.timer_khz);
    exit::set_power(&mut machine.memory, machine.acpi.power);
    if machine.options.poison {
        trace::poison();
    }
    if let Some(size) = machine.options.trace {
        let start = trace::start(&mut machine.memory, size);
        let start = start.unwrap_or_else(|| too_little_memory());
        warn!("trace: {size} bytes at {start:#x}");
    }
    start_other_cpus(machine);
    for (number, module) in machine.modules.iter().enumerate() {
        info!(
            "module {number}: {} bytes at {:#x}, command line: {}",
            module.bytes.len(),
            module.bytes.start,
            module.command_line.escape_ascii(),
        );
    }
    guest::start(machine)
}

/// Where every other CPU arrives, set up like the first.
fn other_cpu() -> ! {
    debug!("CPU {} runs", percpu::current().id());
    guest::wait_for_guests()
}

/// Everything the boot loader and the firmware say, and what of the memory is free.
fn take_over(handover: Handover, options: Options<'static>) -> Machine {
    let acpi = acpi::read(handover.rsdp).unwrap_or_else(|| {
        warn!("no ACPI tables: only this CPU is used, and the machine can't be switched off");
        acpi::Acpi::default()
    });
    let ram = memory::usable(&handover.map, options.memory_limit);
    for (number, module) in handover.modules.iter().enumerate() {
        if !memory::contains(&ram, module.bytes) {
            refuse(format_args!(
                "module {number} lies outside the usable memory: give the machine more, or raise mem="
            ));
        }
    }
    let mut memory = Memory::new(&ram);
    memory.reserve(x86::image());
    for range in handover.modules.iter().map(|module| &module.bytes).chain(&handover.occupied) {
        memory.reserve(*range);
    }
    // What the loader left is read once; this text stays, and the loader's may be where a domain can write.
    let command_line = memory.keep(handover.command_line).unwrap_or_else(|| too_little_memory());
    let start_page = smp::low_page(&ram, &handover.occupied, &handover.modules);
    Machine {
        command_line,
        options,
        modules: handover.modules,
        map: handover.map,
        frames: ram.last().map_or(0, |range| range.end >> 12),
        inputs: 0,
        start_page,
        ram,
        memory,
        acpi,
    }
}

fn start_other_cpus(machine: &mut Machine) {
    let cpus = &machine.acpi.interrupts.cpus;
    let wanted = machine.options.max_cpus.and_then(|number| usize::try_from(number).ok());
    let wanted = wanted.unwrap_or(cpus.len()).clamp(1, layout::MAX_CPUS).min(cpus.len().max(1));
    let others = wanted.saturating_sub(1);
    match machine.start_page {
        _ if others == 0 => {}
        Some(page) => smp::start(&mut machine.memory, page, cpus, others),
        None => warn!("no free page below 1 MiB: the other CPUs can't be started"),
    }
    for apic in &machine.acpi.interrupts.io_apics {
        debug!(
            "I/O APIC {} at {:#x}, from interrupt {}",
            apic.id, apic.address, apic.first_interrupt
        );
    }
    for row in &machine.acpi.interrupts.overrides {
        debug!("legacy interrupt {} is {}, flags {:#x}", row.legacy, row.interrupt, row.flags);
    }
    info!("CPUs: {} found, {} running", cpus.len().max(1), smp::running());
}

/// Refuses a CPU on which the kernel can't run, or can't keep guests from each other.
fn require_cpu(options: &Options<'_>) {
    if let Some(feature) = cpu::missing_feature() {
        refuse(format_args!("this CPU lacks {feature}: start Paravane on a newer one"));
    }
    if !cpu::features().meltdown_safe && !options.meltdown_unsafe {
        refuse(format_args!(
            "guests could read the kernel's memory on this CPU (Meltdown): use another, or say meltdown=unsafe on the kernel's command line if you trust every guest"
        ));
    }
}

fn too_little_memory() -> ! {
    refuse(format_args!(
        "there is too little memory for the kernel's tables: give the machine more"
    ))
}
