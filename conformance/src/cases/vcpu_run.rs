//! What several vCPUs on one CPU keep, and what one sees of another.

use crate::call::XEN_VERSION;
use crate::case::{Case, case, equal};
use crate::vcpus::worker;

pub(crate) const CASES: &[Case] =
    &[case("vcpu_run/call", "Another vCPU makes hypercalls as the first does.", |t| {
        let ap = worker(t)?;
        equal("answer", ap.call(XEN_VERSION, &[0])?, 0x4_0011)?;
        equal("answer", ap.call(XEN_VERSION, &[7])?, 4096)
    })];
