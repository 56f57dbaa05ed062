//! Every transition from every sound word with small and extreme counts.

use super::word::*;
