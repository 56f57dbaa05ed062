//! `xen_version` (hypercall 17): what the guest runs on.

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::HYPERVISOR_VIRT_START;
use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::version::{self, FeatureInfo, Features};
use hypercall_abi::vm_assist::TYPE_PAE_EXTENDED_CR3;

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// The interface's version: major in the upper, minor in the lower half.
pub const VERSION: u64 = (4 << 16) | 17;
/// What follows the version in print; 15 characters at most.
const EXTRA_VERSION: &str = ".0-paravane";
/// Guest types that can be started.
const CAPABILITIES: &str = "xen-3.0-x86_64 ";
/// The command line, as it is shown to who may not see it.
const DENIED: &[u8; 9] = b"<denied>\0";
/// Bytes of the build identifier: the changeset's first characters.
const BUILD_ID: usize = 20;

/// `xen_version(cmd, argument)`.
///
/// # Errors
///
/// - `EFAULT`: the argument can't be written (or, where it has input, read).
/// - `EINVAL`: `get_features` of an unknown set; `build_id` with a length of 0.
/// - `ENOBUFS`: `build_id` with too little room.
/// - `EPERM`: `build_id`, of a domain that is not the initial one. Its command line is `<denied>`.
/// - `ENOSYS`: unknown sub-op.
pub fn xen_version<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    let identity = cx.system.identity;
    match low_u32(cmd) {
        version::VERSION => Ok(Reply::Value(VERSION)),
        version::EXTRAVERSION => text::<16, P>(cx, argument, EXTRA_VERSION.as_bytes()),
        version::COMPILE_INFO => compile_info(cx, argument),
        version::CAPABILITIES => text::<1024, P>(cx, argument, CAPABILITIES.as_bytes()),
        version::CHANGESET => text::<64, P>(cx, argument, identity.changeset.as_bytes()),
        version::PLATFORM_PARAMETERS => put(cx, argument, &HYPERVISOR_VIRT_START),
        version::GET_FEATURES => features(cx, argument),
        version::PAGESIZE if argument != 0 => Err(Errno::EINVAL),
        version::PAGESIZE => Ok(Reply::Value(PAGE_SIZE as u64)),
        version::GUEST_HANDLE => {
            let handle = *cx.domain.handle.lock(&cx.system.platform);
            put(cx, argument, &handle)
        }
        version::COMMANDLINE if !cx.domain.is_privileged() => put(cx, argument, DENIED),
        version::COMMANDLINE => text::<1024, P>(cx, argument, identity.command_line),
        version::BUILD_ID if !cx.domain.is_privileged() => Err(Errno::EPERM),
        version::BUILD_ID => build_id(cx, argument),
        _ => Err(Errno::ENOSYS),
    }
}

/// The feature bits of set 0 that a domain may rely on, whatever assists it has switched on.
#[must_use]
pub fn offered(privileged: bool) -> Features {
    let common = Features::MMU_PT_UPDATE_PRESERVE_AD
        | Features::HIGHMEM_ASSIST
        | Features::GNTTAB_MAP_AVAIL_BITS
        | Features::MEMORY_OP_VNODE_SUPPORTED
        | Features::DIRECT_MAPPED;
    if privileged { common | Features::DOM0 } else { common }
}

fn features<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let mut info: FeatureInfo = guest_memory::read(&cx.system.platform, argument)?;
    if info.submap_idx != 0 {
        return Err(Errno::EINVAL);
    }
    let mut set = offered(cx.domain.is_privileged());
    set.set(Features::PAE_PGDIR_ABOVE_4GB, cx.has_assist(TYPE_PAE_EXTENDED_CR3));
    info.submap = set.bits();
    put(cx, argument, &info)
}

/// Compiler (64 bytes), user (16), host (32), date (32) of the build.
fn compile_info<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let mut info = [0_u8; 144];
    for (byte, from) in info.iter_mut().take(63).zip(cx.system.identity.compiler.bytes()) {
        *byte = from;
    }
    put(cx, argument, &info)
}

fn build_id<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    /// Bytes before the identifier: the room for it.
    const HEADER: u64 = size_of::<u32>() as u64;
    if argument == 0 {
        return Ok(Reply::Value(BUILD_ID as u64));
    }
    let room: u32 = guest_memory::read(&cx.system.platform, argument)?;
    if room == 0 {
        return Err(Errno::EINVAL);
    }
    if usize::try_from(room).unwrap_or(usize::MAX) < BUILD_ID {
        return Err(Errno::ENOBUFS);
    }
    let mut id = [0_u8; BUILD_ID];
    for (byte, from) in id.iter_mut().zip(cx.system.identity.changeset.bytes()) {
        *byte = from;
    }
    guest_memory::write(&cx.system.platform, argument.wrapping_add(HEADER), &id)?;
    Ok(Reply::Value(BUILD_ID as u64))
}

/// Writes `text` into a field of `N` bytes at `argument`, cut to leave room for the final zero.
fn text<const N: usize, P: Platform>(cx: &Context<'_, P>, argument: u64, text: &[u8]) -> Answer {
    let mut field = [0_u8; N];
    for (byte, from) in field.iter_mut().take(N.saturating_sub(1)).zip(text) {
        *byte = *from;
    }
    put(cx, argument, &field)
}

fn put<P: Platform, T>(cx: &Context<'_, P>, argument: u64, value: &T) -> Answer
where
    T: zerocopy::IntoBytes + zerocopy::Immutable,
{
    guest_memory::write(&cx.system.platform, argument, value)?;
    DONE
}
