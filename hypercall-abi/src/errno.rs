//! Error numbers. A hypercall that fails returns one of them, negated, in `rax`.

macro_rules! errnos {
    ($($name:ident = $number:literal $meaning:literal;)*) => {
        /// Why a hypercall failed. The discriminant is the positive number.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Errno {
            $(#[doc = $meaning] $name = $number,)*
        }

        impl Errno {
            /// Every error, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The symbolic name, such as `"EINVAL"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What the error generally means, in one line.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// The error whose positive number this is.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

errnos! {
    EPERM = 1 "The caller is not allowed to do this.";
    ENOENT = 2 "The thing named does not exist.";
    ESRCH = 3 "No such domain.";
    EINTR = 4 "The call was interrupted; never shown to a guest.";
    EIO = 5 "A device or transfer failed.";
    ENXIO = 6 "No such device or address.";
    E2BIG = 7 "The argument list is too long.";
    ENOEXEC = 8 "Not an executable of a known format.";
    EBADF = 9 "Not a valid handle.";
    ECHILD = 10 "No such child.";
    EAGAIN = 11 "Not possible now; try again.";
    ENOMEM = 12 "Out of memory.";
    EACCES = 13 "Access is denied.";
    EFAULT = 14 "A guest address could not be read or written.";
    EBUSY = 16 "The resource is in use.";
    EEXIST = 17 "It exists already.";
    EXDEV = 18 "The two ends are on different devices.";
    ENODEV = 19 "No such device.";
    ENOTDIR = 20 "Not a directory.";
    EISDIR = 21 "A directory.";
    EINVAL = 22 "An argument is not valid.";
    ENFILE = 23 "A system-wide table is full.";
    EMFILE = 24 "The caller's table is full.";
    ENOSPC = 28 "No room is left.";
    EROFS = 30 "Read-only.";
    EMLINK = 31 "Too many links.";
    EDOM = 33 "Outside the domain of the function.";
    ERANGE = 34 "The result can't be represented.";
    EDEADLK = 35 "Would wait for itself for ever.";
    ENAMETOOLONG = 36 "A name is too long.";
    ENOLCK = 37 "No lock is available.";
    ENOSYS = 38 "No such call, or not in this build.";
    ENOTEMPTY = 39 "Not empty.";
    ENODATA = 61 "No data is available.";
    ETIME = 62 "The time given has passed.";
    EBADMSG = 74 "Not a message of the expected form.";
    EOVERFLOW = 75 "Too large for the type that holds it.";
    EILSEQ = 84 "Not a valid sequence of bytes.";
    ERESTART = 85 "The call must be restarted; never shown to a guest.";
    ENOTSOCK = 88 "Not a socket.";
    EMSGSIZE = 90 "The message is too long.";
    EOPNOTSUPP = 95 "The operation is not supported here.";
    EADDRINUSE = 98 "The address is in use.";
    EADDRNOTAVAIL = 99 "The address is not available.";
    ENOBUFS = 105 "The buffer is too small.";
    EISCONN = 106 "Connected already.";
    ENOTCONN = 107 "Not connected.";
    ETIMEDOUT = 110 "Took too long.";
    ECONNREFUSED = 111 "The other side refused.";
}

impl Errno {
    /// Another name of [`Errno::EAGAIN`].
    pub const EWOULDBLOCK: Self = Self::EAGAIN;
    /// Another name of [`Errno::EDEADLK`].
    pub const EDEADLOCK: Self = Self::EDEADLK;

    /// The positive number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The value a hypercall returns: the number, negated.
    #[must_use]
    pub const fn to_raw(self) -> i64 {
        -(self as i64)
    }

    /// The error that a hypercall's result means, if it means a known one.
    #[must_use]
    pub const fn from_raw(result: i64) -> Option<Self> {
        if result < 0 { Self::from_number(result.unsigned_abs()) } else { None }
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.name(), self.meaning())
    }
}

impl core::error::Error for Errno {}
