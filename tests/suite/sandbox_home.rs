//! Where sandboxes run: a target folder of their own whose path has spaces, with the components of the suite's ground,
//! as the user of this process or, where that is root, as one without rights.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ground::nobody;
use ground::process::Spec;

use crate::support::Suite;

/// The target folder of sandboxes.
pub struct Home {
    /// Its path.
    pub dir: PathBuf,
    program: PathBuf,
    of_nobody: bool,
}

impl Home {
    /// A folder below that of the suite's run, with its components.
    pub fn new(suite: &Suite, name: &str) -> Result<Self> {
        let home = Self::without_components(suite, name)?;
        home.link_components(suite)?;
        Ok(home)
    }

    /// The same without components: the sandbox builds them.
    pub fn without_components(suite: &Suite, name: &str) -> Result<Self> {
        let dir = suite.ground.dir().join(format!("target of {name}"));
        fs::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            program: program()?,
            of_nobody: false,
        })
    }

    /// A folder whose sandboxes run as a user who isn't root and owns nothing else.
    ///
    /// Who runs the suite as a user is one already. Where such a user may not read the repository, root has to do: that
    /// is said on standard output.
    pub fn of_a_user(suite: &Suite, name: &str) -> Result<Self> {
        if !nobody::is_root() {
            return Self::new(suite, name);
        }
        if let Err(reason) = nobody_may_read(suite) {
            println!("{name} is root's, not a user's: {reason:#}");
            return Self::new(suite, name);
        }
        let dir = std::env::temp_dir().join(format!("target of {name} {}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let copy = dir.join("sandbox");
        fs::copy(program()?, &copy)?;
        let home = Self {
            dir,
            program: copy,
            of_nobody: true,
        };
        home.link_components(suite)?;
        chown(&home.dir, Some(nobody::ID), Some(nobody::ID))?;
        Ok(home)
    }

    /// The folder of the components.
    fn assets(&self) -> PathBuf {
        self.dir.join("assets")
    }

    /// How to start a sandbox here; its log lies here too.
    pub fn spec(&self, name: &str, args: &[&str]) -> Spec {
        let mut spec = Spec::new(name, &self.program, &self.dir);
        if self.of_nobody {
            spec = nobody::run(spec);
        }
        spec.args.extend(args.iter().map(Into::into));
        spec = spec.env("CARGO_TARGET_DIR", &self.dir);
        if self.assets().exists() {
            spec = spec
                .env("VTO_VAULT_BIN", self.assets().join("vault"))
                .env("KUBEBUILDER_ASSETS", self.assets());
        }
        spec
    }

    fn link_components(&self, suite: &Suite) -> Result<()> {
        fs::create_dir_all(self.assets())?;
        for (name, path) in suite.ground.components().iter() {
            symlink(path, self.assets().join(name))?;
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The others lie in the folder of the suite's run and go with it.
        if self.of_nobody {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// `cargo test` builds the examples beside the tests.
fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .ancestors()
        .nth(2)
        .context("the test lies in no target folder")?;
    let program = profile.join("examples/sandbox");
    ensure!(
        program.is_file(),
        "{} is not built: run `cargo build --example sandbox`, or `cargo test` without --test",
        program.display()
    );
    Ok(program)
}

/// Fails when the user without rights can't read what a sandbox reads.
fn nobody_may_read(suite: &Suite) -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let components = suite.ground.components();
    let read = ["kustomize/crds", "tests/ground/go/kwok/stages.yaml"]
        .map(|path| repository.join(path))
        .into_iter()
        .chain(components.iter().map(|(_, path)| path.to_owned()));
    for path in read {
        let [setpriv, args @ ..] = nobody::COMMAND;
        let test = Command::new(setpriv)
            .args(args)
            .args(["test", "-r"])
            .arg(&path)
            .status()
            .context("setpriv is not there")?;
        ensure!(
            test.success(),
            "nobody else may read {}: clone into a folder that others may read, and umask 022",
            path.display()
        );
    }
    Ok(())
}
