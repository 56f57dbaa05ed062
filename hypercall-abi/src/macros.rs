//! The macros behind the tables. That of the hypercalls stands with its table, in `call`.

/// Checks a structure's size, alignment and every field offset at compile time, and describes them
/// as data in the associated constant `LAYOUT`.
///
/// The text after the name is the structure's C type. A field whose C path differs gives it after
/// its name; the empty path means that C has no such field (padding made explicit here).
macro_rules! abi_layout {
    ($name:ident = $c:literal, size $size:literal, align $align:literal {
        $($field:ident $(= $path:literal)? @ $offset:literal),* $(,)?
    }) => {
        const _: () = {
            assert!(size_of::<$name>() == $size, concat!(stringify!($name), ": size changed"));
            assert!(align_of::<$name>() == $align, concat!(stringify!($name), ": alignment changed"));
            $(assert!(
                core::mem::offset_of!($name, $field) == $offset,
                concat!(stringify!($name), ".", stringify!($field), ": offset changed")
            );)*
        };
        impl $name {
            /// Size, alignment and offsets of this structure as data. Unit: bytes.
            pub const LAYOUT: $crate::structure::Structure = $crate::structure::Structure {
                name: stringify!($name),
                c_type: $c,
                size: $size,
                align: $align,
                fields: &[$($crate::structure::Field {
                    name: stringify!($field),
                    c_path: abi_layout!(@path $field $($path)?),
                    offset: $offset,
                    size: $crate::structure::field_size(|it: &$name| &it.$field),
                }),*],
            };
        }
    };
    (@path $field:ident $path:literal) => { $path };
    (@path $field:ident) => { stringify!($field) };
}

/// A family of sub-ops: one constant a row, and the rows as data in `OPS`.
///
/// A row is: number, constant, name in C after the prefix, who may call, status, description.
/// The status is `Done`, `Absent`, or `Refused(ERRNO)`.
macro_rules! sub_ops {
    ($module:ident $prefix:literal $about:literal {
        $($number:literal $constant:ident $name:literal
          $caller:ident $status:ident $(($errno:ident))? $doc:literal;)*
    }) => {
        #[doc = $about]
        pub mod $module {
            use crate::call::{Caller, Status, SubOp};

            $(#[doc = $doc] pub const $constant: u32 = $number;)*

            /// Every row of this family.
            pub static OPS: &[SubOp] = &[$(SubOp {
                number: $constant,
                name: $name,
                c_prefix: $prefix,
                caller: Caller::$caller,
                status: Status::$status $((crate::errno::Errno::$errno))?,
                about: $doc,
            }),*];
        }
    };
}

/// Numbers without a status: one constant a row, and `(C name, value)` pairs in `NUMBERS`.
macro_rules! numbers {
    ($(#[doc = $about:literal])* $table:ident: $kind:ty {
        $($constant:ident = $value:expr, $c:literal, $doc:literal;)*
    }) => {
        $(#[doc = $doc] pub const $constant: $kind = $value;)*
        $(#[doc = $about])*
        pub static $table: &[(&str, $kind)] = &[$(($c, $constant)),*];
    };
}
