//! The server as its clients see it: every request, what Linux and xl really ask, hostile streams,
//! quotas, and random clients against a naive model.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

mod guest;
mod hostile;
mod linux;
mod model;
mod quotas;
mod requests;
