//! All uses of all entries, counted from scratch.

use std::collections::BTreeMap;
use std::sync::Arc;

use hypercall_abi::types::{DomId, GrantRef, Mfn};

use crate::domain::Domain;
use crate::fake::Machine;
use crate::fake::audit::Holders;
use crate::frames::FrameType;

/// The uses of one entry: by whom, of which frame, and the four counts.
type Counted = (DomId, Mfn, u32);

impl Holders {
    /// Adds what grants hold. Between operations every use of an entry is that of a mapping.
    ///
    /// # Panics
    ///
    /// If the counts of an entry are not those of the mappings there are.
    pub fn add_grants(&mut self, machine: &Machine, domains: &[Arc<Domain<Machine>>]) {
        let mut mapped: BTreeMap<(DomId, GrantRef), (DomId, u32)> = BTreeMap::new();
        let mut used: BTreeMap<(DomId, GrantRef), Counted> = BTreeMap::new();
        for domain in domains {
            let mut uses = 0;
            domain.grants.each_use(machine, |reference, by, mfn, counts| {
                used.insert((domain.id, reference), (by, mfn, counts));
                self.general.push(mfn);
                uses += 1;
            });
            assert_eq!(uses, domain.grants.used());
            self.shared.extend(domain.grants.shared_frames());
        }
        for domain in domains {
            for (_, mapping) in domain.grants.handles.all(machine) {
                let entry = (mapping.domain, mapping.reference);
                let counted = mapped.entry(entry).or_insert((domain.id, 0));
                assert_eq!(counted.0, domain.id, "an entry is used by two domains");
                counted.1 = counted.1.wrapping_add(mapping.access().ones());
                if mapping.access().device && mapping.is_writable() {
                    let frame = used.get(&entry).map(|&(_, mfn, _)| (mfn, FrameType::Writable));
                    self.typed.extend(frame);
                }
            }
        }
        let used = used.into_iter().map(|(entry, (by, _, counts))| (entry, (by, counts)));
        assert_eq!(mapped, used.collect(), "uses of entries, as there are mappings and as counted");
    }
}
