//! Who may use the admin API, and for what.

use super::Name;
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What somebody may do; each may also do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Changes.
    Operator,
    /// Approves what waits for a person, where that is limited to few.
    Approver,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
        }
    }
}

/// A token of the admin API. What its file says may change while its name stays: two are equal when they are
/// from the same file.
#[derive(Clone, Debug)]
pub struct Token {
    /// Whoever shows it is the author by this name.
    pub name: Name,
    pub file: Arc<Path>,
    pub role: Role,
    pub secret: Secret,
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.file, self.role) == (&other.name, &other.file, other.role)
    }
}

impl Eq for Token {}

/// What somebody may do who connects to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixRole {
    pub who: UnixWho,
    pub role: Role,
}

/// By name, or by number as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixWho {
    Anybody,
    User(Name),
    Group(Name),
}

/// What whoever shows a client certificate may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRole {
    /// One of the certificate's names; `None`: whatever they are.
    pub name: Option<Name>,
    pub role: Role,
}

/// How much may be asked of the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminLimits {
    /// Open at once; more wait to be accepted.
    pub connections: u32,
    /// Of those, from one address or user; more are closed.
    pub connections_each: u32,
}

impl Default for AdminLimits {
    fn default() -> Self {
        Self { connections: 512, connections_each: 256 }
    }
}

/// The file of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    pub path: PathBuf,
    /// A larger one is moved away.
    pub max_bytes: u64,
    /// So many of those that were moved away are kept.
    pub keep: u32,
}

impl AuditFile {
    /// With what the configuration takes for the keys that are absent.
    pub fn at(path: PathBuf) -> Self {
        Self { path, max_bytes: 10 << 20, keep: 5 }
    }
}

/// What is kept of a token: enough to know it again, not enough to show it.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Of a token as a client sends it.
    pub fn of(token: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(hash)
    }

    /// Of a file with one token. White space around it does not count.
    ///
    /// # Errors
    /// When it is none, or not a good one.
    pub fn from_file(content: &[u8]) -> Result<Self, SecretError> {
        let token = content.trim_ascii();
        match token.len() {
            0 => Err(SecretError::Empty),
            _ if !token.iter().all(u8::is_ascii_graphic) => Err(SecretError::Unsendable),
            length if length < SHORTEST_TOKEN => Err(SecretError::Short(length)),
            length if length > LONGEST_TOKEN => Err(SecretError::Long(length)),
            _ => Ok(Self::of(token)),
        }
    }

    /// In place of a file that cannot be read any more: nobody has a token with this hash.
    pub fn absent() -> Self {
        Self([0; 32])
    }

    pub fn is_absent(&self) -> bool {
        self.is(&Self::absent())
    }

    /// Takes the same time whatever the two are.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// In bytes; shorter ones can be guessed.
pub const SHORTEST_TOKEN: usize = 16;

/// In bytes; longer ones may not fit into a request.
pub const LONGEST_TOKEN: usize = 4096;

/// Why a file has no good token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    Empty,
    Short(usize),
    Long(usize),
    /// A space, a line break or something else that a header cannot carry is within it.
    Unsendable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_token() {
        let token = "0123456789abcdef";
        let secret = Secret::from_file(format!(" {token}\r\n").as_bytes()).unwrap();
        assert!(secret.is(&Secret::of(token.as_bytes())));
        assert!(!secret.is(&Secret::of(b"0123456789abcdeF")));
        assert_eq!(format!("{secret:?}"), "Secret");
        let error = |content: &str| Secret::from_file(content.as_bytes()).unwrap_err();
        assert_eq!(error(" \n"), SecretError::Empty);
        assert_eq!(error("0123456789abcde\n"), SecretError::Short(15));
        assert_eq!(error(&"x".repeat(LONGEST_TOKEN + 1)), SecretError::Long(LONGEST_TOKEN + 1));
        for bad in ["0123456789 abcdef", "0123456789abcdef\nand another", "0123456789abcdéf"] {
            assert_eq!(error(bad), SecretError::Unsendable, "{bad:?}");
        }
    }

    #[test]
    fn a_role_may_what_the_lower_ones_may() {
        assert!(Role::Approver > Role::Operator && Role::Operator > Role::Viewer);
    }
}
