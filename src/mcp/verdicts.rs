//! Which era a server was found to speak: kept in memory, and in files so that the next start knows too.
//!
//! A verdict belongs to a [`VerdictKey`], which stands for everything that could change it: the command, its
//! arguments, environment and directory, and the program's time of modification. One file holds one verdict; losing
//! them costs a round trip each, so no failure to read or write one is worth more than a line in the log.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::era::Era;

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VerdictKey(u64);

impl VerdictKey {
    /// The key of everything in `about`. Should two ever share one, the wrong verdict contradicts itself and goes.
    pub(crate) fn of(about: &impl Hash) -> Self {
        // The hash has fixed keys. It may differ with another release of the compiler; then verdicts are learned anew.
        let mut hasher = DefaultHasher::new();
        about.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// All verdicts.
#[derive(Debug)]
pub(crate) struct Verdicts {
    directory: Option<PathBuf>,
    /// `None`: looked for, and not known.
    known: Mutex<HashMap<VerdictKey, Option<Era>>>,
}

impl Verdicts {
    /// Verdicts kept below `cache`, or in memory only.
    pub(crate) fn new(cache: Option<PathBuf>) -> Self {
        Self { directory: cache.map(|cache| cache.join("eras")), known: Mutex::default() }
    }

    /// The verdict, if there is one.
    pub(crate) fn get(&self, key: VerdictKey) -> Option<Era> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(key).or_insert_with(|| Era::named(fs::read_to_string(self.file(key)?).ok()?.trim()))
    }

    /// Remembers it.
    pub(crate) fn record(&self, key: VerdictKey, era: Era) {
        let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Some(era));
        if before != Some(Some(era))
            && let Some(file) = self.file(key)
            && let Err(error) = write_whole(&file, era.name())
        {
            tracing::debug!(file = %file.display(), %error, "cannot keep a server's era");
        }
    }

    /// Remembers it until the next start only: it is likely, and not known.
    pub(crate) fn assume(&self, key: VerdictKey, era: Era) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Some(era));
    }

    /// Forgets it: it was contradicted.
    pub(crate) fn forget(&self, key: VerdictKey) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, None);
        if let Some(file) = self.file(key) {
            let _ = fs::remove_file(file);
        }
    }

    fn file(&self, key: VerdictKey) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{:016x}", key.0)))
    }
}

/// Another gateway may read or write the same file at any moment: it sees the old one or the new one.
fn write_whole(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    let directory = file.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let mut whole = tempfile::NamedTempFile::new_in(directory)?;
    std::io::Write::write_all(&mut whole, text.as_bytes())?;
    whole.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_outlives_the_gateway_until_it_is_contradicted() {
        let cache = tempfile::tempdir().unwrap();
        let (key, other) = (VerdictKey::of(&"a"), VerdictKey::of(&"b"));
        Verdicts::new(Some(cache.path().into())).record(key, Era::Modern);
        let verdicts = Verdicts::new(Some(cache.path().into()));
        assert_eq!((verdicts.get(key), verdicts.get(other)), (Some(Era::Modern), None));
        verdicts.forget(key);
        assert_eq!(verdicts.get(key), None);
        assert_eq!(Verdicts::new(Some(cache.path().into())).get(key), None);
    }

    #[test]
    fn a_file_full_of_nonsense_is_no_verdict() {
        let cache = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::new(Some(cache.path().into()));
        let key = VerdictKey::of(&"a");
        verdicts.record(key, Era::Legacy);
        fs::write(verdicts.file(key).unwrap(), "\u{0}\u{1}").unwrap();
        assert_eq!(Verdicts::new(Some(cache.path().into())).get(key), None);
    }
}
