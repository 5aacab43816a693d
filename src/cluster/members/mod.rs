//! The replicas of the executor: Leases show which ones are alive.

mod lease;
mod ranks;
mod renewal;
mod view;

pub(super) use lease::Lease;
pub(super) use ranks::rank;
pub(super) use renewal::{Held, Identity, LONGEST_GAP, Renewal};
pub(super) use view::View;
