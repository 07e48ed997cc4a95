//! How the ground builds and starts programs, with small scripts in the place of go and of a component.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::LONG;
use crate::Ground;
use crate::components::{self, Recipe, Slot};
use crate::ports::start_on_free_ports;
use crate::process::Spec;
use crate::progress::Progress;

/// Says that it was called, and makes its output a program.
const GO: &str = "#!/bin/sh
echo \"$@\" >>calls
while [ \"$1\" != -o ]; do shift; done
echo built >\"$2\"
";

/// Two runs that miss the same component at the same time.
pub(super) async fn two_builds(ground: &Ground) -> Result<()> {
    let module = ground.dir().join("a module");
    fs::create_dir_all(&module)?;
    fs::write(module.join("go.mod"), "module example.test\n")?;
    let go = module.join("go");
    fs::write(&go, GO)?;
    fs::set_permissions(&go, fs::Permissions::from_mode(0o755))?;
    let recipe = Recipe {
        name: "tool".to_owned(),
        dir: module.clone(),
        package: ".".to_owned(),
        ldflags: "-s".to_owned(),
        tags: String::new(),
        cgo: false,
        cold: Duration::from_secs(1),
    };
    let slot = Slot::of(&module.join("components"), &recipe, "go version go1.26.0")?;
    let progress = Progress::start(Vec::new());
    let build = || components::build(&go, &recipe, &slot, &progress);
    tokio::try_join!(build(), build())?;
    ensure!(
        fs::read_to_string(&slot.program)? == "built\n",
        "not what go built"
    );
    build().await?;
    let calls = fs::read_to_string(module.join("calls"))?;
    ensure!(
        calls.lines().count() == 1 && calls.starts_with("build -mod=readonly "),
        "go was called with {calls}"
    );
    Ok(())
}

/// A program that finds its port taken once; one that always does; and one that fails otherwise the second time.
pub(super) async fn taken_ports(ground: &Ground) -> Result<()> {
    let dir = ground.dir().join("taken ports");
    fs::create_dir_all(&dir)?;
    let (ports, started) = start(&dir, "once", "echo up; exec sleep 1000").await;
    let (process, [port]) = started?;
    ensure!(
        ports.len() == 2 && ports[0] != ports[1] && port == ports[1],
        "it was started on {ports:?}, at last on {port}"
    );
    process.kill();

    let (ports, started) = start(
        &dir,
        "always",
        "echo listen: address already in use; exit 1",
    )
    .await;
    let error = format!("{:#}", started.err().context("it was started")?);
    ensure!(
        ports.len() == 5 && error.contains("net.ipv4.ip_local_port_range"),
        "after {ports:?}: {error}"
    );

    let (ports, started) = start(&dir, "otherwise", "echo no such flag; exit 1").await;
    let error = format!("{:#}", started.err().context("it was started")?);
    ensure!(
        ports.len() == 2 && error.contains("no such flag"),
        "after {ports:?}: {error}"
    );
    Ok(())
}

/// The ports that a shell was started on which finds the first of them taken and does `then` at each later start, and
/// how that ended.
async fn start(
    dir: &Path,
    name: &str,
    then: &str,
) -> (Vec<u16>, Result<(crate::Process, [u16; 1])>) {
    let script = format!(
        "if [ -e {name} ]; then {then}; fi; touch {name}; echo listen: address already in use; exit 1"
    );
    let ports = Mutex::new(Vec::new());
    let spec = |[port]: [u16; 1]| {
        let mut ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.push(port);
        Ok(Spec::new(name, Path::new("/bin/sh"), dir)
            .arg("-c")
            .arg(&script))
    };
    let log = dir.join(format!("{name}.log"));
    let up = |_| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        async move {
            if said.lines().last() != Some("up") {
                bail!("it said {said:?}");
            }
            Ok(())
        }
    };
    let started = start_on_free_ports(LONG, spec, up).await;
    let ports = ports.into_inner().unwrap_or_else(PoisonError::into_inner);
    (ports, started)
}
