use std::process::ExitCode;

/// Why a command did not do what it was asked to; says what would help.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Wrong usage or an invalid configuration.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// A rollout that went back.
    pub(super) fn aborted(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    pub(super) fn gave_up(message: impl Into<String>) -> Self {
        Self { code: 4, message: message.into() }
    }

    pub(super) fn out_of_reach(message: impl Into<String>) -> Self {
        Self { code: 5, message: message.into() }
    }

    /// For who goes on.
    pub(super) fn into_message(self) -> String {
        self.message
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    pub(super) fn report(self) -> ExitCode {
        super::output::complain(&self.message);
        ExitCode::from(self.code)
    }
}
