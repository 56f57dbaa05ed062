//! The extended state of a vCPU, read and set from outside: XCR0, the parts that it ever had in use, and these
//! parts in the standard form of `xsave`.

use hypercall_abi::domctl::VcpuExtState;
use hypercall_abi::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use super::info::find;
use super::{Payload, get, put};
use crate::cpuid::kept;
use crate::dispatch::{Answer, DONE, Reply};
use crate::domain::Domain;
use crate::emulate::xcr0;
use crate::guest_memory::{self, GuestRange};
use crate::platform::Platform;
use crate::saved::FpuState;
use crate::system::{Context, DomainVcpu};

/// Bytes of XCR0 and of the parts ever in use.
const WORDS: u64 = 16;

/// Bytes of an answer with these parts.
const fn size(parts: u64) -> u64 {
    WORDS.saturating_add(xcr0::bytes(parts) as u64)
}

impl<P: Platform> Context<'_, P> {
    fn other_vcpu(&self, domain: &P::Arc<Domain<P>>, number: u32) -> Result<DomainVcpu<P>, Errno> {
        let target = find::<P>(domain, number).map_err(|_| Errno::ESRCH)?;
        if target.is(&self.target()) { Err(Errno::EINVAL) } else { Ok(target) }
    }

    /// `getvcpuextstate`: or how much room the answer takes at most, where there is none.
    ///
    /// # Errors
    ///
    /// - `ESRCH`: no such vCPU.
    /// - `EINVAL`: the caller itself; other parts than are kept here, or too little room.
    /// - `EFAULT`: it can't be written.
    pub(crate) fn get_extended(&self, domain: &P::Arc<Domain<P>>, payload: &mut Payload) -> Answer {
        let platform = &self.system.platform;
        let mut asked: VcpuExtState = get(payload);
        let target = self.other_vcpu(domain, asked.vcpu.0)?;
        let kept = kept(platform);
        if asked.size | asked.xfeature_mask == 0 || asked.buffer == 0 {
            (asked.xfeature_mask, asked.size) = (kept, size(kept));
            put(payload, &asked);
            return DONE;
        }
        let copy = self.while_still(&target, || {
            let state = target.vcpu.state.lock(platform);
            ([state.xcr0, state.xcr0_ever], target.vcpu.saved.lock(platform).fpu.clone())
        });
        let Some((words, fpu)) = copy else { return Ok(Reply::Again(self.args)) };
        let [_, ever] = words;
        if asked.size < size(ever) || asked.xfeature_mask != kept {
            return Err(Errno::EINVAL);
        }
        guest_memory::write(platform, asked.buffer, &words)?;
        let registers = fpu.as_bytes().get(..xcr0::bytes(ever)).unwrap_or(&[]);
        guest_memory::write(platform, asked.buffer.wrapping_add(WORDS), registers)?;
        asked.size = size(ever);
        put(payload, &asked);
        DONE
    }

    /// `setvcpuextstate`.
    ///
    /// # Errors
    ///
    /// - `ESRCH`: no such vCPU.
    /// - `EINVAL`: the caller itself; a size that does not fit the parts, parts that the domain may not have, or
    ///   an XCR0 that no processor accepts.
    /// - `EFAULT`: it can't be read.
    /// - `EOPNOTSUPP`: the compacted form.
    /// - `EIO`: bits of the header that must be 0.
    pub(crate) fn set_extended(&self, domain: &P::Arc<Domain<P>>, payload: &Payload) -> Answer {
        let platform = &self.system.platform;
        let asked: VcpuExtState = get(payload);
        let target = self.other_vcpu(domain, asked.vcpu.0)?;
        let length = asked.size.checked_sub(WORDS).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|_| asked.size <= size(kept(platform))).ok_or(Errno::EINVAL)?;
        let [xcr0, ever]: [u64; 2] = guest_memory::read(platform, asked.buffer)?;
        let mut fpu = FpuState::new_zeroed();
        let bytes = fpu.as_mut_bytes().get_mut(..length).ok_or(Errno::EINVAL)?;
        let at = GuestRange::new(asked.buffer.wrapping_add(WORDS), length)?;
        platform.read_guest(at, bytes)?;
        match (ever, xcr0, length) {
            (0, 0, 0) => return DONE,
            (0, 0, xcr0::LEAST..) if fpu.is_compact() => return Err(Errno::EOPNOTSUPP),
            (1.., _, xcr0::LEAST..) => {}
            _ => return Err(Errno::EINVAL),
        }
        let may = self.system.xcr0_features(domain);
        let valid = xcr0 & !ever == 0 && xcr0::is_valid(xcr0, may) && xcr0::is_valid(ever, may);
        let fpu = fpu.checked(ever).filter(|_| valid).ok_or(Errno::EINVAL)??;
        if length != xcr0::bytes(ever) {
            return Err(Errno::EINVAL);
        }
        let changed = self.while_still(&target, || {
            let mut state = target.vcpu.state.lock(platform);
            (state.xcr0, state.xcr0_ever) = (xcr0, ever);
            target.vcpu.saved.lock(platform).fpu = fpu;
            target.vcpu.set_last_cpu(None);
        });
        changed.map_or(Ok(Reply::Again(self.args)), |()| DONE)
    }
}
