//! Which events wait: two levels of bits, a word of 64 for all ports and 64 words for each.

use core::iter;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::Port;

use crate::shared::{SharedInfo, VcpuInfo};

/// A set of ports, one bit for each of 4096. Others are never in it.
#[derive(Debug)]
pub(super) struct Ports([AtomicU64; 64]);

/// The word and the bit of a port; `None` for one that two levels do not have.
pub(super) fn place(port: Port) -> Option<(usize, u64)> {
    let word = usize::try_from(port.0 / 64).ok()?;
    (word < 64).then(|| (word, 1 << (port.0 % 64)))
}

impl Ports {
    /// No port.
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 64])
    }

    /// Adds a port.
    pub(super) fn add(&self, port: Port) {
        if let Some((word, bit)) = place(port) {
            self.0[word].fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Takes a port out.
    pub(super) fn remove(&self, port: Port) {
        if let Some((word, bit)) = place(port) {
            self.0[word].fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// Whether a port is in it.
    pub(super) fn contains(&self, port: Port) -> bool {
        place(port).is_some_and(|(word, bit)| self.0[word].load(Ordering::SeqCst) & bit != 0)
    }
}

/// The numbers of the bits that are set, lowest first.
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// Takes the events that wait for a virtual CPU, until none does, and gives each to `each`.
///
/// In one round every port has its turn once, the lowest first, so one that is signalled again and
/// again does not keep the others waiting. Ports that are masked or not in `served` are left as
/// they are.
pub(super) fn take(
    shared: &SharedInfo,
    info: &VcpuInfo,
    served: &Ports,
    mut each: impl FnMut(Port),
) {
    while info.upcall_pending.swap(0, Ordering::SeqCst) != 0 {
        for number in bits(info.pending_words.swap(0, Ordering::SeqCst)) {
            let (word, base) = (number as usize, 64 * number);
            let pending = &shared.pending[word];
            let ready = pending.load(Ordering::SeqCst) & !shared.mask[word].load(Ordering::SeqCst);
            for bit in bits(ready) {
                let port = Port(base + bit);
                // A handler before this one may have closed the port or taken its event.
                if served.contains(port)
                    && pending.fetch_and(!(1 << bit), Ordering::SeqCst) >> bit & 1 != 0
                {
                    each(port);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::SeqCst;
    use std::boxed::Box;
    use std::vec::Vec;

    use hypercall_abi::types::Port;
    use zerocopy::FromZeros;

    use super::{Ports, bits, place, take};
    use crate::shared::{SharedInfo, VcpuInfo};

    /// Signals a port as a hypervisor does.
    fn signal(shared: &SharedInfo, info: &VcpuInfo, port: u32) {
        let (word, bit) = place(Port(port)).unwrap();
        shared.pending[word].fetch_or(bit, SeqCst);
        if shared.mask[word].load(SeqCst) & bit == 0 {
            info.pending_words.fetch_or(1 << word, SeqCst);
            info.upcall_pending.store(1, SeqCst);
        }
    }

    fn page(served: &[u32]) -> (Box<SharedInfo>, Ports) {
        let ports = Ports::new();
        served.iter().for_each(|&port| ports.add(Port(port)));
        (Box::new(SharedInfo::new_zeroed()), ports)
    }

    #[test]
    fn every_port_has_its_turn_once_lowest_first() {
        let (shared, served) = page(&[1, 63, 64, 700, 4095]);
        let info = &shared.vcpus[3];
        [4095, 64, 1, 700, 63].into_iter().for_each(|port| signal(&shared, info, port));
        let mut seen = Vec::new();
        take(&shared, info, &served, |port| seen.push(port.0));
        assert_eq!(seen, [1, 63, 64, 700, 4095]);
        assert!(shared.pending.iter().all(|word| word.load(SeqCst) == 0));
        assert_eq!(info.pending_words.load(SeqCst), 0);
    }

    #[test]
    fn a_port_that_is_signalled_again_comes_after_the_others() {
        let (shared, served) = page(&[5, 6, 200]);
        let info = &shared.vcpus[0];
        [5, 6, 200].into_iter().for_each(|port| signal(&shared, info, port));
        let mut seen = Vec::new();
        take(&shared, info, &served, |port| {
            seen.push(port.0);
            if port.0 == 5 && seen.len() < 5 {
                signal(&shared, info, 5);
            }
        });
        assert_eq!(seen, [5, 6, 200, 5, 5]);
    }

    #[test]
    fn masked_and_foreign_ports_are_left_alone() {
        let (shared, served) = page(&[8, 9]);
        let info = &shared.vcpus[0];
        shared.mask[0].store(1 << 9, SeqCst);
        [7, 8, 9].into_iter().for_each(|port| signal(&shared, info, port));
        let mut seen = Vec::new();
        take(&shared, info, &served, |port| seen.push(port.0));
        assert_eq!(seen, [8]);
        assert_eq!(shared.pending[0].load(SeqCst), 1 << 7 | 1 << 9);
    }

    #[test]
    fn a_port_that_a_handler_gives_up_has_no_turn() {
        let (shared, served) = page(&[1, 2, 3]);
        let info = &shared.vcpus[0];
        [1, 2, 3].into_iter().for_each(|port| signal(&shared, info, port));
        let mut seen = Vec::new();
        take(&shared, info, &served, |port| {
            seen.push(port.0);
            served.remove(Port(2));
            shared.pending[0].fetch_and(!(1 << 3), SeqCst);
        });
        assert_eq!(seen, [1]);
    }

    #[test]
    fn ports_beyond_two_levels_are_in_no_set() {
        let ports = Ports::new();
        ports.add(Port(4096));
        ports.add(Port(u32::MAX));
        assert!(!ports.contains(Port(4096)) && !ports.contains(Port(0)));
        ports.add(Port(4095));
        assert!(ports.contains(Port(4095)));
        ports.remove(Port(4095));
        assert!(!ports.contains(Port(4095)));
    }

    #[test]
    fn bits_are_listed_lowest_first() {
        assert_eq!(bits(1 << 63 | 1 << 5 | 1).collect::<Vec<_>>(), [0, 5, 63]);
        assert_eq!(bits(0).count(), 0);
        assert_eq!(bits(u64::MAX).count(), 64);
    }
}
