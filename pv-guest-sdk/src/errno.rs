//! Names and general meanings of the ABI's error numbers.

/// Number, name, meaning.
const TABLE: &[(i64, &str, &str)] = &[
    (1, "EPERM", "this domain may not do that"),
    (2, "ENOENT", "there is no such thing"),
    (3, "ESRCH", "there is no such domain"),
    (4, "EINTR", "the call was interrupted"),
    (5, "EIO", "the device failed"),
    (7, "E2BIG", "too much at once"),
    (11, "EAGAIN", "not now; try again"),
    (12, "ENOMEM", "no memory is left"),
    (13, "EACCES", "access is refused"),
    (
        14,
        "EFAULT",
        "an address is not mapped as the call needs it",
    ),
    (16, "EBUSY", "it is in use"),
    (17, "EEXIST", "it exists already"),
    (19, "ENODEV", "there is no such device"),
    (22, "EINVAL", "an argument is not one the call takes"),
    (28, "ENOSPC", "no room is left"),
    (34, "ERANGE", "a value is out of range"),
    (38, "ENOSYS", "the hypervisor does not have this call"),
    (61, "ENODATA", "there is no data"),
    (85, "ERESTART", "the call must be made again"),
    (90, "EMSGSIZE", "the buffer is too small"),
    (95, "EOPNOTSUPP", "the hypervisor does not support this"),
    (105, "ENOBUFS", "the buffer is too small"),
];

/// The name of an error number (positive), `E?` if the ABI has none.
pub(crate) fn name(number: i64) -> &'static str {
    find(number).map_or("E?", |&(_, name, _)| name)
}

/// What an error number means in general.
pub(crate) fn meaning(number: i64) -> &'static str {
    find(number).map_or("an error the ABI does not name", |&(_, _, meaning)| meaning)
}

fn find(number: i64) -> Option<&'static (i64, &'static str, &'static str)> {
    TABLE.iter().find(|&&(known, _, _)| known == number)
}
