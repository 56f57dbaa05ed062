//! `set_segment_base(which, base)`: bases of `fs` and `gs`.

pub use crate::ops::segment::*;
