//! Smaller calls about a guest's own behaviour: `vm_assist`, `nmi_op`, `set_debugreg`, `get_debugreg`.

use hypercall_abi::callback::NmiCallback;
use hypercall_abi::errno::Errno;
use hypercall_abi::{ops, vm_assist};

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory;
use crate::nmi;
use crate::platform::Platform;
use crate::system::Context;

/// The assists that a 64-bit guest may switch.
pub(crate) const ASSISTS: [u32; 7] = [
    vm_assist::TYPE_4GB_SEGMENTS,
    vm_assist::TYPE_4GB_SEGMENTS_NOTIFY,
    vm_assist::TYPE_WRITABLE_PAGETABLES,
    vm_assist::TYPE_PAE_EXTENDED_CR3,
    vm_assist::TYPE_ARCHITECTURAL_IOPL,
    vm_assist::TYPE_RUNSTATE_UPDATE_FLAG,
    vm_assist::TYPE_M2P_STRICT,
];

/// `vm_assist(cmd, type)`: switches an assist on or off.
///
/// # Errors
///
/// - `EINVAL`: there is no such assist.
/// - `ENOSYS`: unknown command.
pub fn vm_assist<P: Platform>(cx: &mut Context<'_, P>, [cmd, kind, ..]: [u64; 6]) -> Answer {
    let kind = low_u32(kind);
    if !ASSISTS.contains(&kind) {
        return Err(Errno::EINVAL);
    }
    match low_u32(cmd) {
        vm_assist::ENABLE => cx.domain.memory.enable_assist(kind),
        vm_assist::DISABLE => cx.domain.memory.disable_assist(kind),
        _ => return Err(Errno::ENOSYS),
    }
    DONE
}

/// `nmi_op(cmd, argument)`: sets or removes the handler of non-maskable interrupts.
///
/// # Errors
///
/// - `EFAULT`: the argument can't be read.
/// - `EINVAL`: the address is not canonical, or the vCPU is not the first.
/// - `ENOSYS`: unknown command.
pub fn nmi_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    let platform = &cx.system.platform;
    let row = match low_u32(cmd) {
        ops::nmi::REGISTER_CALLBACK => {
            let NmiCallback { handler_address, .. } = guest_memory::read(platform, argument)?;
            if !guest_memory::is_canonical(handler_address) {
                return Err(Errno::EINVAL);
            }
            nmi::handler(handler_address)
        }
        ops::nmi::UNREGISTER_CALLBACK => nmi::NO_HANDLER,
        _ => return Err(Errno::ENOSYS),
    };
    cx.vcpu.state.lock(platform).traps.set(&row);
    DONE
}

/// `set_debugreg(register, value)`.
///
/// # Errors
///
/// As [`crate::debug::DebugRegisters::set`].
pub fn set_debugreg<P: Platform>(
    cx: &mut Context<'_, P>,
    [register, value, ..]: [u64; 6],
) -> Answer {
    let platform = &cx.system.platform;
    let register = u64::from(low_u32(register));
    let mut state = cx.vcpu.state.lock(platform);
    let cr4 = state.cr4;
    let written = state.debug.set(register, value, cr4)?;
    drop(state);
    written.apply(platform);
    DONE
}

/// `get_debugreg(register)`: returns the register's value.
///
/// # Errors
///
/// As [`crate::debug::DebugRegisters::get`].
pub fn get_debugreg<P: Platform>(cx: &mut Context<'_, P>, [register, ..]: [u64; 6]) -> Answer {
    let register = u64::from(low_u32(register));
    let state = cx.vcpu.state.lock(&cx.system.platform);
    Ok(Reply::Value(state.debug.get(register, state.cr4)?))
}
