//! A machine made of host memory, for tests of everything above [`Platform`].
//!
//! Frames are real pages that page tables can be built in. Several CPUs are played by one thread,
//! which says with [`Machine::on`] which one it is. Each CPU has a model of all it might have cached
//! ([`tlb`]), which fails the test when something cached is used for something else meanwhile, and
//! [`audit`] counts all references from scratch. Emulators flush far too often to find either.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "it runs in tests only, where failing loudly is the point"
)]

pub mod audit;
pub mod bus;
mod frame;
pub mod tlb;
mod walk;

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::vec::Vec;

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hypercall_abi::layout::{HYPERVISOR_FIRST_SLOT, HYPERVISOR_SLOTS, INVALID_M2P_ENTRY};
use hypercall_abi::types::{Mfn, Pfn};

use crate::cpu::{CpuId, CpuSet};
use crate::emulate::width::Width;
use crate::frames::{DeviceAccess, FrameInfo, FrameTable, Link};
use crate::guest_memory::{GuestFault, GuestRange};
use crate::irq::{Interrupts, Message, Route};
use crate::platform::{Bytes, Flush, MachineEnd, NoMemory, Platform, SegmentBase, Table};
use crate::saved::{FpuState, Selectors};
use crate::trace::Record;

use bus::Bus;
use frame::Frame;
use tlb::Tlb;

/// What a hypervisor slot of an L4 holds: not present, so nobody walks there, but recognisable.
pub const HYPERVISOR_ENTRY: u64 = 0x4859_5000;

/// One more than the highest number of a domain, if a test does not say.
const DOMAINS: usize = 16;

/// The machine.
pub struct Machine {
    table: FrameTable,
    memory: Vec<Frame>,
    m2p: Vec<AtomicU64>,
    cpus: usize,
    current: AtomicUsize,
    tlbs: Mutex<Vec<Tlb>>,
    flushes: AtomicU64,
    objects: AtomicU64,
    tsc: AtomicU64,
    /// What CPUID answers, by leaf and subleaf; all zeros where it is silent.
    pub leaves: Mutex<BTreeMap<(u32, u32), [u32; 4]>>,
    /// Each CPU's floating-point registers, and XCR0.
    units: Vec<Mutex<(FpuState, u64)>>,
    alarms: Vec<AtomicU64>,
    console: Mutex<Vec<u8>>,
    /// Made when it is first needed: few tests' stacks have room for it.
    interrupts: OnceLock<Box<Interrupts<Machine>>>,
    /// Devices and what they are wired to.
    pub bus: Bus,
    /// Records, if they are kept.
    pub records: Mutex<Option<Vec<Record>>>,
    /// See [`Machine::pause_with`].
    pause: Mutex<Option<fn(bool)>>,
}

impl Machine {
    /// A machine of `frames` frames, all free, and `cpus` CPUs, all online.
    #[must_use]
    pub fn new(frames: usize, cpus: u8) -> Self {
        Self::of_domains(frames, cpus, DOMAINS)
    }

    /// The same, with room for domains with numbers below `domains`.
    #[must_use]
    pub fn of_domains(frames: usize, cpus: u8, domains: usize) -> Self {
        let infos: Vec<FrameInfo> = (0..frames).map(|_| FrameInfo::default()).collect();
        let links: Vec<Link> = (0..frames).map(|_| Link::default()).collect();
        let heads: Vec<AtomicU32> = (0..domains).map(|_| AtomicU32::new(0)).collect();
        let lists = (&*Box::leak(links.into()), &*Box::leak(heads.into()));
        let bitmap: Vec<AtomicU64> = (0..frames.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let machine = Self {
            table: FrameTable::new(Box::leak(infos.into()), lists, Box::leak(bitmap.into())),
            memory: (0..frames).map(|_| Frame::default()).collect(),
            m2p: (0..frames).map(|_| AtomicU64::new(INVALID_M2P_ENTRY)).collect(),
            cpus: usize::from(cpus),
            current: AtomicUsize::new(0),
            tlbs: Mutex::new((0..cpus).map(|_| Tlb::default()).collect()),
            flushes: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            tsc: AtomicU64::new(0),
            leaves: Mutex::default(),
            units: (0..cpus).map(|_| Mutex::new((FpuState::INITIAL, 1))).collect(),
            alarms: (0..cpus).map(|_| AtomicU64::new(u64::MAX)).collect(),
            console: Mutex::new(Vec::new()),
            records: Mutex::new(None),
            interrupts: OnceLock::new(),
            bus: Bus::default(),
            pause: Mutex::new(None),
        };
        machine.table.add_free(Mfn(0), frames as u64);
        (1..cpus).filter_map(CpuId::new).for_each(|cpu| machine.table.epochs().cpu_online(cpu));
        machine
    }

    /// The floating-point registers and XCR0 of the CPU that this thread is.
    pub fn unit(&self) -> MutexGuard<'_, (FpuState, u64)> {
        self.units[self.current.load(Ordering::Relaxed)].lock().unwrap()
    }

    /// Limits what domains may do with a device's frames.
    pub fn keep_device(&mut self, start: Mfn, count: u64, access: DeviceAccess) {
        self.table.keep_device(start, count, access).unwrap();
    }

    /// From now on the calling thread is this CPU.
    pub fn on(&self, cpu: usize) {
        assert!(cpu < self.cpus);
        self.current.store(cpu, Ordering::Relaxed);
    }

    /// Lets time go on to this value of the time-stamp counter.
    pub fn advance_to(&self, tsc: u64) {
        self.tsc.store(tsc, Ordering::Relaxed);
    }

    /// When a CPU's timer goes off, as a value of the counter, if that runs at 1 GHz.
    #[must_use]
    pub fn alarm(&self, cpu: usize) -> u64 {
        self.alarms[cpu].load(Ordering::Relaxed)
    }

    /// From now on `pause` is called wherever the kernel looks at frames, takes a lock or waits, and
    /// told whether it waits, so that a test can let other CPUs come in between.
    pub fn pause_with(&self, pause: Option<fn(bool)>) {
        *self.pause.lock().unwrap() = pause;
    }

    /// Lets other CPUs come in between, but not in the middle of the model's own work.
    fn pause(&self, waits: bool) -> bool {
        let pause = *self.pause.lock().unwrap();
        let Some(pause) = pause else { return false };
        if self.tlbs.try_lock().is_ok() {
            let cpu = self.current.load(Ordering::Relaxed);
            pause(waits);
            self.current.store(cpu, Ordering::Relaxed);
        }
        true
    }

    /// How often a CPU had to flush everything by order of the kernel.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// How many shared objects were made so far.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// What was written to the console.
    #[must_use]
    pub fn console(&self) -> Vec<u8> {
        self.console.lock().unwrap().clone()
    }

    /// Every CPU caches all it can reach, as a real one may at any time, and what it has cached must
    /// still be true.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn check_tlbs(&self) {
        let mut tlbs = self.tlbs.lock().unwrap();
        for (cpu, tlb) in tlbs.iter_mut().enumerate() {
            tlb.fill(self);
            tlb.check(self, cpu);
        }
    }

    /// The root a CPU has loaded.
    #[must_use]
    pub fn root(&self, cpu: usize) -> Option<Mfn> {
        self.tlbs.lock().unwrap()[cpu].root()
    }

    fn frame(&self, mfn: Mfn) -> &Frame {
        let index = usize::try_from(mfn.0).unwrap();
        self.memory.get(index).unwrap_or_else(|| panic!("frame {mfn:#x} is no memory"))
    }

    fn flush(&self, cpu: usize, flush: Flush) {
        // Nothing may depend on the flush of a single page, so none is modelled.
        if flush == Flush::All {
            self.flushes.fetch_add(1, Ordering::Relaxed);
            let tlb = &mut self.tlbs.lock().unwrap()[cpu];
            tlb.clear();
            tlb.fill(self);
        }
    }
}

impl Platform for Machine {
    type Arc<T: Send + Sync + 'static> = Arc<T>;

    fn arc_with<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> T,
    ) -> Result<Arc<T>, NoMemory> {
        self.objects.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(make()))
    }

    fn frames(&self) -> &FrameTable {
        let _ = self.pause(false);
        &self.table
    }

    fn interrupts(&self) -> &Interrupts<Self> {
        self.interrupts.get_or_init(Box::default)
    }

    fn table(&self, mfn: Mfn) -> &Table {
        let _ = self.pause(false);
        self.frame(mfn).words()
    }

    fn bytes(&self, mfn: Mfn) -> &Bytes {
        let _ = self.pause(false);
        self.frame(mfn).bytes()
    }

    fn zero_frame(&self, mfn: Mfn) {
        if self.table.word(mfn).0 == 0 {
            // It is being given to somebody: nobody may know it from before.
            for (cpu, tlb) in self.tlbs.lock().unwrap().iter().enumerate() {
                assert!(!tlb.knows(mfn), "cpu {cpu} has frame {mfn:#x} cached, which was free");
            }
        }
        self.frame(mfn).words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn copy_frame(&self, to: Mfn, from: Mfn) {
        for (to, from) in self.table(to).iter().zip(self.table(from)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn copy_part(&self, to: (Mfn, usize), from: (Mfn, usize), len: usize) {
        let mut bytes = [0; 4096];
        let len = len.min(4096 - to.1.min(4096)).min(4096 - from.1.min(4096));
        self.read_frame(from.0, from.1, &mut bytes[..len]);
        self.write_frame(to.0, to.1, &bytes[..len]);
    }

    fn read_frame(&self, mfn: Mfn, offset: usize, into: &mut [u8]) {
        let bytes = self.frame(mfn).bytes().iter().skip(offset);
        into.iter_mut().zip(bytes).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    }

    fn write_frame(&self, mfn: Mfn, offset: usize, from: &[u8]) {
        let bytes = self.frame(mfn).bytes().iter().skip(offset);
        bytes.zip(from).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
    }

    fn set_m2p(&self, mfn: Mfn, pfn: Pfn) {
        self.m2p[usize::try_from(mfn.0).unwrap()].store(pfn.0, Ordering::Relaxed);
    }

    fn m2p(&self, mfn: Mfn) -> Pfn {
        Pfn(self.m2p[usize::try_from(mfn.0).unwrap()].load(Ordering::Relaxed))
    }

    fn fill_hypervisor_slots(&self, l4: &Table) {
        for slot in l4.iter().skip(HYPERVISOR_FIRST_SLOT).take(HYPERVISOR_SLOTS) {
            slot.store(HYPERVISOR_ENTRY, Ordering::Relaxed);
        }
    }

    fn read_guest(&self, from: GuestRange, into: &mut [u8]) -> Result<(), GuestFault> {
        walk::each_page(from, |address, range| {
            let at = self.translate(address, false)?;
            self.read_frame(at, page_offset(address), &mut into[range]);
            Ok(())
        })
    }

    fn write_guest(&self, to: GuestRange, from: &[u8]) -> Result<(), GuestFault> {
        walk::each_page(to, |address, range| {
            let at = self.translate(address, true)?;
            self.write_frame(at, page_offset(address), &from[range]);
            Ok(())
        })
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(u8::try_from(self.current.load(Ordering::Relaxed)).unwrap()).unwrap()
    }

    fn about_to_race(&self) {
        let _ = self.pause(false);
    }

    fn spin_wait(&self) {
        assert!(self.pause(true), "a single thread waits for itself");
    }

    fn flush_local(&self, flush: Flush) {
        self.flush(usize::from(self.cpu().number()), flush);
    }

    fn flush_remote(&self, cpus: CpuSet, flush: Flush) {
        for cpu in cpus.without(self.cpu()).iter() {
            assert!(usize::from(cpu.number()) < self.cpus, "no such cpu");
            self.flush(usize::from(cpu.number()), flush);
        }
    }

    fn load_root(&self, l4: Mfn, and_globals: bool) {
        let cpu = usize::from(self.cpu().number());
        let tlb = &mut self.tlbs.lock().unwrap()[cpu];
        tlb.set_root(l4);
        if and_globals {
            tlb.clear();
        }
        tlb.fill(self);
    }

    fn swap_gs(&self) {}

    fn set_segment_base(&self, _which: SegmentBase, _base: u64) {}

    fn segment_base(&self, _which: SegmentBase) -> u64 {
        0
    }

    fn load_inactive_gs(&self, _selector: u16) {}

    fn data_selectors(&self) -> Selectors {
        Selectors::default()
    }

    fn load_data_selectors(&self, _selectors: Selectors) -> bool {
        true
    }

    fn save_fpu(&self, into: &mut FpuState) {
        *into = self.unit().0.clone();
    }

    fn load_fpu(&self, from: &FpuState, xcr0: u64) {
        *self.unit() = (from.clone(), xcr0);
    }

    fn set_xcr0(&self, xcr0: u64) {
        self.unit().1 = xcr0;
    }

    fn set_task_switched(&self, _set: bool) {}

    fn window_base(&self, window: u32) -> u64 {
        0xffff_87f0_0000_0000 + (u64::from(window) << 17)
    }

    fn make_window(&self, _window: u32) -> Result<(), NoMemory> {
        Ok(())
    }

    fn load_window(&self, _window: u32) {}

    fn set_window_page(&self, _window: u32, _page: u8, _frame: Option<Mfn>) {}

    fn load_ldt(&self, _window: u32, _entries: u32) {}

    fn set_breakpoint(&self, _number: u8, _address: u64) {}

    fn set_debug_control(&self, _control: u64) {}

    fn microcode(&self) -> u64 {
        0
    }

    fn set_guest_cr4(&self, _bits: u64) {}

    fn set_tsc_aux(&self, _value: u32) {}

    fn write_back_caches(&self) {}

    fn port_in(&self, _port: u16, _width: Width) -> u32 {
        u32::MAX
    }

    fn port_out(&self, _port: u16, _width: Width, _value: u32) {}

    fn pci_in(&self, selected: u32, byte: u8, width: Width) -> u32 {
        self.bus.pci_in(selected, byte, width)
    }

    fn pci_out(&self, selected: u32, byte: u8, width: Width, value: u32) {
        self.bus.pci_out(selected, byte, width, value);
    }

    fn device_read(&self, address: u64) -> u32 {
        self.bus.register(address)
    }

    fn device_write(&self, address: u64, value: u32) {
        self.bus.set_register(address, value);
    }

    fn set_line(&self, pin: u32, route: Option<Route>) {
        self.bus.set_line(pin, route);
    }

    fn io_apic(&self, address: u64, register: u8) -> Option<(u32, u32)> {
        (address == 0xfec0_0000).then_some((u32::from(register), 0))
    }

    fn message(&self, cpu: CpuId, vector: u8) -> Message {
        let address = 0xfee0_0000 | u64::from(cpu.number()) << 12;
        Message { address, data: vector.into() }
    }

    fn cpu_numbers(&self, cpu: CpuId) -> [u32; 2] {
        let number = u32::from(cpu.number());
        [number << 1, number + 1]
    }

    fn wait_for_interrupt(&self) {}

    fn poke(&self, _cpu: CpuId) {}

    fn set_alarm(&self, delay: u64) {
        let at = self.tsc().saturating_add(delay);
        self.alarms[usize::from(self.cpu().number())].store(at, Ordering::Relaxed);
    }

    fn load_no_root(&self) {
        let cpu = usize::from(self.cpu().number());
        let tlb = &mut self.tlbs.lock().unwrap()[cpu];
        tlb.forget_root();
    }

    fn tsc(&self) -> u64 {
        self.tsc.load(Ordering::Relaxed)
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.leaves.lock().unwrap().get(&(leaf, subleaf)).copied().unwrap_or_default()
    }

    fn is_tracing(&self) -> bool {
        self.records.lock().unwrap().is_some()
    }

    fn trace(&self, record: &Record) -> u64 {
        let mut records = self.records.lock().unwrap();
        let Some(records) = &mut *records else { return 0 };
        records.push(*record);
        records.len() as u64 - 1
    }

    fn trace_again(&self, place: u64, record: &Record) {
        if let Some(records) = &mut *self.records.lock().unwrap() {
            records[usize::try_from(place).unwrap()] = *record;
        }
    }

    fn console_write(&self, bytes: &[u8]) {
        self.console.lock().unwrap().extend_from_slice(bytes);
    }

    fn console_read(&self, _into: &mut [u8]) -> usize {
        0
    }

    fn log_read(&self, from: Option<u32>, _into: &mut [u8]) -> (usize, u32) {
        (0, from.unwrap_or(0))
    }

    fn log_clear(&self) {}

    fn end(&self, end: MachineEnd) -> ! {
        panic!("the machine ends: {end:?}")
    }
}

fn page_offset(address: u64) -> usize {
    usize::try_from(address % 4096).unwrap()
}

/// A byte that the guest may change at any time.
type Byte = AtomicU8;
