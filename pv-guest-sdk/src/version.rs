//! Which hypervisor this is, and what it can do.

use core::fmt;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::version::{self as abi, FeatureInfo, PlatformParameters};

use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::Gate;
use crate::raw::request;

/// A version, as major and minor number.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{version::Version, println};
/// # fn example(version: Version) {
/// println!("{}.{}", version.major, version.minor);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// 4 of 4.17.
    pub major: u16,
    /// 17 of 4.17.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A short text the hypervisor wrote: what stands before the first NUL.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{version::Text, println};
/// # fn example(text: Text<16>) {
/// println!("{} bytes: {text}", text.as_str().len());
/// # }
/// ```
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// The text, up to the first byte that is not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> &str {
        crate::boot::text(&self.0)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

const fn site(operation: u32) -> Site {
    const CAUSES: &[(Errno, &str)] =
        &[(Errno::EPERM, "the hypervisor shows this to privileged domains only")];
    Site::operation(Hypercall::XenVersion, abi::OPS, operation, CAUSES)
}

static VERSION: Site = site(abi::VERSION);
static EXTRAVERSION: Site = site(abi::EXTRAVERSION);
static CAPABILITIES: Site = site(abi::CAPABILITIES);
static CHANGESET: Site = site(abi::CHANGESET);
static PLATFORM: Site = site(abi::PLATFORM_PARAMETERS);
static PAGESIZE: Site = site(abi::PAGESIZE);
static HANDLE: Site = site(abi::GUEST_HANDLE);
static COMMANDLINE: Site = site(abi::COMMANDLINE);
static FEATURES: Site = Site::operation(
    Hypercall::XenVersion,
    abi::OPS,
    abi::GET_FEATURES,
    &[(Errno::EINVAL, "there is no feature word of this index")],
);

/// The version of the ABI's implementation.
///
/// # Errors
/// None that a hypervisor of this ABI gives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::version(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn version(gate: &impl Gate) -> Result<Version, HypercallError> {
    let packed = perform(gate, &VERSION, &request::version())?;
    let [_, _, _, _, major_high, major_low, minor_high, minor_low] = packed.to_be_bytes();
    Ok(Version {
        major: u16::from_be_bytes([major_high, major_low]),
        minor: u16::from_be_bytes([minor_high, minor_low]),
    })
}

/// What follows the version's numbers, for example `.4`.
///
/// # Errors
/// None that a hypervisor of this ABI gives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::extra_version(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn extra_version(gate: &impl Gate) -> Result<Text<16>, HypercallError> {
    let mut text = [0; 16];
    perform(gate, &EXTRAVERSION, &request::extra_version(&mut text))?;
    Ok(Text(text))
}

/// The kinds of guests it runs, for example `xen-3.0-x86_64`, separated by spaces.
///
/// # Errors
/// None that a hypervisor of this ABI gives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::capabilities(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn capabilities(gate: &impl Gate) -> Result<Text<1024>, HypercallError> {
    let mut text = [0; 1024];
    perform(gate, &CAPABILITIES, &request::capabilities(&mut text))?;
    Ok(Text(text))
}

/// The state of its sources.
///
/// # Errors
/// EPERM (1), or a text of its own, where it is not shown to this domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::changeset(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn changeset(gate: &impl Gate) -> Result<Text<64>, HypercallError> {
    let mut text = [0; 64];
    perform(gate, &CHANGESET, &request::changeset(&mut text))?;
    Ok(Text(text))
}

/// The first address that belongs to the hypervisor.
///
/// # Errors
/// None that a hypervisor of this ABI gives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::hypervisor_start(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn hypervisor_start(gate: &impl Gate) -> Result<u64, HypercallError> {
    let mut answer = PlatformParameters::default();
    perform(gate, &PLATFORM, &request::platform_parameters(&mut answer))?;
    Ok(answer.virt_start)
}

/// One word of 32 feature bits.
///
/// # Errors
/// EINVAL (22) if there is no word of this index.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:#x}", version::features(&Machine, 0)?);
/// # Ok(())
/// # }
/// ```
pub fn features(gate: &impl Gate, index: u32) -> Result<u32, HypercallError> {
    let mut info = FeatureInfo { submap_idx: index, submap: 0 };
    perform(gate, &FEATURES, &request::features(&mut info))?;
    Ok(info.submap)
}

/// The size of a page. Unit: bytes.
///
/// # Errors
/// None that a hypervisor of this ABI gives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::page_size(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn page_size(gate: &impl Gate) -> Result<u64, HypercallError> {
    perform(gate, &PAGESIZE, &request::page_size())
}

/// This domain's UUID, zeros for the initial domain.
///
/// # Errors
/// None that a hypervisor of this ABI gives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::guest_handle(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn guest_handle(gate: &impl Gate) -> Result<[u8; 16], HypercallError> {
    let mut handle = [0; 16];
    perform(gate, &HANDLE, &request::guest_handle(&mut handle))?;
    Ok(handle)
}

/// The hypervisor's own command line.
///
/// # Errors
/// EPERM (1) where it is not shown to this domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, println, version};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", version::command_line(&Machine)?);
/// # Ok(())
/// # }
/// ```
pub fn command_line(gate: &impl Gate) -> Result<Text<1024>, HypercallError> {
    let mut text = [0; 1024];
    perform(gate, &COMMANDLINE, &request::hypervisor_command_line(&mut text))?;
    Ok(Text(text))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{Version, version};
    use crate::raw::gate::{CpuidAnswer, Gate, Request};

    /// Answers the version call alone.
    struct Packed(i64);

    impl Gate for Packed {
        fn call(&self, request: &Request<'_>) -> i64 {
            assert_eq!((request.number(), request.args()), (17, [0; 6]));
            self.0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn major_and_minor_are_the_two_halves() {
        let number = version(&Packed(0x4_0011)).unwrap();
        assert_eq!(number, Version { major: 4, minor: 17 });
        assert_eq!(number.to_string(), "4.17");
    }
}
