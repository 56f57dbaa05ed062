//! stub
pub struct Power {
    pub control_ports: [(u16, u8); 2],
    pub reset: Option<Reset>,
}
#[derive(Clone, Copy)]
pub enum Reset {
    Port { port: u16, value: u8 },
    Memory { address: u64, value: u8 },
}
