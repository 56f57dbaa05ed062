//! `grant_table_op`, hypercall 20.

use hypercall_abi::call::Hypercall;
use hypercall_abi::grant::COPY;

use super::{Request, writable};
use crate::grant::PageCopy;

/// Makes copies, and writes what came of each.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, grant::PageCopy, println, raw::request};
/// # fn example(copies: &mut [PageCopy<'_>]) {
/// println!("{}", Machine.call(&request::grant_copy(copies)));
/// # }
/// ```
#[must_use]
pub fn grant_copy<'a>(copies: &'a mut [PageCopy<'_>]) -> Request<'a> {
    let args = [COPY.into(), writable(copies), copies.len() as u64, 0, 0, 0];
    // SAFETY: a `PageCopy` can only be made of frames it borrows, mutably where it writes, and of
    // granted pages: those of this guest are behind a `Grant`, to which no reference leads. The
    // statuses go to the slice, a transparent one of the ABI's structures.
    unsafe { Request::new(Hypercall::GrantTableOp, args) }
}

/// Makes one operation, which answers in its argument.
///
/// # Safety
/// Nothing may live at the address, or in the entry, that it maps; no reference may lead to what it
/// unmaps; a list of frames that it names must be borrowed for as long.
#[cfg(target_os = "none")]
#[must_use]
pub(in crate::raw) unsafe fn grant_operation<T: zerocopy::FromBytes>(
    operation: u32,
    argument: &mut T,
) -> Request<'_> {
    let args = [operation.into(), writable(argument), 1, 0, 0, 0];
    // SAFETY: answers go to `argument`, which takes any bytes; the rest by this function's contract.
    unsafe { Request::new(Hypercall::GrantTableOp, args) }
}

#[cfg(test)]
mod tests {
    use hypercall_abi::grant::GrantCopy;
    use hypercall_abi::types::{DomId, GrantRef};

    use crate::grant::{Destination, PageCopy, Peer, Source, copy};
    use crate::raw::gate::{CpuidAnswer, Gate, Machine, Request};

    /// Answers each copy by what its length is, or none at all.
    struct Lengths(bool);

    impl Gate for Lengths {
        fn call(&self, request: &Request<'_>) -> i64 {
            let [operation, address, count, ..] = request.args();
            assert_eq!((request.number(), operation), (20, 5));
            let first = usize::try_from(address).unwrap();
            let first = core::ptr::with_exposed_provenance_mut::<GrantCopy>(first);
            for index in 0..usize::try_from(count).unwrap() * usize::from(self.0) {
                // SAFETY: the request borrows so many structures from there on, mutably.
                let it = unsafe { &mut *first.wrapping_add(index) };
                assert_eq!((it.source.page, it.source.domid, it.flags), (9, DomId(3), 3));
                it.status = -it.len.cast_signed();
            }
            0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn each_copy_has_its_own_result() {
        let peer = Peer { domain: DomId(3), reference: GrantRef(9) };
        let made =
            |length| PageCopy::new(Source::peer(peer, 16), Destination::peer(peer, 32), length);
        let statuses = |copies: &[PageCopy<'_>; 3]| {
            copies.each_ref().map(|copy| copy.result().map_or_else(|it| it.status(), |()| 0))
        };
        let mut copies = [made(0), made(10), made(3)];
        assert_eq!(statuses(&copies), [1; 3], "not made yet");
        copy(&Lengths(true), &mut copies).unwrap();
        assert_eq!(statuses(&copies), [0, -10, -3]);
        // Yes, without an answer, is no success, and nor is no.
        copy(&Lengths(false), &mut copies).unwrap();
        assert_eq!(statuses(&copies), [1; 3]);
        assert_eq!(
            copy(&Machine, &mut copies).unwrap_err().meaning(),
            "this hypervisor has no grants"
        );
    }
}
