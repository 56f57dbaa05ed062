//! stub
pub struct Cpu;
impl Cpu {
    pub fn id(&self) -> usize {
        0
    }
}
pub fn try_current() -> Option<&'static Cpu> {
    None
}
pub fn stack_contains(_: u64, _: u64) -> bool {
    false
}
