//! The server as its clients see it: every request, what Linux and xl really ask, hostile streams,
//! quotas, and random clients against a naive model.

mod guest;
mod hostile;
mod linux;
mod model;
mod quotas;
mod requests;
