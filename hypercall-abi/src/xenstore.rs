//! xenstore's messages and the ring they travel on: the tree by which domains and tools tell each
//! other what there is.

/// Length of each direction of the ring. Unit: bytes.
pub const RING_SIZE: u32 = 1024;
/// The longest body of a message. Unit: bytes.
pub const PAYLOAD_MAX: u32 = 4096;
/// The longest path from the root. Unit: bytes.
pub const ABSOLUTE_PATH_MAX: u32 = 3072;
/// The longest path from the domain's own place. Unit: bytes.
pub const RELATIVE_PATH_MAX: u32 = 2048;

numbers! {
    /// Every kind of message with its C name ([`Header::kind`]).
    KINDS: u32 {
        CONTROL = 0, "XS_CONTROL", "Commands to the daemon itself.";
        DIRECTORY = 1, "XS_DIRECTORY", "Lists the children of a node.";
        READ = 2, "XS_READ", "Returns the value of a node.";
        GET_PERMS = 3, "XS_GET_PERMS", "Returns the permissions of a node.";
        WATCH = 4, "XS_WATCH", "Asks to be told of changes.";
        UNWATCH = 5, "XS_UNWATCH", "Ends that.";
        TRANSACTION_START = 6, "XS_TRANSACTION_START", "Starts a transaction and returns its number.";
        TRANSACTION_END = 7, "XS_TRANSACTION_END", "Ends it: `T` to keep, `F` to forget.";
        INTRODUCE = 8, "XS_INTRODUCE", "Tells the daemon of a domain.";
        RELEASE = 9, "XS_RELEASE", "Tells the daemon that a domain is gone.";
        GET_DOMAIN_PATH = 10, "XS_GET_DOMAIN_PATH", "Returns a domain's own place.";
        WRITE = 11, "XS_WRITE", "Sets the value of a node.";
        MKDIR = 12, "XS_MKDIR", "Makes an empty node.";
        RM = 13, "XS_RM", "Removes a node and all below it.";
        SET_PERMS = 14, "XS_SET_PERMS", "Sets the permissions of a node.";
        WATCH_EVENT = 15, "XS_WATCH_EVENT", "From the daemon: something has changed.";
        ERROR = 16, "XS_ERROR", "From the daemon: the request failed; the body names the error.";
        IS_DOMAIN_INTRODUCED = 17, "XS_IS_DOMAIN_INTRODUCED", "Whether the daemon knows a domain: `T` or `F`.";
        RESUME = 18, "XS_RESUME", "Tells the daemon that a domain goes on after a suspend.";
        SET_TARGET = 19, "XS_SET_TARGET", "Lets a domain act for another.";
        RESET_WATCHES = 21, "XS_RESET_WATCHES", "Ends all watches and transactions.";
        DIRECTORY_PART = 22, "XS_DIRECTORY_PART", "Lists the children of a node, piece by piece.";
    }
}

numbers! {
    /// Every state of one half of a device with its C name; in the tree as decimal text.
    STATES: u32 {
        STATE_UNKNOWN = 0, "XenbusStateUnknown", "There is no such node.";
        STATE_INITIALISING = 1, "XenbusStateInitialising", "Starts.";
        STATE_INIT_WAIT = 2, "XenbusStateInitWait", "Waits for the other half's answers.";
        STATE_INITIALISED = 3, "XenbusStateInitialised", "Waits for the other half to connect.";
        STATE_CONNECTED = 4, "XenbusStateConnected", "In use.";
        STATE_CLOSING = 5, "XenbusStateClosing", "Is being closed.";
        STATE_CLOSED = 6, "XenbusStateClosed", "Closed.";
        STATE_RECONFIGURING = 7, "XenbusStateReconfiguring", "Is being changed.";
        STATE_RECONFIGURED = 8, "XenbusStateReconfigured", "Has been changed.";
    }
}

abi_structs! {
    /// What precedes the body of every message.
    Header = "struct xsd_sockmsg", size 16, align 4 {
        /// One of [`KINDS`].
        0 kind: u32 = "type",
        /// Chosen by the client, repeated in the answer; 0 in an event.
        4 req_id: u32,
        /// The transaction, or 0 for none.
        8 tx_id: u32,
        /// Length of the body; at most [`PAYLOAD_MAX`]. Unit: bytes.
        12 len: u32,
    }

    /// The ring in a shared page. Indices run on without end; their place is the remainder of
    /// [`RING_SIZE`]. Both ends write: this type tells where things are, and is not for viewing.
    Ring = "struct xenstore_domain_interface", size 2076, align 4 {
        /// From the guest.
        0 req: [u8; 1024],
        /// To the guest.
        1024 rsp: [u8; 1024],
        /// How much the daemon has taken.
        2048 req_cons: u32,
        /// How much the guest has put.
        2052 req_prod: u32,
        /// How much the guest has taken.
        2056 rsp_cons: u32,
        /// How much the daemon has put.
        2060 rsp_prod: u32,
        /// What the daemon can do: bit 0: reconnect; bit 1: tell of errors.
        2064 server_features: u32,
        /// 0: connected; 1: the guest wants to start again.
        2068 connection: u32,
        /// Why the daemon gave up: 0: it did not; 1: transfer; 2: indices; 3: protocol.
        2072 error: u32,
    }
}
