//! x

use crate::cpu::CpuId;
pub(super) struct Turn;
pub(super) fn point() {}
pub(super) fn turn(_cpu: CpuId) -> Option<Turn> {
    None
}
