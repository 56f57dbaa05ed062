//! What travels on the ring.

use hypercall_abi::blkif::{MAX_RING_ORDER, Request, Response};

/// The block device's protocol.
#[derive(Debug)]
pub struct Block;

impl shared_ring::Protocol for Block {
    type Request = Request;
    type Response = Response;
    const MAX_ORDER: u32 = MAX_RING_ORDER;
}

/// A response.
pub(crate) fn response(id: u64, operation: u8, status: i16) -> Response {
    Response { id, operation, status, ..Response::default() }
}

/// The ring of a block device.
pub type Ring<P> = shared_ring::Ring<P, Block>;
