//! Which era a server was found to speak: kept in memory, and in files so that the next start knows too.
//!
//! A verdict belongs to a [`VerdictKey`], which stands for everything that could change it: the command, its
//! arguments, environment and directory, and the program's time of modification. Yet behind the same command another
//! version may come to be, as with `uvx` and `npx`. A modern verdict is put to the test by every answer; a legacy one by
//! none, since a server of both eras takes a handshake too, so it is due for a test when it has reached some age.
//!
//! One file holds one verdict, and is as old as that; losing them costs a round trip each, so no failure to read or
//! write one is worth more than a line in the log. The files are bounded in number and age by whoever adds one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::era::Era;

/// The age at which a legacy verdict is due for a test.
const DUE: Duration = Duration::from_hours(24);
/// How many files are kept, and for how long after the last test.
const KEPT: (usize, Duration) = (256, Duration::from_hours(90 * 24));

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

#[derive(Debug, Clone, Copy)]
struct Verdict {
    era: Era,
    found: SystemTime,
}

impl Verdict {
    fn of_now(era: Era) -> Self {
        Self { era, found: SystemTime::now() }
    }

    fn is_due(self) -> bool {
        // A time that is still to come says nothing.
        self.era == Era::Legacy && !self.found.elapsed().is_ok_and(|age| age < DUE)
    }
}

/// All verdicts.
#[derive(Debug)]
pub(crate) struct Verdicts {
    directory: Option<PathBuf>,
    /// `None`: looked for, and not known.
    known: Mutex<HashMap<VerdictKey, Option<Verdict>>>,
}

impl Verdicts {
    /// Verdicts kept below `cache`, or in memory only.
    pub(crate) fn new(cache: Option<PathBuf>) -> Self {
        Self { directory: cache.map(|cache| cache.join("eras")), known: Mutex::default() }
    }

    /// The verdict, if there is one.
    pub(crate) fn get(&self, key: VerdictKey) -> Option<Era> {
        self.look_up(key).map(|verdict| verdict.era)
    }

    /// Whether a sibling should find out: there is no verdict, or one that is due for a test. It stands until then.
    pub(crate) fn is_open(&self, key: VerdictKey) -> bool {
        self.look_up(key).is_none_or(Verdict::is_due)
    }

    /// Remembers what was found just now.
    pub(crate) fn record(&self, key: VerdictKey, era: Era) {
        let before = self.known().insert(key, Some(Verdict::of_now(era))).flatten();
        let news = before.is_none_or(|before| before.era != era || before.is_due());
        if news
            && let Some(file) = self.file(key)
            && let Err(error) = keep(&file, era.name())
        {
            tracing::debug!(file = %file.display(), %error, "cannot keep a server's era");
        }
    }

    /// Remembers it in this process only: it is likely, and not known.
    pub(crate) fn assume(&self, key: VerdictKey, era: Era) {
        self.known().insert(key, Some(Verdict::of_now(era)));
    }

    /// Forgets it: it was contradicted.
    pub(crate) fn forget(&self, key: VerdictKey) {
        self.known().insert(key, None);
        if let Some(file) = self.file(key) {
            let _ = fs::remove_file(file);
        }
    }

    fn look_up(&self, key: VerdictKey) -> Option<Verdict> {
        *self.known().entry(key).or_insert_with(|| read(&self.file(key)?))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<VerdictKey, Option<Verdict>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, key: VerdictKey) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{:016x}", key.0)))
    }
}

fn read(file: &Path) -> Option<Verdict> {
    let era = Era::named(fs::read_to_string(file).ok()?.trim())?;
    let found = file.metadata().and_then(|meta| meta.modified()).ok()?;
    Some(Verdict { era, found })
}

/// Another gateway may read or write the same file at any moment: it sees the old one or the new one.
fn keep(file: &Path, text: &str) -> io::Result<()> {
    let directory = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let lock = File::open(directory)?;
    // Whoever writes keeps others from tidying up, lest they take the new file for the old one that they have seen.
    // Where a file system has no locks, that costs a round trip at worst.
    let _ = lock.lock_shared();
    let mut whole = tempfile::NamedTempFile::new_in(directory)?;
    io::Write::write_all(&mut whole, text.as_bytes())?;
    whole.persist(file)?;
    let _ = lock.unlock();
    if lock.try_lock().is_ok() { tidy(directory) } else { Ok(()) }
}

/// Takes away what is too old or too much, what a gateway that was killed has left half-written included.
fn tidy(directory: &Path) -> io::Result<()> {
    let (most, longest) = KEPT;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_ours(&entry.file_name().to_string_lossy()) {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    let now = SystemTime::now();
    for (place, (written, path)) in files.into_iter().enumerate() {
        if place >= most || now.duration_since(written).is_ok_and(|age| age > longest) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name.starts_with(".tmp") || (name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
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

    fn aged(verdicts: &Verdicts, key: VerdictKey, age: Duration) {
        let file = File::options().append(true).open(verdicts.file(key).unwrap()).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn names(cache: &Path) -> usize {
        fs::read_dir(cache.join("eras")).unwrap().count()
    }

    #[test]
    fn an_old_legacy_verdict_stands_until_it_is_tested_and_a_modern_one_is_tested_by_every_answer() {
        let cache = tempfile::tempdir().unwrap();
        let start = || Verdicts::new(Some(cache.path().into()));
        let (old, young, modern) =
            (VerdictKey::of(&"old"), VerdictKey::of(&"young"), VerdictKey::of(&"modern"));
        let before = start();
        assert!(before.is_open(old));
        for (key, era) in [(old, Era::Legacy), (young, Era::Legacy), (modern, Era::Modern)] {
            before.record(key, era);
            assert!(!before.is_open(key));
        }
        aged(&before, old, DUE);
        aged(&before, modern, DUE);
        let after = start();
        assert_eq!([old, young, modern].map(|key| after.is_open(key)), [true, false, false]);
        assert_eq!(after.get(old), Some(Era::Legacy));
        after.record(old, Era::Legacy);
        assert!(!after.is_open(old) && !start().is_open(old), "it was found anew, and that was kept");
    }

    #[test]
    fn a_verdict_from_the_future_is_due() {
        let verdict = Verdict { era: Era::Legacy, found: SystemTime::now() + DUE };
        assert!(verdict.is_due());
    }

    #[test]
    fn files_are_bounded_in_number_and_age_and_the_newest_stay() {
        let cache = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::new(Some(cache.path().into()));
        let key = |n: usize| VerdictKey::of(&n);
        let (most, longest) = KEPT;
        verdicts.record(key(0), Era::Legacy);
        aged(&verdicts, key(0), longest + DUE);
        fs::write(cache.path().join("eras/README"), "not ours").unwrap();
        fs::write(cache.path().join("eras/.tmpAbC"), "half").unwrap();
        File::options()
            .append(true)
            .open(cache.path().join("eras/.tmpAbC"))
            .and_then(|file| file.set_modified(SystemTime::now() - longest - DUE))
            .unwrap();
        verdicts.record(key(1), Era::Legacy);
        assert_eq!(names(cache.path()), 2, "what is too old is gone, and what is not ours is not touched");
        aged(&verdicts, key(1), DUE);
        for n in 2..most + 2 {
            verdicts.record(key(n), Era::Legacy);
        }
        assert_eq!(names(cache.path()), most + 1);
        let next = Verdicts::new(Some(cache.path().into()));
        assert_eq!((next.get(key(1)), next.get(key(most + 1))), (None, Some(Era::Legacy)));
    }

    #[test]
    fn nobody_tidies_up_while_another_gateway_writes() {
        let cache = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::new(Some(cache.path().into()));
        let (old, new, newer) = (VerdictKey::of(&"old"), VerdictKey::of(&"new"), VerdictKey::of(&"newer"));
        verdicts.record(old, Era::Legacy);
        aged(&verdicts, old, KEPT.1 + DUE);
        let other = File::open(cache.path().join("eras")).unwrap();
        other.lock_shared().unwrap();
        verdicts.record(new, Era::Legacy);
        assert_eq!(names(cache.path()), 2);
        drop(other);
        verdicts.record(newer, Era::Legacy);
        assert_eq!(names(cache.path()), 2);
    }
}
