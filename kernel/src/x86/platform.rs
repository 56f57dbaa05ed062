//! The machine, as the kernel core sees it.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::layout::INVALID_M2P_ENTRY;
use hypercall_abi::types::{Mfn, Pfn};
use kernel_core::cpu::{CpuId, CpuSet};
use kernel_core::emulate::width::Width;
use kernel_core::frames::FrameTable;
use kernel_core::guest_memory::{GuestFault, GuestRange};
use kernel_core::irq::{Interrupts, Message, Route};
use kernel_core::platform::{Bytes, Flush, MachineEnd, NoMemory, Platform, SegmentBase, Table};
use kernel_core::saved::{FpuState, Selectors};
use kernel_core::trace::Record;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::{FsBase, GsBase, KernelGsBase};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

use super::exit::{self, Outcome};
use super::layout::{FIRST_SLOT, SLOTS};
use super::page_arc::PageArc;
use super::{
    apic, clock, copy, cpu, debug, flush, fpu, frame, gdt, interrupt, ioapic, paging, pci,
    peephole, percpu, phys, port, segment, trace, window,
};

const PAGE: u64 = 4096;
/// Where a device writes to raise an interrupt; the CPU's number follows in bits 12-19.
const MESSAGES: u64 = 0xfee0_0000;

static INTERRUPTS: Interrupts<X86> = Interrupts::new();

/// The one implementation of [`Platform`] that is a machine.
#[derive(Debug)]
pub(crate) struct X86 {
    frames: FrameTable,
    stays: bool,
}

impl X86 {
    /// The machine with this frame table, which `stays` as it is when the initial domain has failed.
    pub(crate) const fn new(frames: FrameTable, stays: bool) -> Self {
        Self { frames, stays }
    }
}

fn m2p_entry(mfn: Mfn) -> Option<&'static AtomicU64> {
    paging::machine_to_physical().get(usize::try_from(mfn.0).ok()?)
}

/// Physical address of a frame that exists; a frame number that does not is a broken invariant of
/// the core.
fn address(mfn: Mfn) -> u64 {
    mfn.0 * PAGE
}

impl Platform for X86 {
    type Arc<T: Send + Sync + 'static> = PageArc<T>;

    #[inline]
    fn arc_with<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> T,
    ) -> Result<PageArc<T>, NoMemory> {
        PageArc::new(self, make)
    }

    fn frames(&self) -> &FrameTable {
        &self.frames
    }

    fn interrupts(&self) -> &Interrupts<Self> {
        &INTERRUPTS
    }

    fn table(&self, mfn: Mfn) -> &Table {
        frame::table(mfn)
    }

    fn bytes(&self, mfn: Mfn) -> &Bytes {
        frame::bytes(mfn)
    }

    fn zero_frame(&self, mfn: Mfn) {
        frame::zero(mfn);
    }

    fn copy_frame(&self, to: Mfn, from: Mfn) {
        frame::copy(to, from);
    }

    fn copy_part(&self, to: (Mfn, usize), from: (Mfn, usize), len: usize) {
        frame::copy_part(to, from, len);
    }

    fn read_frame(&self, mfn: Mfn, offset: usize, into: &mut [u8]) {
        frame::read(mfn, offset, into);
    }

    fn write_frame(&self, mfn: Mfn, offset: usize, from: &[u8]) {
        frame::write(mfn, offset, from);
    }

    fn set_m2p(&self, mfn: Mfn, pfn: Pfn) {
        if let Some(entry) = m2p_entry(mfn) {
            entry.store(pfn.0, Ordering::Relaxed);
        }
    }

    fn m2p(&self, mfn: Mfn) -> Pfn {
        Pfn(m2p_entry(mfn).map_or(INVALID_M2P_ENTRY, |entry| entry.load(Ordering::Relaxed)))
    }

    fn fill_hypervisor_slots(&self, l4: &Table) {
        let ours = phys::table(paging::root());
        for slot in FIRST_SLOT..FIRST_SLOT + SLOTS {
            l4[slot].store(ours[slot].load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn read_guest(&self, from: GuestRange, into: &mut [u8]) -> Result<(), GuestFault> {
        let left = copy::from_guest(into, from.start());
        fault_unless_done(from, left)
    }

    fn write_guest(&self, to: GuestRange, from: &[u8]) -> Result<(), GuestFault> {
        let left = copy::to_guest(to.start(), from);
        fault_unless_done(to, left)
    }

    fn cpu(&self) -> CpuId {
        let number = u8::try_from(percpu::current().id()).ok();
        number.and_then(CpuId::new).unwrap_or(CpuId::BOOT)
    }

    fn spin_wait(&self) {
        core::hint::spin_loop();
        flush::serve();
    }

    fn wait_for_interrupt(&self) {
        super::stop::wait_for_interrupt();
    }

    fn flush_local(&self, flush: Flush) {
        match flush {
            Flush::Page(address) => tlb::flush(VirtAddr::new_truncate(address)),
            Flush::All => flush::everything(),
        }
    }

    fn flush_remote(&self, cpus: CpuSet, _flush: Flush) {
        // More than was asked is never wrong.
        flush::others(cpus);
    }

    fn load_root(&self, l4: Mfn, and_globals: bool) {
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(address(l4)));
        // SAFETY: a validated L4 of the running guest, with the hypervisor's slots filled in: what
        // ring 0 uses is mapped in it as in any other.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
        if and_globals {
            flush::everything();
        }
    }

    fn load_no_root(&self) {
        gdt::load_table(percpu::current());
        self.load_root(Mfn(paging::root() / PAGE), true);
    }

    fn poke(&self, cpu: CpuId) {
        if let Some(cpu) = percpu::get(usize::from(cpu.number())) {
            apic::send(cpu.apic_id(), interrupt::POKE);
        }
    }

    fn set_alarm(&self, delay: u64) {
        clock::set_alarm(delay);
    }

    fn swap_gs(&self) {
        // SAFETY: ring 0 does not use GS.
        unsafe { core::arch::asm!("swapgs", options(nostack, preserves_flags)) };
    }

    fn set_segment_base(&self, which: SegmentBase, base: u64) {
        let base = VirtAddr::new_truncate(base);
        match which {
            SegmentBase::Fs => FsBase::write(base),
            SegmentBase::GsActive => GsBase::write(base),
            SegmentBase::GsInactive => KernelGsBase::write(base),
        }
    }

    fn segment_base(&self, which: SegmentBase) -> u64 {
        match which {
            SegmentBase::Fs => FsBase::read(),
            SegmentBase::GsActive => GsBase::read(),
            SegmentBase::GsInactive => KernelGsBase::read(),
        }
        .as_u64()
    }

    fn load_inactive_gs(&self, selector: u16) {
        segment::load_inactive_gs(selector);
    }

    fn data_selectors(&self) -> Selectors {
        segment::data()
    }

    fn load_data_selectors(&self, selectors: Selectors) -> bool {
        segment::load_data(selectors)
    }

    fn save_fpu(&self, into: &mut FpuState) {
        fpu::save(into);
    }

    fn load_fpu(&self, from: &FpuState, xcr0: u64) {
        fpu::load(from, xcr0);
    }

    fn set_xcr0(&self, xcr0: u64) {
        fpu::set_xcr0(xcr0);
    }

    fn set_task_switched(&self, set: bool) {
        fpu::set_task_switched(set);
    }

    fn set_breakpoint(&self, number: u8, address: u64) {
        debug::set_breakpoint(number, address);
    }

    fn set_debug_control(&self, control: u64) {
        debug::set_control(control);
    }

    fn window_base(&self, window: u32) -> u64 {
        window::address(window, 0)
    }

    fn make_window(&self, window: u32) -> Result<(), NoMemory> {
        window::make(window)
    }

    fn load_window(&self, window: u32) {
        window::load(window);
    }

    fn set_window_page(&self, window: u32, page: u8, frame: Option<Mfn>) {
        window::set_page(window, page, frame);
    }

    fn load_ldt(&self, window: u32, entries: u32) {
        window::load_ldt(window, entries);
    }

    fn microcode(&self) -> u64 {
        cpu::microcode()
    }

    fn set_guest_cr4(&self, bits: u64) {
        cpu::set_guest_cr4(bits);
    }

    fn set_tsc_aux(&self, value: u32) {
        cpu::set_tsc_aux(value);
    }

    fn write_back_caches(&self) {
        cpu::write_back_caches();
    }

    fn port_in(&self, port: u16, width: Width) -> u32 {
        port::read(port, width)
    }

    fn port_out(&self, port: u16, width: Width, value: u32) {
        port::write(port, width, value);
    }

    fn pci_in(&self, selected: u32, byte: u8, width: Width) -> u32 {
        pci::read(selected, byte, width)
    }

    fn pci_out(&self, selected: u32, byte: u8, width: Width, value: u32) {
        pci::write(selected, byte, width, value);
    }

    fn device_read(&self, address: u64) -> u32 {
        peephole::read(address)
    }

    fn device_write(&self, address: u64, value: u32) {
        peephole::write(address, value);
    }

    fn set_line(&self, pin: u32, route: Option<Route>) {
        ioapic::set(pin, route);
    }

    fn io_apic(&self, address: u64, register: u8) -> Option<(u32, u32)> {
        ioapic::read(address, register)
    }

    fn message(&self, cpu: CpuId, vector: u8) -> Message {
        let address = MESSAGES | u64::from(percpu::destination(cpu)) << 12;
        Message { address, data: vector.into() }
    }

    fn cpu_numbers(&self, cpu: CpuId) -> [u32; 2] {
        percpu::get(usize::from(cpu.number())).map_or([0; 2], percpu::Cpu::numbers)
    }

    fn tsc(&self) -> u64 {
        clock::tsc()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let answer = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    fn is_tracing(&self) -> bool {
        trace::is_on()
    }

    fn poison_stack(&self) {
        trace::poison_stack();
    }

    fn trace(&self, record: &Record) -> u64 {
        trace::keep(record)
    }

    fn trace_again(&self, place: u64, record: &Record) {
        trace::keep_again(place, record);
    }

    fn console_write(&self, bytes: &[u8]) {
        crate::log::guest_output(bytes);
    }

    fn console_read(&self, into: &mut [u8]) -> usize {
        crate::log::input(into)
    }

    fn log_read(&self, from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        crate::log::read(from, into)
    }

    fn log_clear(&self) {
        crate::log::clear();
    }

    fn end(&self, end: MachineEnd) -> ! {
        match end {
            MachineEnd::PowerOff => exit::exit(Outcome::Success),
            MachineEnd::Reboot => exit::reset(),
            MachineEnd::GuestFailed if self.stays => {
                crate::log::always(format_args!("noreboot: the machine stands still"));
                super::stop::other_cpus();
                super::stop::halt()
            }
            MachineEnd::GuestFailed => exit::exit(Outcome::GuestCrashed),
            MachineEnd::InputRefused => exit::exit(Outcome::InputRefused),
        }
    }
}

fn fault_unless_done(range: GuestRange, left: usize) -> Result<(), GuestFault> {
    if left == 0 {
        Ok(())
    } else {
        let done = range.len().saturating_sub(left) as u64;
        Err(GuestFault { address: range.start().wrapping_add(done) })
    }
}
