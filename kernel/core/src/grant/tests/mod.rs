//! Tests with domains that grant, map and die.

mod attacks;
mod interleavings;
mod random;
mod world;
