//! The stages of a step.

/// A stage of a step, in the order in which a step goes through the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Converting the caller's template to a [`Step`](super::Step). The front end does this.
    Parse,
    /// From the reference to a digest.
    Resolve,
    /// From the digest to the module's verified bytes, or to compiled code that already exists.
    Fetch,
    /// From the module's bytes to machine code.
    Compile,
    /// Waiting for a slot of the scheduler.
    Queue,
    /// Making the step's directory and downloading inputs into it.
    StageIn,
    /// Running the module.
    Run,
    /// Reading the outputs that the module left.
    Collect,
    /// Uploading output artifacts and the log.
    StageOut,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Self; 9] = [
        Self::Parse,
        Self::Resolve,
        Self::Fetch,
        Self::Compile,
        Self::Queue,
        Self::StageIn,
        Self::Run,
        Self::Collect,
        Self::StageOut,
    ];

    /// Name of the stage in messages, log lines and traces: lower case, with underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Resolve => "resolve",
            Self::Fetch => "fetch",
            Self::Compile => "compile",
            Self::Queue => "queue",
            Self::StageIn => "stage_in",
            Self::Run => "run",
            Self::Collect => "collect",
            Self::StageOut => "stage_out",
        }
    }
}
