//! What a restart finds again: the account and the certificates, in a folder for each issuer. Every file is
//! replaced as a whole, so whoever dies while writing leaves the old one.

use crate::spec::{Acme, Certificate, KeyPair, Name};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// For crossfade's user alone.
const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;

/// No file here is as long.
const LONGEST: u64 = 1 << 20;

/// A URL without its scheme as the name of a folder.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-');

/// Why a certificate is not there, and when it is ordered again: who is started again and again does not ask as
/// often.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Postponed {
    /// In a row.
    pub(super) failures: u32,
    /// Seconds since 1970.
    pub(super) due: i64,
    pub(super) error: String,
}

const ACCOUNT: &str = "account.json";

#[derive(Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// What another issuer gave is of no use with this one.
    pub(super) fn of(acme: &Acme) -> Self {
        let url = acme.directory.strip_prefix("https://").unwrap_or(&acme.directory);
        Self { folder: acme.state.join(utf8_percent_encode(url, NAME).to_string()) }
    }

    /// # Errors
    /// When it is there and cannot be read.
    pub(super) fn account(&self) -> io::Result<Option<Vec<u8>>> {
        read(&self.folder.join(ACCOUNT))
    }

    /// # Errors
    /// When it is not kept for sure.
    pub(super) fn keep_account(&self, content: &[u8]) -> io::Result<()> {
        self.write(ACCOUNT, content)
    }

    /// The certificate for these names, with its key in the same file, if that is there and good; what is not good
    /// is told, and ordered anew.
    pub(super) fn certificate(&self, hosts: &[Name]) -> Option<Certificate> {
        let path = self.folder.join(file_of(hosts));
        let pem = match read(&path) {
            Ok(pem) => pem?,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a certificate cannot be read");
                return None;
            }
        };
        match KeyPair::from_pem(&pem, &pem) {
            Ok(pair) => Some(self.named(hosts, pair)),
            Err(error) => {
                tracing::error!(file = %path.display(), ?error, "a certificate is of no use");
                None
            }
        }
    }

    /// # Errors
    /// When it is not kept for sure.
    pub(super) fn keep_certificate(&self, hosts: &[Name], pem: &[u8]) -> io::Result<()> {
        self.write(&file_of(hosts), pem)
    }

    /// `None` also where it cannot be read: then it is ordered at once.
    pub(super) fn postponed(&self, hosts: &[Name]) -> Option<Postponed> {
        let content = read(&self.folder.join(postponed_of(hosts))).ok()??;
        serde_json::from_slice(&content).ok()
    }

    /// # Errors
    /// When it is not kept for sure.
    pub(super) fn postpone(&self, hosts: &[Name], postponed: &Postponed) -> io::Result<()> {
        self.write(&postponed_of(hosts), &serde_json::to_vec(postponed)?)
    }

    /// # Errors
    /// When it is still there.
    pub(super) fn forget_postponed(&self, hosts: &[Name]) -> io::Result<()> {
        remove(&self.folder.join(postponed_of(hosts)))
    }

    pub(super) fn named(&self, hosts: &[Name], pair: KeyPair) -> Certificate {
        let path: Arc<Path> = self.folder.join(file_of(hosts)).into();
        Certificate { cert: path.clone(), key: path, pair: Arc::new(pair) }
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(FOLDER).create(&self.folder)?;
        let temporary = self.folder.join(format!("{name}.new"));
        // Whoever died here before may have left it, with who knows which mode.
        remove(&temporary)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(name))?;
        // The name is kept for sure only with its folder.
        File::open(&self.folder)?.sync_all()
    }
}

/// No name is in two certificates, so its first one is its own.
fn file_of(hosts: &[Name]) -> String {
    format!("{}.pem", first(hosts))
}

fn postponed_of(hosts: &[Name]) -> String {
    format!("{}.failed.json", first(hosts))
}

fn first(hosts: &[Name]) -> &str {
    hosts.first().map_or("none", |name| name)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn store(state: &Path) -> Store {
        let acme = Acme {
            directory: "https://ca.example:14000/dir".into(),
            ca: None,
            contacts: Vec::new(),
            state: state.into(),
            hosts: Vec::new(),
            challenge: Default::default(),
            renew_before: None,
        };
        Store::of(&acme)
    }

    #[test]
    fn what_is_kept_is_found_and_for_nobody_else() {
        let state = tempfile::tempdir().unwrap();
        let store = store(state.path());
        assert_eq!(store.account().unwrap(), None);
        store.keep_account(b"one").unwrap();
        store.keep_account(b"two").unwrap();
        assert_eq!(store.account().unwrap().as_deref(), Some(&b"two"[..]));
        let folder = state.path().join("ca.example%3A14000%2Fdir");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("account.json")), 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn who_died_while_writing_is_no_hindrance() {
        let state = tempfile::tempdir().unwrap();
        let store = store(state.path());
        store.keep_account(b"one").unwrap();
        let left = store.folder.join("account.json.new");
        fs::write(&left, b"half").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        store.keep_account(b"two").unwrap();
        assert_eq!(store.account().unwrap().as_deref(), Some(&b"two"[..]));
        let kept = fs::metadata(store.folder.join("account.json")).unwrap();
        assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn certificates_are_found_by_their_first_name() {
        let state = tempfile::tempdir().unwrap();
        let store = store(state.path());
        let hosts: [Name; 2] = ["a.example".into(), "b.example".into()];
        assert!(store.certificate(&hosts).is_none());
        store.keep_certificate(&hosts, b"junk").unwrap();
        assert!(store.certificate(&hosts).is_none());
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        let pem = format!("{}{}", key.serialize_pem(), cert.pem());
        store.keep_certificate(&hosts, pem.as_bytes()).unwrap();
        let found = store.certificate(&hosts[..1]).unwrap();
        assert_eq!(found.pair.names.to_string(), "a.example");
    }

    #[test]
    fn what_failed_is_known_until_it_is_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let store = store(state.path());
        let hosts: [Name; 1] = ["a.example".into()];
        store.forget_postponed(&hosts).unwrap();
        assert_eq!(store.postponed(&hosts), None);
        let postponed = Postponed { failures: 3, due: 5, error: "no".into() };
        store.postpone(&hosts, &postponed).unwrap();
        assert_eq!(store.postponed(&hosts), Some(postponed));
        store.forget_postponed(&hosts).unwrap();
        assert_eq!(store.postponed(&hosts), None);
    }
}
