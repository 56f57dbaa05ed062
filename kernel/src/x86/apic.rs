//! stub
pub fn nmi_to_others() {}
