//! The network device's rings: one for packets from the domain, one for packets to it.
//!
//! Each ring lies in one page: indices as of [`crate::blkif::SharedRing`], then slots of the size of
//! the larger of request and response. A packet takes one slot or several that follow each other;
//! what is to be said of it beside its bytes is in an [`ExtraInfo`] behind the first.

use crate::types::GrantRef;

/// What precedes the first slot of either ring. Unit: bytes.
pub const RING_HEADER: u32 = 64;
/// Size of a slot of the ring from the domain. Unit: bytes.
pub const TX_SLOT: u32 = 12;
/// Size of a slot of the ring to the domain. Unit: bytes.
pub const RX_SLOT: u32 = 8;
/// Slots of either ring.
pub const RING_SLOTS: u32 = 256;
/// Slots that a packet from the domain may take in any case.
pub const MIN_SLOTS: u32 = 18;
/// The longest packet from the domain. Unit: bytes.
pub const MAX_TX_SIZE: u32 = 0xffff;

numbers! {
    /// Every bit of [`TxRequest::flags`] with its C name.
    TX_FLAGS: u16 {
        TX_CSUM_BLANK = 1 << 0, "NETTXF_csum_blank", "The protocol's checksum is to be filled in.";
        TX_DATA_VALIDATED = 1 << 1, "NETTXF_data_validated", "The checksum was found right.";
        TX_MORE_DATA = 1 << 2, "NETTXF_more_data", "The packet goes on in the next request.";
        TX_EXTRA_INFO = 1 << 3, "NETTXF_extra_info", "An extra info follows.";
    }
}

numbers! {
    /// Every bit of [`RxResponse::flags`] with its C name.
    RX_FLAGS: u16 {
        RX_DATA_VALIDATED = 1 << 0, "NETRXF_data_validated", "The checksum was found right.";
        RX_CSUM_BLANK = 1 << 1, "NETRXF_csum_blank", "The protocol's checksum is not filled in.";
        RX_MORE_DATA = 1 << 2, "NETRXF_more_data", "The packet goes on in the next response.";
        RX_EXTRA_INFO = 1 << 3, "NETRXF_extra_info", "An extra info follows.";
    }
}

numbers! {
    /// Every kind of extra info with its C name ([`ExtraInfo::kind`]).
    EXTRA_KINDS: u8 {
        EXTRA_GSO = 1, "XEN_NETIF_EXTRA_TYPE_GSO", "How a long packet is to be cut.";
        EXTRA_MCAST_ADD = 2, "XEN_NETIF_EXTRA_TYPE_MCAST_ADD", "A group to hear.";
        EXTRA_MCAST_DEL = 3, "XEN_NETIF_EXTRA_TYPE_MCAST_DEL", "A group to hear no more.";
        EXTRA_HASH = 4, "XEN_NETIF_EXTRA_TYPE_HASH", "The packet's hash.";
    }
}

numbers! {
    /// Every way to cut a packet with its C name ([`ExtraInfo::gso_kind`]).
    GSO_KINDS: u8 {
        GSO_NONE = 0, "XEN_NETIF_GSO_TYPE_NONE", "It is not to be cut.";
        GSO_TCPV4 = 1, "XEN_NETIF_GSO_TYPE_TCPV4", "Into segments of TCP over IPv4.";
        GSO_TCPV6 = 2, "XEN_NETIF_GSO_TYPE_TCPV6", "Into segments of TCP over IPv6.";
    }
}

numbers! {
    /// Every result with its C name ([`TxResponse::status`], or [`RxResponse::status`] if negative).
    STATUSES: i16 {
        STATUS_DROPPED = -2, "NETIF_RSP_DROPPED", "The packet was dropped.";
        STATUS_ERROR = -1, "NETIF_RSP_ERROR", "The request is wrong.";
        STATUS_OKAY = 0, "NETIF_RSP_OKAY", "Done.";
        STATUS_NULL = 1, "NETIF_RSP_NULL", "In the place of an extra info.";
    }
}

/// [`ExtraInfo::flags`]: another extra info follows.
pub const EXTRA_MORE: u8 = 1;

abi_structs! {
    /// A piece of a packet from the domain.
    TxRequest = "struct netif_tx_request", size 12, align 4 {
        /// The page it is in.
        0 gref: GrantRef,
        /// Where it begins there. Unit: bytes.
        4 offset: u16,
        /// Of [`TX_FLAGS`].
        6 flags: u16,
        /// Chosen by the front end, repeated in the response.
        8 id: u16,
        /// In the first request of a packet the length of all of it, else of the piece. Unit: bytes.
        10 size: u16,
    }

    /// The answer to a [`TxRequest`].
    TxResponse = "struct netif_tx_response", size 4, align 2 {
        /// The request's.
        0 id: u16,
        /// One of [`STATUSES`].
        2 status: i16,
    }

    /// A page for a packet to the domain, or a piece of one.
    RxRequest = "struct netif_rx_request", size 8, align 4 {
        /// Chosen by the front end, repeated in the response.
        0 id: u16,
        /// Not used.
        2 pad: u16,
        /// The page.
        4 gref: GrantRef,
    }

    /// The answer to an [`RxRequest`].
    RxResponse = "struct netif_rx_response", size 8, align 2 {
        /// The request's.
        0 id: u16,
        /// Where the piece begins in the page. Unit: bytes.
        2 offset: u16,
        /// Of [`RX_FLAGS`].
        4 flags: u16,
        /// The piece's length, or one of [`STATUSES`]. Unit: bytes.
        6 status: i16,
    }

    /// What is to be said of a packet beside its bytes. Takes the place of a request or response.
    ExtraInfo = "struct netif_extra_info", size 8, align 2 {
        /// One of [`EXTRA_KINDS`].
        0 kind: u8 = "type",
        /// [`EXTRA_MORE`] or 0.
        1 flags: u8,
        /// Of [`EXTRA_GSO`]: how much each segment carries. Unit: bytes.
        2 gso_size: u16 = "u.gso.size",
        /// One of [`GSO_KINDS`].
        4 gso_kind: u8 = "u.gso.type",
        /// Not used.
        5 gso_pad: u8 = "u.gso.pad",
        /// None is known.
        6 gso_features: u16 = "u.gso.features",
    }
}
