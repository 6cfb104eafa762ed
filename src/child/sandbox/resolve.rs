//! From what is asked for to what the kernel is told: accounts become ids, presets and programs become paths.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::surroundings::{Cache, Needs, SYSTEM, SYSTEM_VARIABLES, needs};
use crate::child::program;
use crate::child::spec::sandbox::{Account, Files, Place, Preset, Sandbox, User, Variable, Wish};
use crate::child::spec::{Home, Spec};

/// How many interpreters stand one behind the other at most (`execve(2)` takes no more than five).
const MOST_INTERPRETERS: usize = 5;

/// Why a sandbox cannot be made of what is asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// Nobody is called so.
    #[error("there is no user {0}")]
    NoUser(String),
    /// The system would not say.
    #[error("cannot look up the user {name}")]
    Users { name: String, source: nix::Error },
}

/// What the kernel is told about the server `spec`. Without a wish, what its limits need.
pub(in crate::child) fn resolve(spec: &Spec) -> Result<Sandbox, ResolveError> {
    let (scratch_size, rlimits) = (spec.limits.scratch, spec.limits.of_process());
    let Some(wish) = &spec.wish else { return Ok(Sandbox { rlimits, scratch_size, ..Sandbox::default() }) };
    // If there is none, whoever calls it will hear of it.
    let program = program::find(&spec.program, &spec.env);
    let program = program.map_or_else(|_| spec.program.clone(), |program| program.path);
    let user = wish.user.as_ref().map(|account| user(account, wish, spec.home)).transpose()?;
    let env = env_of(&spec.env, user.as_ref());
    let search = Search { env: &env, cwd: spec.cwd.as_deref() };
    let files = wish.confines_writing().then(|| search.files(wish, &program, &spec.args));
    let led = wish.presets.iter().flat_map(|preset| search.variables(*preset)).collect();
    let in_sight = search.chain(&program).into_iter().chain(spec.cwd.clone()).map(OsString::from);
    Ok(Sandbox {
        files,
        network: wish.network,
        no_new_privs: wish.no_new_privs,
        syscalls: wish.syscalls(),
        private_tmp: wish.private_tmp(),
        in_sight: in_sight.collect(),
        env: led,
        rlimits,
        scratch_size,
        user,
        best_effort: wish.best_effort,
    })
}

fn user(account: &Account, wish: &Wish, home: Home) -> Result<User, ResolveError> {
    let (name, found) = match account {
        Account::Name(name) => (name.clone(), nix::unistd::User::from_name(name)),
        Account::Id(id) => (id.to_string(), nix::unistd::User::from_uid((*id).into())),
    };
    match (found, account) {
        (Ok(Some(user)), _) => {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            let its = |dir: &fs::Metadata| dir.is_dir() && dir.uid() == uid;
            let home_dir = fs::metadata(&user.dir).is_ok_and(|dir| its(&dir)).then_some(user.dir);
            Ok(User { uid, gid, env: identity(wish, home, &user.name, home_dir.as_deref()) })
        }
        // A number needs no name.
        (Ok(None), Account::Id(id)) => {
            Ok(User { uid: *id, gid: *id, env: identity(wish, home, &name, None) })
        }
        (Ok(None), Account::Name(_)) => Err(ResolveError::NoUser(name)),
        (Err(source), _) => Err(ResolveError::Users { name, source }),
    }
}

/// The variables that say who it is, but for those that the configuration says. Without a directory of its own it is at home in
/// its scratch directory.
fn identity(wish: &Wish, home: Home, name: &str, dir: Option<&Path>) -> Vec<(String, OsString)> {
    let value = |variable: &&str| match *variable {
        // By what sets it for everybody.
        "HOME" if home == Home::Scratch => None,
        "HOME" => Some(dir.unwrap_or(Path::new("")).into()),
        _ => Some(name.into()),
    };
    let unsaid = Wish::IDENTITY.into_iter().filter(|variable| !wish.said.contains(variable));
    unsaid.filter_map(|variable| Some((variable.to_owned(), value(&variable)?))).collect()
}

/// The environment of that user, without what lies in its scratch directory.
fn env_of(env: &[(OsString, OsString)], user: Option<&User>) -> Vec<(OsString, OsString)> {
    let own = user.map_or(&[][..], |user| &user.env);
    let others = env.iter().filter(|(name, _)| own.iter().all(|(own, _)| name != own.as_str())).cloned();
    let own = own.iter().filter(|(_, value)| !value.is_empty());
    others.chain(own.map(|(name, value)| (name.into(), value.clone()))).collect()
}

/// Where paths are looked for.
struct Search<'a> {
    env: &'a [(OsString, OsString)],
    cwd: Option<&'a Path>,
}

impl Search<'_> {
    fn files(&self, wish: &Wish, program: &Path, args: &[OsString]) -> Files {
        let mut write = named(wish.write.as_deref().unwrap_or_default());
        let mut read = named(wish.read.as_deref().unwrap_or_default());
        let usual = |paths: &[&str]| paths.iter().map(Place::usual).collect::<Vec<_>>();
        read.extend(usual(SYSTEM));
        read.extend(self.by_name(SYSTEM_VARIABLES).map(Place::usual));
        let mut chain = self.chain(program);
        for preset in &wish.presets {
            let Needs { read: anywhere, read_home, write: writable, read_named, run_named, .. } =
                needs(*preset);
            read.extend(usual(anywhere));
            read.extend(read_home.iter().filter_map(|below| self.home(below)).map(Place::usual));
            read.extend(self.by_name(read_named).map(Place::usual));
            chain.extend(self.by_name(run_named).flat_map(|interpreter| self.chain(&interpreter)));
            write.extend(usual(writable));
            write.extend(needs(*preset).cache.iter().filter_map(|cache| self.cache(cache)).map(Place::usual));
            read.extend(
                needs(*preset).library.iter().filter_map(|cache| self.cache(cache)).map(Place::usual),
            );
        }
        if wish.presets.contains(&Preset::Browser) && !rustix::process::geteuid().is_root() {
            // Chromium's sandbox writes `uid_map` and the like of processes to come. To root these would be `/proc/sys`, too.
            write.push(Place::usual("/proc"));
        }
        if !wish.presets.is_empty() {
            chain.extend(self.script(args));
            read.extend(chain.iter().flat_map(|file| belongings(file)).map(Place::usual));
        }
        read.extend(chain.into_iter().map(Place::usual));
        Files { read: wish.confines_reading().then(|| tidy(read)), write: tidy(write) }
    }

    /// Where a cache is.
    fn cache(&self, cache: &Cache) -> Option<PathBuf> {
        let below = || cache.below_cache_home.and_then(|below| Some(self.var("XDG_CACHE_HOME")?.join(below)));
        self.by_name(cache.variables).next().or_else(below).or_else(|| self.home(cache.below_home))
    }

    /// What is to be set so that a server of this kind goes where it may. A cache is named, since another preset may
    /// have moved the directory that it would be looked for in.
    fn variables(&self, preset: Preset) -> Vec<Variable> {
        let Needs { cache, library, in_scratch, .. } = needs(preset);
        let caches = cache.iter().chain(library);
        let named =
            caches.filter_map(|cache| Some(Variable::new(cache.variables.first()?, self.cache(cache)?)));
        named.chain(in_scratch.iter().map(|(name, below)| Variable::new(name, below))).collect()
    }

    /// The value of a variable, if it is an absolute path.
    fn var(&self, name: &str) -> Option<PathBuf> {
        let value =
            self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| PathBuf::from(value));
        value.filter(|path| path.is_absolute())
    }

    fn by_name(&self, names: &[&str]) -> impl Iterator<Item = PathBuf> {
        names.iter().filter_map(|name| self.var(name))
    }

    fn home(&self, below: &str) -> Option<PathBuf> {
        Some(self.var("HOME")?.join(below))
    }

    /// The files that executing `program` executes: itself, by each of its names, and its interpreters.
    fn chain(&self, program: &Path) -> Vec<PathBuf> {
        let mut chain = Vec::new();
        let mut next = Some(program.to_owned());
        for _ in 0..=MOST_INTERPRETERS {
            let Some(file) = next else { break };
            next = self.interpreter(&file);
            chain.extend(fs::canonicalize(&file).ok().filter(|real| *real != file));
            chain.push(file);
        }
        chain
    }

    /// What the first line of a script names; through `env`, the program that `env` would find.
    fn interpreter(&self, file: &Path) -> Option<PathBuf> {
        // The kernel reads no more of it (execve(2), "Interpreter scripts").
        let mut head = [0; 255];
        let length = fs::File::open(file).and_then(|mut file| file.read(&mut head)).ok()?;
        let line = head[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let interpreter = PathBuf::from(OsStr::from_bytes(words.next()?));
        if interpreter.file_name() != Some(OsStr::new("env")) {
            return Some(interpreter);
        }
        let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
        program::find(Path::new(OsStr::from_bytes(name)), self.env).ok().map(|program| program.path)
    }

    /// The first argument that is a file: the script that an interpreter was given.
    fn script(&self, args: &[OsString]) -> Option<PathBuf> {
        let path = |arg: &OsString| self.cwd.map_or_else(|| PathBuf::from(arg), |cwd| cwd.join(arg));
        args.iter().map(path).find(|path| path.is_absolute() && path.is_file())
    }
}

fn named(paths: &[PathBuf]) -> Vec<Place> {
    paths.iter().map(Place::required).collect()
}

/// Sorted, each once; required if any of its kind is.
fn tidy(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by(|a, b| a.path().cmp(b.path()).then(b.required.cmp(&a.required)));
    places.dedup_by(|later, first| later.path() == first.path());
    places
}

/// What belongs to a program or a script: the libraries of the installation that it is part of.
fn belongings(file: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Some(dir) = file.parent() else { return found };
    // Node.js: every package beside it. The outermost, since packages have packages.
    let modules =
        file.ancestors().filter(|above| above.file_name() == Some(OsStr::new("node_modules"))).last();
    let own_package = dir.ancestors().find(|above| above.join("package.json").is_file());
    found.extend(modules.or(own_package).map(Path::to_owned));
    match (dir.file_name().and_then(OsStr::to_str), dir.parent()) {
        // An installation, a virtual environment among them. Not all of it: it may be `~/.local`.
        (Some("bin"), Some(prefix)) => {
            let parts = ["bin", "lib", "lib64", "libexec", "include", "pyvenv.cfg"];
            found.extend(parts.map(|part| prefix.join(part)));
        }
        // pyenv, nodenv and their kin put scripts before their interpreters.
        (Some("shims"), Some(root)) => found.push(root.to_owned()),
        // A script by itself has its modules beside it.
        _ if modules.is_none() && own_package.is_none() && is_script(file) => found.push(dir.to_owned()),
        _ => {}
    }
    found
}

fn is_script(file: &Path) -> bool {
    let extension = file.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| ["py", "pyz", "js", "cjs", "mjs", "ts"].contains(&extension))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn executable(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read_by(program: &Path, preset: Preset, env: &[(&str, &Path)], args: &[&Path]) -> Files {
        let wish = Wish { presets: vec![preset], ..Wish::default() };
        let env: Vec<(OsString, OsString)> =
            env.iter().map(|(name, value)| (name.into(), value.as_os_str().to_owned())).collect();
        let args: Vec<OsString> = args.iter().map(|arg| arg.as_os_str().to_owned()).collect();
        Search { env: &env, cwd: None }.files(&wish, program, &args)
    }

    fn covers(places: &[Place], path: &Path) -> bool {
        places.iter().any(|place| path.starts_with(place.path()))
    }

    #[test]
    fn a_virtual_environment_brings_the_interpreter_that_it_was_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (base, venv, home) = (root.join("py"), root.join("home/app/venv"), root.join("home"));
        executable(&base.join("bin/python3"), "\x7fELF");
        executable(&venv.join("bin/server"), &format!("#!{}\nserve()", venv.join("bin/python").display()));
        symlink(base.join("bin/python3"), venv.join("bin/python")).unwrap();
        let files = read_by(&venv.join("bin/server"), Preset::Python, &[("HOME", &home)], &[]);
        let read = files.read.unwrap();
        for seen in [venv.join("lib/python3/x.py"), base.join("lib/python3/os.py"), venv.join("bin/server")] {
            assert!(covers(&read, &seen), "{}", seen.display());
        }
        for hidden in [home.join(".ssh/id"), home.join("app/secret"), root.join("py/secret")] {
            assert!(!covers(&read, &hidden), "{}", hidden.display());
        }
        assert!(files.write.is_empty(), "{:?}", files.write);
    }

    #[test]
    fn a_node_program_brings_the_packages_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let modules = root.join("app/node_modules");
        executable(&root.join("nvm/v1/bin/node"), "\x7fELF");
        executable(&modules.join("@x/server/dist/index.js"), "#!/usr/bin/env node\n");
        fs::create_dir(modules.join(".bin")).unwrap();
        symlink("../@x/server/dist/index.js", modules.join(".bin/server")).unwrap();
        let path = root.join("nvm/v1/bin");
        let read = read_by(&modules.join(".bin/server"), Preset::Node, &[("PATH", &path)], &[]).read.unwrap();
        for seen in
            [modules.join("zod/index.js"), root.join("nvm/v1/lib/node_modules/npm/x"), path.join("node")]
        {
            assert!(covers(&read, &seen), "{}", seen.display());
        }
        assert!(!covers(&read, &root.join("app/.env")));

        // The same as an argument of `node`, in a project of its own.
        fs::write(root.join("app/package.json"), "{}").unwrap();
        fs::write(root.join("app/server.mjs"), "").unwrap();
        let read =
            read_by(&path.join("node"), Preset::Node, &[], &[&root.join("app/server.mjs")]).read.unwrap();
        assert!(covers(&read, &root.join("app/lib/x.mjs")));
    }

    #[test]
    fn a_cache_is_where_its_variable_says() {
        let home = Path::new("/home/u");
        let cases = [
            (Preset::Uvx, vec![("HOME", home)], "/home/u/.cache/uv"),
            (Preset::Uvx, vec![("HOME", home), ("XDG_CACHE_HOME", Path::new("/c"))], "/c/uv"),
            (Preset::Uvx, vec![("HOME", home), ("UV_CACHE_DIR", Path::new("/uv"))], "/uv"),
            (Preset::Npx, vec![("HOME", home)], "/home/u/.npm"),
            (Preset::Npx, vec![("HOME", home), ("NPM_CONFIG_CACHE", Path::new("/n"))], "/n"),
        ];
        for (preset, env, expected) in cases {
            let files = read_by(Path::new("/bin/true"), preset, &env, &[]);
            let written: Vec<&Path> = files.write.iter().map(Place::path).collect();
            assert_eq!(written, [Path::new(expected)]);
        }
    }

    #[test]
    fn an_account_is_a_name_that_is_known_or_any_number() {
        let user = |account, said: &[&'static str], home| {
            user(&account, &Wish { said: said.to_vec(), ..Wish::default() }, home)
        };
        let all = |user: User| {
            let env = user.env.iter().map(|(name, value)| format!("{name}={}", value.display()));
            (user.uid, user.gid, env.collect::<Vec<_>>().join(" "))
        };
        let root = || Account::Name("root".to_owned());
        let home = nix::unistd::User::from_uid(0.into()).unwrap().unwrap().dir.display().to_string();
        let expected = (0, 0, format!("HOME={home} LOGNAME=root USER=root"));
        assert_eq!(all(user(root(), &[], Home::Real).unwrap()), expected);
        assert_eq!(all(user(root(), &["USER"], Home::Scratch).unwrap()), (0, 0, "LOGNAME=root".to_owned()));
        let unknown = user(Account::Id(4_000_123), &["LOGNAME"], Home::Real).unwrap();
        assert_eq!(all(unknown), (4_000_123, 4_000_123, "HOME= USER=4000123".to_owned()));
        let error = user(Account::Name("nobody-is-called-so".to_owned()), &[], Home::Real).unwrap_err();
        assert_eq!(error.to_string(), "there is no user nobody-is-called-so");
    }
}
