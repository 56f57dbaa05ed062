//! stub
pub struct R;
impl R {
    pub fn write(&self, _: u8) {}
}
pub fn byte_register(_: u64) -> Option<R> {
    None
}
