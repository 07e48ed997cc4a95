//! A real PostgreSQL on loopback, for Vault's database engine and for clients that use its credentials.
//!
//! A ground starts it when a test first asks for it. It keeps nothing that a crash of the machine would leave whole, and
//! takes passwords alone (SCRAM). PostgreSQL refuses to run as root: for root it runs as [`nobody`].

mod database;

use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::process::Signal;
use tempfile::TempDir;

pub use database::{Database, Login};

use crate::components::Components;
use crate::nobody;
use crate::paths::ELSEWHERE;
use crate::ports::start_on_free_ports;
use crate::process::{Process, Spec};
use database::Connection;
pub(crate) use database::quoted;

/// How long each step of the start may take; on an idle machine all take two seconds. The programs may have to be
/// downloaded first.
const START: Duration = Duration::from_secs(120);

/// Ends the server and all its connections at once. Killed instead, it leaves a shared memory segment of System V.
const END: Signal = Signal::QUIT;

/// How long that may take.
const GRACE: Duration = Duration::from_secs(10);

/// The superuser.
const SUPERUSER: &str = "postgres";

/// The server of one ground.
#[derive(Debug)]
pub struct Postgres {
    /// The server; stop, continue and kill it here.
    pub process: Process,
    superuser: Connection,
}

impl Postgres {
    /// Starts a server of this name in the folder of the run, by the programs of `installed` or else by those that
    /// `postgres-programs` brings.
    ///
    /// # Errors
    /// The programs can't be brought, or the server isn't ready in time.
    pub(crate) async fn start(
        components: &Components,
        run: &Path,
        name: &str,
        installed: Option<PathBuf>,
        host: &'static str,
    ) -> Result<Self> {
        let home = Home::make(run, name)?;
        let programs = match installed {
            Some(programs) => programs,
            None => home.bring_programs(components).await?,
        };
        let data = home.initialize(&programs).await?;
        let mut base = home
            .spec("server", &programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .flag("listen_addresses", host)
            .flag("unix_socket_directories", "")
            .flag("max_connections", "500")
            .flag("password_encryption", "md5")
            // Who came from where, and what became of it.
            .flag("log_connections", "on")
            .flag("log_line_prefix", "from %h: ")
            .flag("shared_buffers", "32MB")
            .flag("dynamic_shared_memory_type", "mmap")
            .flag("fsync", "off")
            .flag("synchronous_commit", "off")
            .flag("full_page_writes", "off");
        base.end = Some(END);
        let superuser = |port| Connection {
            host,
            port,
            database: SUPERUSER.to_owned(),
            user: SUPERUSER.to_owned(),
            password: home.password.clone(),
        };
        let spec = |[port]: [u16; 1]| Ok(base.clone().flag("port", port.to_string()));
        let answers = |[port]: [u16; 1]| {
            let superuser = superuser(port);
            async move { superuser.execute(&["select 1"]).await }
        };
        let (process, [port]) = start_on_free_ports(START, spec, answers).await?;
        Ok(Self {
            process,
            superuser: superuser(port),
        })
    }

    /// A database of the test's own, with an owner and a table.
    ///
    /// # Errors
    /// There is one of this name, or the server doesn't answer.
    pub async fn database(&self, name: &str) -> Result<Database> {
        Database::create(&self.superuser, name).await
    }

    /// Ends it, and all its connections at once.
    pub(crate) async fn end(&self) {
        self.process.end(END, GRACE).await;
    }
}

/// The folder of the programs that the system has: that of `initdb` on `PATH`, else the newest where Debian and its
/// kin keep them.
pub(crate) fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter_map(|folder| {
        // A link leads to where the others are.
        let initdb = folder.join("initdb").canonicalize().ok()?;
        initdb.parent().map(Path::to_owned)
    });
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let mut kept: Vec<(u32, PathBuf)> = versions
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    kept.sort();
    let kept = kept.into_iter().rev().map(|(_, folder)| folder);
    let both = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    on_path.chain(kept).find(both)
}

/// Downloads what a start would have to, while there is a network.
///
/// # Errors
/// The programs can't be brought.
pub(crate) async fn fetch(components: &Components) -> Result<()> {
    if installed().is_some() {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let home = Home::make(scratch.path(), "postgresql")?;
    home.bring_programs(components).await.map(drop)
}

/// The folder of a server, of the user that it runs as.
struct Home {
    name: String,
    path: PathBuf,
    /// The folder of its logs.
    run: PathBuf,
    /// The superuser's.
    password: String,
}

impl Home {
    /// Makes the folder `RUN/NAME`; where the server's user can't get there, it is a link to one elsewhere, which the run
    /// takes with it.
    fn make(run: &Path, name: &str) -> Result<Self> {
        let mut path = run.join(name);
        if nobody::is_root() && !nobody::may_pass(run) {
            let elsewhere = TempDir::with_prefix(ELSEWHERE)?;
            symlink(elsewhere.path(), &path)?;
            path = elsewhere.keep();
        } else {
            std::fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        }
        let home = Self {
            name: name.to_owned(),
            path,
            run: run.to_owned(),
            password: random_password()?,
        };
        std::fs::write(home.password_file(), &home.password)?;
        if nobody::is_root() {
            for path in [&home.path, &home.password_file()] {
                chown(path, Some(nobody::ID), Some(nobody::ID))?;
            }
        }
        Ok(home)
    }

    fn password_file(&self) -> PathBuf {
        self.path.join("password")
    }

    /// Unpacks the programs here and answers their folder; what was downloaded is kept beside the component.
    async fn bring_programs(&self, components: &Components) -> Result<PathBuf> {
        let program = components.path("postgres-programs")?;
        let into = self.path.join("programs");
        let mut spec = self.spec_of_ours("programs", program);
        // A proxy or a certificate of the user's own decides how the artifact is reached.
        spec.env = std::env::vars_os().collect();
        let cache = program.parent().unwrap_or(&self.path);
        succeeds(spec.flag("cache", cache).flag("into", &into)).await?;
        Ok(into.join("bin"))
    }

    /// Makes the server's data folder.
    async fn initialize(&self, programs: &Path) -> Result<PathBuf> {
        let data = self.path.join("data");
        let spec = self
            .spec("initdb", &programs.join("initdb"))
            .flag("pgdata", &data)
            .flag("username", SUPERUSER)
            .flag("pwfile", self.password_file())
            // SCRAM is made to be slow, which hundreds of logins in a second are not for.
            .flag("auth", "md5")
            .flag("encoding", "UTF8")
            .arg("--no-locale")
            .arg("--no-sync");
        succeeds(spec).await?;
        // Pods come from elsewhere; who reaches the server at all, its address decides.
        std::fs::write(data.join("pg_hba.conf"), "host all all all md5\n")?;
        Ok(data)
    }

    /// A program as the server's user; its log is `RUN/NAME-WHAT.log`.
    fn spec(&self, what: &str, program: &Path) -> Spec {
        let spec = self.spec_of_ours(what, program);
        if nobody::is_root() {
            nobody::run(spec)
        } else {
            spec
        }
    }

    fn spec_of_ours(&self, what: &str, program: &Path) -> Spec {
        let name = format!("{}-{what}", self.name);
        let mut spec = Spec::new(&name, program, &self.path);
        spec.log = self.run.join(format!("{name}.log"));
        spec
    }
}

/// Runs a program to its end.
async fn succeeds(spec: Spec) -> Result<()> {
    let process = Process::start(spec).await?;
    let exit = tokio::time::timeout(START, process.wait()).await;
    ensure!(
        exit.as_ref().is_ok_and(|exit| exit.success()),
        "{} did not succeed within {START:?} ({exit:?}). {}",
        process.name(),
        process.describe_log()
    );
    Ok(())
}

/// A password without a character that any language quotes.
pub(crate) fn random_password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn the_folder_is_the_servers_and_in_its_reach() {
        let run = tempfile::tempdir().unwrap();
        std::fs::set_permissions(run.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let home = Home::make(run.path(), "a").unwrap();
        let linked = run.path().join("a").canonicalize().unwrap();
        assert_eq!(linked, home.path.canonicalize().unwrap());
        let owner = std::fs::metadata(&home.path).unwrap().uid();
        if nobody::is_root() {
            assert_eq!(owner, nobody::ID);
            assert!(nobody::may_pass(home.path.parent().unwrap()), "{linked:?}");
            std::fs::remove_dir_all(&home.path).unwrap();
        } else {
            assert_eq!(home.path, run.path().join("a"));
        }
    }
}
