//! Attacks on the executor, for the tests and for `integration/soak`.
//!
//! | module | content |
//! |---|---|
//! | [`attacks`] | all attacks, as a table |
//! | [`bombs`] | modules that are slow or large to compile |
//! | [`commands`] | WASI 0.1 commands with host calls in a straight line |
//! | [`components`] | components for calls of WASI 0.2 and 0.3, and of the step world |
//! | [`outcomes`] | values that are too large for an outcome |
//! | [`strangers`] | callers whose requests never end |

pub mod attacks;
pub mod bombs;
pub mod commands;
pub mod components;
pub mod outcomes;
pub mod strangers;
