//! Shared structures described as data, for tools and tests.

use crate::{
    callback, event, grant, memory, mmu, multicall, physdev, platform, regs, sched, start, trap,
    vcpu, version,
};

/// One shared structure: what C calls it, and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Structure {
    /// The Rust name.
    pub name: &'static str,
    /// The type in Xen's headers, as C spells it.
    pub c_type: &'static str,
    /// Unit: bytes.
    pub size: usize,
    /// Unit: bytes.
    pub align: usize,
    /// In the order of their offsets.
    pub fields: &'static [Field],
}

/// One field of a [`Structure`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The Rust name.
    pub name: &'static str,
    /// The path inside the C type, or empty for padding that C leaves implicit.
    pub c_path: &'static str,
    /// From the start of the structure. Unit: bytes.
    pub offset: usize,
    /// Unit: bytes.
    pub size: usize,
}

/// The size of the field that a function picks. Unit: bytes.
pub(crate) const fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Every structure this crate defines, by subject.
pub static ALL: &[Structure] = &[
    start::StartInfo::LAYOUT,
    start::SharedInfo::LAYOUT,
    start::ArchSharedInfo::LAYOUT,
    start::VcpuInfo::LAYOUT,
    start::VcpuTimeInfo::LAYOUT,
    start::VgaConsoleText::LAYOUT,
    start::VgaConsoleLfb::LAYOUT,
    start::MultibootModule::LAYOUT,
    regs::CpuUserRegs::LAYOUT,
    regs::IretContext::LAYOUT,
    regs::VcpuGuestContext::LAYOUT,
    trap::TrapInfo::LAYOUT,
    callback::CallbackRegister::LAYOUT,
    callback::CallbackUnregister::LAYOUT,
    callback::NmiCallback::LAYOUT,
    mmu::MmuUpdate::LAYOUT,
    mmu::MmuextOp::LAYOUT,
    multicall::MulticallEntry::LAYOUT,
    sched::SchedShutdown::LAYOUT,
    sched::SchedPoll::LAYOUT,
    sched::SchedRemoteShutdown::LAYOUT,
    sched::SchedWatchdog::LAYOUT,
    sched::SchedPinOverride::LAYOUT,
    version::CompileInfo::LAYOUT,
    version::FeatureInfo::LAYOUT,
    version::PlatformParameters::LAYOUT,
    version::BuildId::LAYOUT,
    event::AllocUnbound::LAYOUT,
    event::BindInterdomain::LAYOUT,
    event::BindVirq::LAYOUT,
    event::BindPirq::LAYOUT,
    event::BindIpi::LAYOUT,
    event::BindVcpu::LAYOUT,
    event::Close::LAYOUT,
    event::Send::LAYOUT,
    event::Unmask::LAYOUT,
    event::EventStatus::LAYOUT,
    event::Reset::LAYOUT,
    event::InitControl::LAYOUT,
    event::ExpandArray::LAYOUT,
    event::SetPriority::LAYOUT,
    grant::GrantEntryV1::LAYOUT,
    grant::MapGrantRef::LAYOUT,
    grant::UnmapGrantRef::LAYOUT,
    grant::UnmapAndReplace::LAYOUT,
    grant::SetupTable::LAYOUT,
    grant::DumpTable::LAYOUT,
    grant::QuerySize::LAYOUT,
    grant::CopyPtr::LAYOUT,
    grant::GrantCopy::LAYOUT,
    grant::Transfer::LAYOUT,
    grant::SetVersion::LAYOUT,
    grant::GetVersion::LAYOUT,
    grant::GetStatusFrames::LAYOUT,
    grant::SwapGrantRef::LAYOUT,
    grant::CacheFlush::LAYOUT,
    memory::Reservation::LAYOUT,
    memory::Exchange::LAYOUT,
    memory::DomainArg::LAYOUT,
    memory::MachphysMfnList::LAYOUT,
    memory::MachphysMapping::LAYOUT,
    memory::MemoryMap::LAYOUT,
    memory::ForeignMemoryMap::LAYOUT,
    memory::AcquireResource::LAYOUT,
    memory::VmemRange::LAYOUT,
    memory::VnumaTopologyInfo::LAYOUT,
    vcpu::RunstateInfo::LAYOUT,
    vcpu::RegisterRunstateArea::LAYOUT,
    vcpu::RegisterTimeArea::LAYOUT,
    vcpu::RegisterVcpuInfo::LAYOUT,
    vcpu::SetPeriodicTimer::LAYOUT,
    vcpu::SetSingleshotTimer::LAYOUT,
    vcpu::GetPhysid::LAYOUT,
    physdev::Eoi::LAYOUT,
    physdev::PirqEoiGmfn::LAYOUT,
    physdev::IrqStatusQuery::LAYOUT,
    physdev::SetIopl::LAYOUT,
    physdev::SetIobitmap::LAYOUT,
    physdev::Apic::LAYOUT,
    physdev::Irq::LAYOUT,
    physdev::MapPirq::LAYOUT,
    physdev::UnmapPirq::LAYOUT,
    physdev::SetupGsi::LAYOUT,
    physdev::GetFreePirq::LAYOUT,
    physdev::PciMmcfgReserved::LAYOUT,
    physdev::PciDeviceAdd::LAYOUT,
    physdev::PciDevice::LAYOUT,
    platform::PlatformOp::LAYOUT,
    platform::SetTime64::LAYOUT,
    platform::EnterAcpiSleep::LAYOUT,
    platform::CpuInfo::LAYOUT,
];
