//! Starting the other CPUs, one after the other.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::acpi::CpuNumbers;
use super::layout::{FIRST_SLOT, SLOTS};
use super::memory::{Memory, Range, Ranges};
use super::multiboot::Module;
use super::percpu::Cpu;
use super::{apic, clock, cpu, entry, gdt, idt, interrupt, paging, percpu, phys};

global_asm!(include_str!("trampoline.s"));

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_64: u8;
    static trampoline_gdt: u8;
    static trampoline_gdtr: u8;
    static trampoline_jump: u8;
    static trampoline_root: u8;
    static trampoline_stack: u8;
    static trampoline_entry: u8;
    static trampoline_end: u8;
    /// The L4 of the boot page tables, which also map the first 4 GiB at 0.
    static boot_l4: [AtomicU64; 512];
}

/// Modern CPUs need no pause after INIT, the first ones 10 ms; those have no 64-bit mode.
const AFTER_INIT_MICROSECONDS: u64 = 200;
/// When to repeat the start message, and when to give up.
const FIRST_TRY_MICROSECONDS: u64 = 1_000;
const SECOND_TRY_MICROSECONDS: u64 = 200_000;
const POLL_MICROSECONDS: u64 = 10;
const PAGE: u64 = 4096;
/// Above this, memory below 1 MiB belongs to firmware and devices.
const LOW_END: u64 = 0xa_0000;

/// How many CPUs run.
pub(crate) fn running() -> usize {
    percpu::all().filter(|cpu| cpu.is_running()).count()
}

/// Interrupts every other CPU, so that it looks around.
pub(super) fn wake_all() {
    let own = percpu::current().id();
    for cpu in percpu::all().filter(|cpu| cpu.is_running() && cpu.id() != own) {
        apic::send(cpu.apic_id(), interrupt::POKE);
    }
}

/// A page below 1 MiB for the start of other CPUs: memory of `ram` that holds none of `occupied`, and
/// no module.
pub(crate) fn low_page(ram: &Ranges, occupied: &[Range], modules: &[Module]) -> Option<u64> {
    let free = |page: &u64| {
        let inside = |range: &Range| range.start <= *page && page + PAGE <= range.end;
        let apart = |range: &Range| range.end <= *page || page + PAGE <= range.start;
        let mut in_use = occupied.iter().chain(modules.iter().map(|module| &module.bytes));
        ram.iter().any(inside) && in_use.all(apart)
    };
    // From the top: the bottom is where firmware keeps its vectors and data.
    (1..LOW_END / PAGE).rev().map(|number| number * PAGE).find(free)
}

/// Starts `count` of the CPUs `listed`, through the code page `page`; the
/// calling CPU is passed over. Returns when each runs [`crate::other_cpu`] or has been given up with
/// a warning.
pub(crate) fn start(memory: &mut Memory, page: u64, listed: &[CpuNumbers], count: usize) {
    let own = apic::id();
    adopt_final_slots();
    copy_trampoline(page);
    for &numbers in listed.iter().filter(|cpu| cpu.apic != own).take(count) {
        let apic_id = numbers.apic;
        let Some(cpu) = percpu::prepare(memory, numbers) else {
            return log::warn!("no memory or no room for CPU with APIC {apic_id}: it is not used");
        };
        if !start_one(cpu, page) {
            // Back to waiting, so that it can't wake late and take the next CPU's stack.
            apic::send_init(apic_id);
            log::warn!("CPU {} (APIC {apic_id}) does not start and is not used", cpu.id());
        }
    }
}

fn start_one(cpu: &'static Cpu, page: u64) -> bool {
    fill_in(page, &raw const trampoline_stack, cpu.main_stack_top());
    let number = u8::try_from(page / PAGE).unwrap_or(0);
    apic::send_init(cpu.apic_id());
    clock::wait_microseconds(AFTER_INIT_MICROSECONDS);
    for patience in [FIRST_TRY_MICROSECONDS, SECOND_TRY_MICROSECONDS] {
        apic::send_startup(cpu.apic_id(), number);
        for _ in 0..patience / POLL_MICROSECONDS {
            if cpu.is_running() {
                return true;
            }
            clock::wait_microseconds(POLL_MICROSECONDS);
        }
    }
    false
}

/// Where a CPU arrives from the trampoline: on its main stack, under the boot page tables.
extern "C" fn arrive() -> ! {
    let this = percpu::current();
    paging::load();
    gdt::load(this);
    idt::load();
    cpu::init();
    entry::enable_syscall();
    apic::enable();
    this.set_running();
    crate::other_cpu()
}

/// Puts the hypervisor's slots into the boot page tables, beside their mapping of low memory.
fn adopt_final_slots() {
    let root = phys::table(paging::root());
    for slot in FIRST_SLOT..FIRST_SLOT + SLOTS {
        // SAFETY: the boot L4 is static, and atomics may be shared.
        let boot = unsafe { &boot_l4 };
        boot[slot].store(root[slot].load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn copy_trampoline(page: u64) {
    let length = offset(&raw const trampoline_end);
    // SAFETY: both lie in the image's constants, in this order; they are never written.
    let code = unsafe { core::slice::from_raw_parts(&raw const trampoline, length) };
    let target = phys::direct(page) as *mut u8;
    // SAFETY: the page is unused memory (`low_page`), mapped by the direct map.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), target, length) };

    let gdt = page + offset(&raw const trampoline_gdt) as u64;
    fill_in_32((page, 2), &raw const trampoline_gdtr, gdt);
    let long_mode = page + offset(&raw const trampoline_64) as u64;
    fill_in_32((page, 0), &raw const trampoline_jump, long_mode);
    let root = (&raw const boot_l4).addr() as u64 - super::layout::IMAGE_BASE;
    fill_in(page, &raw const trampoline_root, root);
    fill_in(page, &raw const trampoline_entry, arrive as *const () as u64);
}

/// Offset of a label in the trampoline.
fn offset(label: *const u8) -> usize {
    label.addr() - (&raw const trampoline).addr()
}

fn fill_in(page: u64, label: *const u8, value: u64) {
    let target = (phys::direct(page) + offset(label) as u64) as *mut u64;
    // SAFETY: the copy of the trampoline belongs to this module; the label is one of its words.
    unsafe { target.write_volatile(value) };
}

/// As [`fill_in`] for 32-bit words, some bytes behind a label, of addresses below 1 MiB.
fn fill_in_32((page, behind): (u64, u64), label: *const u8, value: u64) {
    let target = (phys::direct(page) + offset(label) as u64 + behind) as *mut u32;
    // SAFETY: as in `fill_in`; the label's alignment plus the offset is that of the word.
    unsafe { target.write_volatile(u32::try_from(value).unwrap_or(0)) };
}
