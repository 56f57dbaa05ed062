//! `platform_op` (hypercall 7): which real CPUs there are, for the privileged domain. It sets nothing.

use hypercall_abi::errno::Errno;
use hypercall_abi::platform::{
    CPU_INVALID, CPU_ONLINE_FLAG, CpuInfo, CpuVersion, GET_CPU_VERSION, GET_CPUINFO,
    INTERFACE_VERSION, PlatformOp,
};

use crate::control::{get, put};
use crate::cpu::CpuId;
use crate::dispatch::{Answer, DONE};
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::{Context, System};

/// `platform_op(argument)`.
///
/// # Errors
///
/// - `EFAULT`: the envelope can't be read, or the answer written.
/// - `EACCES`: another version of the interface.
/// - `EPERM`: the caller is not privileged.
/// - `ENOSYS`: a sub-op that is unknown or absent.
pub fn platform_op<P: Platform>(cx: &mut Context<'_, P>, [argument, ..]: [u64; 6]) -> Answer {
    let platform = &cx.system.platform;
    let mut op: PlatformOp = guest_memory::read(platform, argument)?;
    if op.interface_version != INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    match op.cmd {
        GET_CPUINFO => {
            let asked: CpuInfo = get(&op.payload);
            put(&mut op.payload, &cx.system.real_cpu(asked));
        }
        GET_CPU_VERSION => {
            let asked: CpuVersion = get(&op.payload);
            put(&mut op.payload, &cx.system.real_cpu_version(asked));
        }
        _ => return Err(Errno::ENOSYS),
    }
    guest_memory::write(platform, argument, &op)?;
    DONE
}

impl<P: Platform> System<P> {
    /// A CPU that runs, by its number.
    fn running_cpu(&self, number: u32) -> Option<CpuId> {
        let cpu = u8::try_from(number).ok().and_then(CpuId::new)?;
        self.cpus.get(cpu).map(|_| cpu)
    }

    /// Of one that there is not, the numbers stay what they were.
    fn real_cpu(&self, asked: CpuInfo) -> CpuInfo {
        let max_present = self.cpu_count().saturating_sub(1);
        match self.running_cpu(asked.xen_cpuid) {
            None => CpuInfo { flags: CPU_INVALID, max_present, ..asked },
            Some(cpu) => {
                let [apic_id, acpi_id] = self.platform.cpu_numbers(cpu);
                CpuInfo { flags: CPU_ONLINE_FLAG, max_present, apic_id, acpi_id, ..asked }
            }
        }
    }

    /// All are of one kind. Of one that there is not, all is 0.
    fn real_cpu_version(&self, asked: CpuVersion) -> CpuVersion {
        let max_present = self.cpu_count().saturating_sub(1);
        let mut told =
            CpuVersion { xen_cpuid: asked.xen_cpuid, max_present, ..CpuVersion::default() };
        if self.running_cpu(asked.xen_cpuid).is_some() {
            let [_, a, c, b] = self.platform.cpuid(0, 0);
            let [signature, ..] = self.platform.cpuid(1, 0);
            told.vendor_id = [a, b, c];
            let field = |from: u32, bits: u32| signature >> from & bits;
            told.stepping = field(0, 0xf);
            told.family = field(8, 0xf);
            told.model = field(4, 0xf);
            if told.family >= 6 {
                told.model |= field(16, 0xf) << 4;
            }
            if told.family == 0xf {
                told.family = told.family.saturating_add(field(20, 0xff));
            }
        }
        told
    }
}
