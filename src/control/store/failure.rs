use rusqlite::ErrorCode;
use std::fmt;

/// Why something is not kept, or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No space is left.
    Full(String),
    /// The disk, the file system or what they hold is not as it should be.
    Failed(String),
    /// It cannot be written down, so that it would be lost: every reason.
    Unwritable(Vec<String>),
    /// The key of a change was used for another one.
    KeyReused,
    /// A revision that is not kept.
    NoRevision(String),
    /// There is nothing to go back to.
    NothingBefore(String),
    /// Another process keeps the state now, or this one ends.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why)
            | Self::Failed(why)
            | Self::NoRevision(why)
            | Self::NothingBefore(why) => f.write_str(why),
            Self::Unwritable(reasons) => f.write_str(&reasons.join("; ")),
            Self::KeyReused => f.write_str("the key was used for another change"),
            Self::Closed => f.write_str("the state is not open"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full("no space is left for it".into()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}
