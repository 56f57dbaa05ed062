//! What CPUID shows, for the tools: the machine's, the hypervisor's for every guest, and a domain's.
//!
//! A domain's policy is every guest's, but for highest leaves and features that the tools take away
//! ([`Limits`]). As on Xen, what they add beyond that is passed over. All other values are the
//! machine's for everybody: to set one otherwise is refused, as a policy that is not compatible.

use core::sync::atomic::Ordering;

use hypercall_abi::cpuid as leaf;
use hypercall_abi::domctl::{CpuPolicy, CpuidLeaf, MsrEntry, NO_SUBLEAF};
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl;

use super::machine::{read_at, write_at};
use super::{Payload, get, put};
use crate::cpuid::{self, FEATURES, Limits, NO_CPU, Viewer};
use crate::dispatch::{Answer, DONE};
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::{Context, System};

/// The most leaves, and registers, that a policy has on Xen.
const MOST_LEAVES: u32 = 120;
const MOST_MSRS: u32 = 2;
/// The highest leaves that can be in a policy.
const LAST_BASIC: u32 = 0xd;
const EXTENDED: u32 = 0x8000_0000;
const LAST_EXTENDED: u32 = 0x8000_0021;
/// The machine registers in a policy.
const PLATFORM_INFO: u32 = 0xce;
const ARCH_CAPABILITIES: u32 = 0x10a;
/// The words of a set of features: leaf, sub-leaf, number of the register. Two more words behind the
/// sixteenth are a machine register's.
const WORDS: [(u32, u32, usize); 17] = [
    (1, 0, 3),
    (1, 0, 2),
    (0x8000_0001, 0, 3),
    (0x8000_0001, 0, 2),
    (0xd, 1, 0),
    (7, 0, 1),
    (7, 0, 2),
    (0x8000_0007, 0, 3),
    (0x8000_0008, 0, 1),
    (7, 0, 3),
    (7, 1, 0),
    (0x8000_0021, 0, 0),
    (7, 1, 1),
    (7, 2, 3),
    (7, 1, 2),
    (7, 1, 3),
    (0x8000_0021, 0, 2),
];
/// Where the machine register's words are.
const REGISTER_WORDS: usize = 16;

/// Sub-leaves that a leaf has at most in a policy; none: it has no sub-leaves.
const fn subleaves(leaf: u32) -> Option<u32> {
    match leaf {
        4 => Some(6),
        7 => Some(3),
        0xb => Some(2),
        0xd => Some(63),
        _ => None,
    }
}

/// Writes the leaves that `read` has; returns how many.
///
/// # Errors
///
/// - `ENOBUFS`: there is not room for all.
/// - `EFAULT`.
fn write_leaves(
    platform: &impl Platform,
    read: &dyn Fn(u32, u32) -> [u32; 4],
    own: u32,
    (array, room): (u64, u32),
) -> Result<u32, Errno> {
    let mut count = 0;
    let mut tell = |leaf, subleaf, registers| {
        let left = Some(count).filter(|&count| count < room).ok_or(Errno::ENOBUFS)?;
        let [a, b, c, d] = registers;
        write_at(platform, array, left, &CpuidLeaf { leaf, subleaf, a, b, c, d })?;
        count = left.saturating_add(1);
        Ok::<(), Errno>(())
    };
    let ([basic, ..], [extended, ..]) = (read(0, 0), read(EXTENDED, 0));
    let ([low, _, _, high], [_, _, more_low, more_high]) = (read(0xd, 0), read(0xd, 1));
    let states = u64::from(high | more_high).wrapping_shl(32) | u64::from(low | more_low);
    for leaf in 0..=basic.min(LAST_BASIC) {
        let Some(most) = subleaves(leaf) else {
            tell(leaf, NO_SUBLEAF, read(leaf, 0))?;
            continue;
        };
        let [highest, ..] = read(leaf, 0);
        for subleaf in 0..most {
            let registers = read(leaf, subleaf);
            tell(leaf, subleaf, registers)?;
            let [eax, _, ecx, _] = registers;
            let is_last = match leaf {
                4 => eax & 0x1f == 0,
                7 => subleaf >= highest,
                0xb => ecx & 0xff00 == 0,
                _ => subleaf > 0 && states.wrapping_shr(subleaf) <= 1,
            };
            if is_last {
                break;
            }
        }
    }
    tell(leaf::BASE, NO_SUBLEAF, [own, 0, 0, 0])?;
    tell(leaf::EXTENSION_BASE, NO_SUBLEAF, [0; 4])?;
    for leaf in EXTENDED..=extended.min(LAST_EXTENDED) {
        tell(leaf, NO_SUBLEAF, read(leaf, 0))?;
    }
    Ok(count)
}

/// Writes the machine registers of a policy: nobody is shown anything there.
fn write_msrs(platform: &impl Platform, (array, room): (u64, u32)) -> Result<(), Errno> {
    for (number, idx) in [PLATFORM_INFO, ARCH_CAPABILITIES].into_iter().enumerate() {
        let number = u32::try_from(number).ok().filter(|&number| number < room);
        let entry = MsrEntry { idx, ..MsrEntry::default() };
        write_at(platform, array, number.ok_or(Errno::ENOBUFS)?, &entry)?;
    }
    Ok(())
}

/// Writes leaves and registers, or says how many there can be where there is no array.
fn tell(
    platform: &impl Platform,
    read: &dyn Fn(u32, u32) -> [u32; 4],
    own: u32,
    [leaves, msrs]: [(u64, u32); 2],
) -> Result<[u32; 2], Errno> {
    let nr_leaves = match leaves {
        (0, _) => MOST_LEAVES,
        _ => write_leaves(platform, read, own, leaves)?,
    };
    if let (1.., _) = msrs {
        write_msrs(platform, msrs)?;
    }
    Ok([nr_leaves, MOST_MSRS])
}

impl<P: Platform> System<P> {
    fn leaf(&self, limits: &Limits, leaf: u32, subleaf: u32) -> [u32; 4] {
        cpuid::policy(self, Viewer::Other, limits, (leaf, subleaf))
    }

    /// `get_cpu_policy` of a domain.
    ///
    /// # Errors
    ///
    /// - `ENOBUFS`: there is not room for all.
    /// - `EFAULT`: an array can't be written.
    pub(crate) fn cpu_policy(
        &self,
        domain: &Domain<P>,
        payload: &mut Payload,
    ) -> Result<(), Errno> {
        let mut asked: CpuPolicy = get(payload);
        let limits = *domain.cpuid.lock(&self.platform);
        let [.., own] = limits.leaves;
        let own = if own == u32::MAX { 0 } else { own.wrapping_sub(leaf::BASE) };
        let arrays = [(asked.leaves, asked.nr_leaves), (asked.msrs, asked.nr_msrs)];
        let read = |leaf, subleaf| self.leaf(&limits, leaf, subleaf);
        [asked.nr_leaves, asked.nr_msrs] = tell(&self.platform, &read, own, arrays)?;
        put(payload, &asked);
        Ok(())
    }

    /// `set_cpu_policy`. What is refused of it is named in the payload.
    ///
    /// # Errors
    ///
    /// - `EEXIST`: the domain has run.
    /// - `E2BIG`: more leaves or registers than a policy has.
    /// - `EFAULT`: an array can't be read.
    /// - `ERANGE`: a leaf or register that is in no policy.
    /// - `EOVERFLOW`: a value that the register can't hold.
    /// - `EINVAL`: flags of a register; leaves beyond the highest, or a value other than every guest's.
    pub(crate) fn set_cpu_policy(
        &self,
        domain: &Domain<P>,
        payload: &mut Payload,
    ) -> Result<(), Errno> {
        if domain.begun.load(Ordering::Relaxed) {
            return Err(Errno::EEXIST);
        }
        let asked: CpuPolicy = get(payload);
        let mut limits = *domain.cpuid.lock(&self.platform);
        let mut named = [u32::MAX; 3];
        let merged = self.merge_policy(&asked, &mut limits, &mut named);
        let [err_leaf, err_subleaf, err_msr] = named;
        put(payload, &CpuPolicy { err_leaf, err_subleaf, err_msr, ..asked });
        merged.map(|()| *domain.cpuid.lock(&self.platform) = limits)
    }

    fn merge_policy(
        &self,
        asked: &CpuPolicy,
        limits: &mut Limits,
        named: &mut [u32; 3],
    ) -> Result<(), Errno> {
        if asked.nr_leaves > MOST_LEAVES {
            return Err(Errno::E2BIG);
        }
        let mut objection = None;
        for number in 0..asked.nr_leaves {
            let given: CpuidLeaf = read_at(&self.platform, asked.leaves, number)?;
            let place = [given.leaf, given.subleaf, u32::MAX];
            match self.merge_leaf(limits, &given) {
                None => {
                    *named = place;
                    return Err(Errno::ERANGE);
                }
                Some(false) => objection = objection.or(Some(place)),
                Some(true) => {}
            }
        }
        if asked.nr_msrs > MOST_MSRS {
            return Err(Errno::E2BIG);
        }
        for number in 0..asked.nr_msrs {
            let given: MsrEntry = read_at(&self.platform, asked.msrs, number)?;
            let error = match given.idx {
                _ if given.flags != 0 => Errno::EINVAL,
                PLATFORM_INFO if given.val > u32::MAX.into() => Errno::EOVERFLOW,
                PLATFORM_INFO if given.val != 0 => {
                    objection = objection.or(Some([u32::MAX, u32::MAX, given.idx]));
                    continue;
                }
                PLATFORM_INFO | ARCH_CAPABILITIES => continue,
                _ => Errno::ERANGE,
            };
            *named = [u32::MAX, u32::MAX, given.idx];
            return Err(error);
        }
        *named = objection.unwrap_or(*named);
        if objection.is_some() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Whether a leaf fits the policy, with the limits that it sets; `None` if it is in none.
    fn merge_leaf(&self, limits: &mut Limits, given: &CpuidLeaf) -> Option<bool> {
        let CpuidLeaf { leaf, subleaf, a, b, c, d } = *given;
        let exists = match leaf {
            0..=LAST_BASIC => match subleaves(leaf) {
                Some(most) => subleaf < most,
                None => subleaf == NO_SUBLEAF,
            },
            EXTENDED..=LAST_EXTENDED | leaf::BASE | leaf::EXTENSION_BASE => subleaf == NO_SUBLEAF,
            _ => false,
        };
        if !exists {
            return None;
        }
        let [basic, extended, own] = &mut limits.leaves;
        match leaf {
            0 => *basic = a,
            EXTENDED => *extended = a,
            leaf::BASE if a == 0 => *own = u32::MAX,
            leaf::BASE => *own = leaf::BASE.saturating_add(a.max(2)),
            _ => {}
        }
        if matches!(leaf, leaf::BASE | leaf::EXTENSION_BASE) {
            return Some(true);
        }
        let first = if subleaf == NO_SUBLEAF { 0 } else { subleaf };
        let ours = self.leaf(&Limits::NONE, leaf, first);
        let mut fits = true;
        for (number, (given, ours)) in [a, b, c, d].into_iter().zip(ours).enumerate() {
            let mut shown = FEATURES.iter().zip(&mut limits.features);
            let shown = shown.find(|(place, _)| **place == (leaf, first, number));
            if let Some((_, shown)) = shown {
                *shown = given;
                continue;
            }
            fits &= match (leaf, number) {
                (0 | EXTENDED, 0) => given <= ours,
                (7, 0) => subleaf != 0 || given <= ours,
                (1, 1) => given & NO_CPU == ours,
                // The extended state follows from the features.
                (0xb, 3) | (0xd, _) => true,
                _ => ours == 0 || given == ours,
            };
        }
        Some(fits)
    }
}

impl<P: Platform> Context<'_, P> {
    fn system_leaf(&self, index: u32, leaf: u32, subleaf: u32) -> [u32; 4] {
        match index {
            sysctl::POLICY_RAW | sysctl::POLICY_HOST => self.system.platform.cpuid(leaf, subleaf),
            _ => self.system.leaf(&Limits::NONE, leaf, subleaf),
        }
    }

    /// `sysctl`'s `get_cpu_policy`: what guests can have at most is what they have.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such policy, or bits that must be 0.
    /// - `EOPNOTSUPP`: one of hardware-virtualised guests.
    /// - `ENOBUFS`: there is not room for all.
    /// - `EFAULT`: an array can't be written.
    pub(crate) fn system_policy(&self, payload: &mut Payload) -> Result<(), Errno> {
        let mut asked: sysctl::SystemCpuPolicy = get(payload);
        let index = asked.index;
        if asked.rsvd != 0 || index >= sysctl::POLICIES {
            return Err(Errno::EINVAL);
        }
        if index > sysctl::POLICY_PV_MAX && index != sysctl::POLICY_PV_DEFAULT {
            return Err(Errno::EOPNOTSUPP);
        }
        let arrays = [(asked.leaves, asked.nr_leaves), (asked.msrs, asked.nr_msrs)];
        let read = |leaf, subleaf| self.system_leaf(index, leaf, subleaf);
        [asked.nr_leaves, asked.nr_msrs] = tell(&self.system.platform, &read, 0, arrays)?;
        put(payload, &asked);
        Ok(())
    }

    /// `get_cpu_featureset`: of as many words as there is room for; if that is not all, the answer says
    /// `ENOBUFS`, and is told nevertheless.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such set.
    /// - `EOPNOTSUPP`: one of hardware-virtualised guests.
    /// - `EFAULT`: the array can't be written.
    pub(crate) fn featureset(&self, payload: &mut Payload) -> Result<Answer, Errno> {
        let mut asked: sysctl::CpuFeatureset = get(payload);
        let all = u32::try_from(WORDS.len()).unwrap_or(0).saturating_add(2);
        let room = if asked.features == 0 { all } else { asked.nr_features.min(all) };
        let index = asked.index;
        asked.nr_features = room;
        put(payload, &asked);
        if asked.features == 0 {
            return Ok(DONE);
        }
        if index >= sysctl::POLICIES {
            return Err(Errno::EINVAL);
        }
        if !matches!(index, 0..=sysctl::FEATURESET_PV | sysctl::FEATURESET_PV_MAX) {
            return Err(Errno::EOPNOTSUPP);
        }
        let (first, last) = WORDS.split_at_checked(REGISTER_WORDS).unwrap_or_default();
        let word = |&(leaf, subleaf, number): &(u32, u32, usize)| {
            let [highest, ..] = self.system_leaf(index, leaf & EXTENDED, 0);
            let [sub, ..] = self.system_leaf(index, leaf, 0);
            let exists = leaf <= highest && (leaf != 7 || subleaf <= sub);
            let registers = self.system_leaf(index, leaf, subleaf);
            registers.get(number).copied().filter(|_| exists).unwrap_or(0)
        };
        let words = first.iter().map(word).chain([0; 2]).chain(last.iter().map(word));
        for (number, word) in (0..room).zip(words) {
            write_at(&self.system.platform, asked.features, number, &word)?;
        }
        Ok(if room < all { Err(Errno::ENOBUFS) } else { DONE })
    }
}
