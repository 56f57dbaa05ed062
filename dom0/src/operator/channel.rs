//! The operator at the host: lines of JSON by the second serial port.

use pv_guest_sdk::device::DeviceError;

use super::Operator;

pub(super) struct Port;

pub(super) fn open() -> Result<Port, DeviceError> {
    Err(DeviceError::Range)
}

pub(super) async fn serve(_operator: &Operator, _port: Port) {}
