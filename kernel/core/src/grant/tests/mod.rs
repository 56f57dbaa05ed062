//! Tests with domains that grant, map and die.

mod attacks;
mod random;
mod world;
