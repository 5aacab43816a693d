//! `wit`

use clap::Args;

use super::{Exit, output};

/// The step world. It needs no other WIT package.
const STEP_WORLD: &str = include_str!("../../wit/step.wit");

#[derive(Debug, Args)]
pub(super) struct Wit {}

impl Wit {
    pub(super) fn run(self) -> Exit {
        let Self {} = self;
        output::data(STEP_WORLD);
        Exit::Succeeded
    }
}
