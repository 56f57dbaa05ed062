//! How a guest is entered and how it returns: `set_trap_table`, `set_callbacks`, `callback_op`,
//! `stack_switch`, `iret`.

use hypercall_abi::callback::{self, CallbackRegister, CallbackUnregister};
use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS};
use hypercall_abi::regs::{GuestContextFlags, IretContext};
use hypercall_abi::trap::TrapInfo;

use crate::bounce::rflags;
use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory::{self, is_canonical};
use crate::nmi;
use crate::platform::Platform;
use crate::system::Context;
use crate::vcpu::Handler;

/// What a row of a trap table costs of a slice.
const ROW_COST: u32 = 16;

/// `set_trap_table(rows)`: sets handlers of exceptions, up to a row with address 0. A null pointer
/// removes all handlers.
///
/// # Errors
///
/// - `EFAULT`: a row can't be read. The rows before it are set.
/// - `EINVAL`: a handler's address is not canonical. The rows before it are set.
pub fn set_trap_table<P: Platform>(cx: &mut Context<'_, P>, [rows, ..]: [u64; 6]) -> Answer {
    let platform = &cx.system.platform;
    if rows == 0 {
        cx.vcpu.state.lock(platform).traps.clear();
        return DONE;
    }
    let mut at = rows;
    while at == rows || !cx.budget.is_spent() {
        cx.budget.charge(ROW_COST);
        let row: TrapInfo = guest_memory::read(platform, at)?;
        if row.address == 0 {
            return DONE;
        }
        if !is_canonical(row.address) {
            return Err(Errno::EINVAL);
        }
        cx.vcpu.state.lock(platform).traps.set(&row);
        at = at.wrapping_add(size_of::<TrapInfo>() as u64);
    }
    Ok(Reply::Again([at, 0, 0, 0, 0, 0]))
}

/// `set_callbacks(event, failsafe, syscall)`: the older way to set three callbacks at once. An
/// address that is not canonical is passed over.
///
/// # Errors
///
/// None.
pub fn set_callbacks<P: Platform>(
    cx: &mut Context<'_, P>,
    [event, failsafe, syscall, ..]: [u64; 6],
) -> Answer {
    for (kind, address) in [
        (callback::TYPE_EVENT, event),
        (callback::TYPE_FAILSAFE, failsafe),
        (callback::TYPE_SYSCALL, syscall),
    ] {
        // The call has no way to say that one of three was wrong.
        let _ = register(cx, &CallbackRegister { kind, address, ..CallbackRegister::default() });
    }
    DONE
}

/// `callback_op(cmd, argument)`: sets or removes one callback.
///
/// # Errors
///
/// - `EFAULT`: the argument can't be read.
/// - `EINVAL`: the address is not canonical, or the callback is of a kind that can't be removed.
/// - `ENOSYS`: unknown command or kind.
pub fn callback_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    match low_u32(cmd) {
        callback::REGISTER => {
            let new: CallbackRegister = guest_memory::read(&cx.system.platform, argument)?;
            register(cx, &new)?;
            DONE
        }
        callback::UNREGISTER => {
            let old: CallbackUnregister = guest_memory::read(&cx.system.platform, argument)?;
            unregister(cx, old.kind)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn register<P: Platform>(cx: &Context<'_, P>, new: &CallbackRegister) -> Result<(), Errno> {
    if !is_canonical(new.address) {
        return Err(Errno::EINVAL);
    }
    let masks = new.flags & callback::MASK_EVENTS != 0;
    let mut state = cx.vcpu.state.lock(&cx.system.platform);
    match new.kind {
        // The event callback masks events whatever the flag says.
        callback::TYPE_EVENT => state.event = Handler::callback(new.address, true),
        callback::TYPE_FAILSAFE => state.failsafe = Handler::callback(new.address, masks),
        callback::TYPE_SYSCALL => state.syscall = Handler::callback(new.address, masks),
        callback::TYPE_SYSCALL32 => state.syscall32 = Handler::callback(new.address, masks),
        callback::TYPE_SYSENTER => state.sysenter = Handler::callback(new.address, masks),
        callback::TYPE_NMI => state.traps.set(&nmi::handler(new.address)),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(())
}

fn unregister<P: Platform>(cx: &Context<'_, P>, kind: u16) -> Answer {
    match kind {
        callback::TYPE_NMI => {
            cx.vcpu.state.lock(&cx.system.platform).traps.set(&nmi::NO_HANDLER);
            DONE
        }
        callback::TYPE_EVENT
        | callback::TYPE_FAILSAFE
        | callback::TYPE_SYSCALL
        | callback::TYPE_SYSCALL32
        | callback::TYPE_SYSENTER => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

/// `stack_switch(ss, sp)`: the stack on which user mode enters the kernel.
///
/// # Errors
///
/// None: a stack that is no stack is found out when it is used.
pub fn stack_switch<P: Platform>(cx: &mut Context<'_, P>, [ss, sp, ..]: [u64; 6]) -> Answer {
    let [low, high, ..] = ss.to_le_bytes();
    let mut state = cx.vcpu.state.lock(&cx.system.platform);
    state.kernel_ss = u16::from_le_bytes([low, high]) | 3;
    state.kernel_sp = sp;
    DONE
}

/// `iret`: continues with what is on the stack, in kernel or user mode.
///
/// A frame that can't be used ends the domain: there is nothing to return to.
///
/// # Errors
///
/// None.
pub fn iret<P: Platform>(cx: &mut Context<'_, P>) -> Answer {
    let platform = &cx.system.platform;
    let frame: IretContext = match guest_memory::read(platform, cx.regs.rsp) {
        Ok(frame) => frame,
        Err(fault) => {
            cx.crash(format_args!("iret: the frame can't be read at {:#x}", fault.address));
            return Ok(Reply::Registers);
        }
    };
    if frame.cs & 3 == 3 && !cx.enter_user_mode() {
        cx.crash(format_args!("iret to user mode, for which there are no page tables"));
        return Ok(Reply::Registers);
    }
    if cx.has_assist(hypercall_abi::vm_assist::TYPE_ARCHITECTURAL_IOPL) {
        cx.vcpu.state.lock(platform).iopl = frame.rflags & rflags::IOPL;
    }
    cx.regs.rax = frame.rax;
    cx.regs.rip = frame.rip;
    cx.regs.rflags = frame.rflags & !(rflags::IOPL | rflags::VM) | rflags::IF;
    cx.regs.rsp = frame.rsp;
    let cs = frame.cs & 0xffff | 3;
    let quick = frame.flags & GuestContextFlags::IN_SYSCALL.bits() != 0;
    if quick && cs != u64::from(FLAT_RING3_CS32) {
        // Back from a system call: the selectors are those that `sysret` gives.
        cx.regs.cs = u64::from(FLAT_RING3_CS64);
        cx.regs.ss = u64::from(FLAT_RING3_DS);
        cx.regs.rcx = frame.rip;
        cx.regs.r11 = cx.regs.rflags;
        cx.regs.leave_by_sysret();
    } else {
        cx.regs.cs = cs;
        cx.regs.ss = frame.ss & 0xffff | 3;
        cx.regs.rcx = frame.rcx;
        cx.regs.r11 = frame.r11;
        cx.regs.leave_by_iretq();
    }
    cx.vcpu.nmi.end();
    cx.vcpu.info(platform).set_mask(u8::from(frame.rflags & rflags::IF == 0));
    Ok(Reply::Registers)
}
