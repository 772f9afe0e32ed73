//! The desired state, and what each command makes of it. PURE.

use super::{
    ChangeError, Command, Estate, edit,
    merge::{merge, merge_at_start, needs_restart},
    store::Target,
    validate::{known, problems},
};
use crate::{
    routing::{Salts, next_salts},
    spec::{Name, Spec},
};
use std::sync::Arc;

/// Everything that a change starts from.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) spec: Arc<Spec>,
    /// The file as last loaded; `None` when there was none.
    pub(super) file_base: Option<Arc<Spec>>,
    pub(super) salts: Salts,
}

/// What a command makes of the desired state.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) desired: Desired,
    /// The pool or backend did not exist before.
    pub(super) created: bool,
    /// After a load: the keys of the file that differ and wait for a restart.
    pub(super) needs_restart: Option<Vec<String>>,
    pub(super) warnings: Vec<String>,
}

impl Desired {
    /// # Errors
    /// Every reason when `spec` cannot be in force.
    pub(super) fn first(spec: Spec, from_file: bool) -> Result<Self, Vec<String>> {
        let problems = problems(&spec);
        if !problems.is_empty() {
            return Err(problems);
        }
        let salts = next_salts(&Salts::default(), None, &spec);
        let spec = Arc::new(spec);
        Ok(Self { file_base: from_file.then(|| spec.clone()), spec, salts })
    }

    /// What was in force before, with what `file` changed since it was last loaded, and its revision.
    ///
    /// # Errors
    /// Every reason when that cannot be in force.
    pub(super) fn inherit(
        estate: &Estate,
        file: Option<&Arc<Spec>>,
    ) -> Result<(Self, u64), Vec<String>> {
        let Estate { revision, spec, file_base, salts, .. } = estate;
        let Some(file) = file else {
            let (spec, file_base, salts) = (spec.clone(), file_base.clone(), salts.clone());
            missing(&spec)?;
            return Ok((Self { spec, file_base, salts }, *revision));
        };
        let mut merged = merge_at_start(file_base.as_deref(), file, spec);
        merged.renew_from(file);
        missing(&merged)?;
        let problems = problems(&merged);
        if !problems.is_empty() {
            return Err(problems);
        }
        let salts = next_salts(salts, Some(spec), &merged);
        let changed = merged != **spec;
        let desired = Self { spec: Arc::new(merged), file_base: Some(file.clone()), salts };
        Ok((desired, revision + u64::from(changed)))
    }

    /// The state after `command`. A command that changes nothing gives an equal spec.
    ///
    /// # Errors
    /// When it names what does not exist, is not possible now, or would not leave a valid spec.
    pub(super) fn apply(&self, command: &Command) -> Result<Applied, ChangeError> {
        let mut spec = Spec::clone(&self.spec);
        let mut file_base = self.file_base.clone();
        let mut created = false;
        let mut waits = None;
        let mut warnings = Vec::new();
        match command {
            Command::Load { file } => {
                spec = merge(self.file_base.as_deref(), file, &self.spec);
                spec.renew_from(file);
                file_base = Some(Arc::new(Spec::clone(file)));
                waits = Some(needs_restart(file, &self.spec));
            }
            Command::Replace { spec: wanted } => {
                warnings.extend(needs_restart(wanted, &self.spec).into_iter().map(|key| {
                    format!("{key} cannot change while crossfade runs and was kept as it is")
                }));
                spec = Spec::clone(wanted);
                spec.keep_for_restart(&self.spec);
                edit::keep_drained(&self.spec, &mut spec);
            }
            edited => created = edit::apply(&mut spec, edited)?,
        }
        let salts = next_salts(&self.salts, Some(&self.spec), &spec);
        let desired = Self { spec: Arc::new(spec), file_base, salts }.valid()?;
        Ok(Applied { desired, created, needs_restart: waits, warnings })
    }

    /// The state after what was in force once is in force again. The file as last loaded stays, so what differs
    /// from it is drift. Users go where they went then: its salts come with it.
    ///
    /// # Errors
    /// When it names a service that was not there and is not, or does not fit what else is in force.
    pub(super) fn restore(&self, target: Target) -> Result<Applied, ChangeError> {
        let Target { content, services } = target;
        let mut spec = match &services {
            None => content.spec.clone(),
            Some(services) => self.with_services_of(&content.spec, services)?,
        };
        spec.keep_for_restart(&self.spec);
        if !spec.absent_files().is_empty() {
            spec.renew_from(&self.spec);
        }
        let next = next_salts(&self.salts, Some(&self.spec), &spec);
        let salt = |(name, next): (&Name, &Name)| {
            let restored = services.as_ref().is_none_or(|services| services.contains(name));
            let fixed = spec.services[name].sticky.as_ref().is_some_and(|it| it.salt.is_some());
            let then = content.salts.get(name).filter(|_| restored && !fixed);
            (name.clone(), then.unwrap_or(next).clone())
        };
        let salts = next.iter().map(salt).collect();
        let file_base = self.file_base.clone();
        let desired = Self { spec: Arc::new(spec), file_base, salts }.valid()?;
        Ok(Applied { desired, created: false, needs_restart: None, warnings: Vec::new() })
    }

    fn with_services_of(&self, then: &Spec, services: &[Name]) -> Result<Spec, ChangeError> {
        let mut spec = Spec::clone(&self.spec);
        for name in services {
            match then.services.get(name) {
                Some(service) => {
                    spec.services.insert(name.clone(), service.clone());
                }
                None if spec.services.shift_remove(name).is_none() => {
                    let known = known("services", self.spec.services.keys());
                    return Err(ChangeError::NotFound(format!(
                        "there is no service `{name}`, and there was none; {known}"
                    )));
                }
                None => {}
            }
        }
        Ok(spec)
    }

    /// The state with this spec.
    ///
    /// # Errors
    /// When it cannot be in force.
    pub(super) fn with(&self, spec: Spec) -> Result<Applied, ChangeError> {
        let salts = next_salts(&self.salts, Some(&self.spec), &spec);
        let file_base = self.file_base.clone();
        let desired = Self { spec: Arc::new(spec), file_base, salts }.valid()?;
        Ok(Applied { desired, created: false, needs_restart: None, warnings: Vec::new() })
    }

    fn valid(self) -> Result<Self, ChangeError> {
        let problems = problems(&self.spec);
        if problems.is_empty() { Ok(self) } else { Err(ChangeError::Invalid(problems)) }
    }
}

/// # Errors
/// When a file that it names could not be read.
pub(super) fn missing(spec: &Spec) -> Result<(), Vec<String>> {
    spec.absent_files().first().map_or(Ok(()), |file| {
        Err(vec![format!(
            "what was in force before needs {}, which cannot be read; put it back, or let the file name another",
            file.display()
        )])
    })
}
