//! The macros behind the tables. That of the hypercalls stands with its table, in `call`.

/// A module's shared structures: each as a `repr(C)` type of plain old data, whose `Default` is all
/// zeros, and as a row of `STRUCTURES`.
///
/// Size, alignment and every offset are asserted at compile time. `12 pad: u32 = ""` is a field at
/// offset 12; the text is its path in the C type if that is not its name, and empty if C has no
/// such field (padding that is spelt out here).
macro_rules! abi_structs {
    ($(
        $(#[$about:meta])*
        $name:ident = $c:literal, size $size:literal, align $align:literal {
            $($(#[$doc:meta])* $offset:literal $field:ident: $kind:ty $(= $path:literal)?,)*
        }
    )*) => {
        $(
            $(#[$about])*
            #[derive(Clone, Copy, Debug, Eq, PartialEq)]
            #[derive(zerocopy::FromBytes, zerocopy::IntoBytes)]
            #[derive(zerocopy::Immutable, zerocopy::KnownLayout)]
            #[repr(C)]
            pub struct $name {
                $($(#[$doc])* pub $field: $kind,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    zerocopy::FromZeros::new_zeroed()
                }
            }

            const _: () = {
                assert!(size_of::<$name>() == $size, concat!(stringify!($name), ": size"));
                assert!(align_of::<$name>() == $align, concat!(stringify!($name), ": alignment"));
                $(assert!(
                    core::mem::offset_of!($name, $field) == $offset,
                    concat!(stringify!($name), ".", stringify!($field), ": offset")
                );)*
            };
        )*

        /// The structures of this module, described as data.
        pub static STRUCTURES: &[$crate::structure::Structure] = &[$(
            $crate::structure::Structure {
                name: stringify!($name),
                c_type: $c,
                size: $size,
                align: $align,
                fields: &[$($crate::structure::Field {
                    name: stringify!($field),
                    c_path: abi_structs!(@path $field $($path)?),
                    offset: $offset,
                    size: $crate::structure::field_size(|it: &$name| &it.$field),
                }),*],
            }
        ),*];
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
