//! The sandbox: a real control plane, a real Vault, a real PostgreSQL, one tenant and its operator on this machine, and a tour through
//! what the operator does.
//!
//! ```text
//! cargo run --example sandbox             # the tour; then it stays up until Ctrl-C
//! cargo run --example sandbox -- --once   # the tour alone; exits 0 when all of it was seen, else 1
//! cargo run --example sandbox -- --node real   # as root, on a real node: pods are processes
//! ```
//!
//! The program is four in one: the sandbox, the supervisor of each process that it starts, the operator itself, and `kubectl vto`.

mod certificate;
mod database;
mod observe;
mod platform;
mod running;
mod screen;
mod tour;
mod visit;
mod window;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use ground::node::isolation;
use ground::{Ground, NodeKind, Options, node, shipped};

use screen::Screen;
use visit::Interruption;

/// As in the shipped binary: memory that held a secret is zeroed when it is freed.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// How long the operator may take to end, as a kubelet gives it by default.
const GRACE: Duration = Duration::from_secs(30);

/// The first argument that makes this program the operator.
const OPERATOR: &str = "--operator";

/// The first argument that makes this program the command `kubectl vto`.
const PLUGIN: &str = "--kubectl-vto";

/// A control plane, a Vault, a PostgreSQL, one tenant and its operator on this machine, and a tour through what the operator does.
#[derive(Debug, Parser)]
#[command(name = "sandbox")]
struct Arguments {
    /// Do the tour, check every step, and exit: 0 when all was as it should be, else 1
    #[arg(long)]
    once: bool,
    /// What plays the node; a real one needs root, and runs pods as processes
    #[arg(long, value_enum, default_value_t = Node::Fake)]
    node: Node,
}

/// What plays the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Node {
    /// Pods are objects alone, and the operator is a process in the place of its pod
    Fake,
    /// A kubelet with containerd, in namespaces of its own
    Real,
}

/// What the sandbox was told to do, and how it ended.
enum End {
    /// All of the tour was seen.
    Done,
    /// Somebody ended it before the end of the tour.
    Interrupted,
}

fn main() -> ExitCode {
    ground::supervisor::dispatch();
    isolation::dispatch();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == OPERATOR) {
        arguments.remove(1);
        return vault_tenant_operator::cli::main(arguments);
    }
    if arguments.get(1).is_some_and(|first| first == PLUGIN) {
        arguments.remove(1);
        return vault_tenant_operator::kubectl::main(arguments);
    }
    let arguments = Arguments::parse_from(arguments);
    let screen = Screen::of_this_process();
    let outcome = tokio::runtime::Runtime::new()
        .context("the sandbox has no threads to run on")
        .and_then(|runtime| {
            if arguments.node == Node::Real && !isolation::is_inside() {
                isolation::ensure_possible()?;
                runtime.block_on(node::fetch())?;
                shipped::build_image(shipped::TAG, &[], &[])?;
                isolation::enter()?;
            }
            runtime.block_on(run(&screen, &arguments))
        });
    screen.abandon();
    match outcome {
        Ok(End::Done) => ExitCode::SUCCESS,
        // As a shell reports a program that Ctrl-C ended.
        Ok(End::Interrupted) => ExitCode::from(130),
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(screen: &Screen, arguments: &Arguments) -> Result<End> {
    let mut interruption = Interruption::listen()?;
    screen.title("vault-tenant-operator sandbox");
    screen.heading("Setting up");
    let begun = Instant::now();
    let (node, what) = match arguments.node {
        Node::Fake => (NodeKind::Fake, "one fake node"),
        Node::Real => (NodeKind::Real, "a real node"),
    };
    screen.begin(&format!(
        "a Kubernetes control plane with {what}, and a Vault"
    ));
    // The cluster's overlay brings the CRDs, as it does for everybody.
    let options = Options {
        crds: false,
        node,
        ..Options::default()
    };
    let ground = tokio::select! {
        ground = Ground::start(options) => ground?,
        () = interruption.wait() => return Ok(End::Interrupted),
    };
    screen.end(begun.elapsed());
    let outcome = on_ground(screen, &ground, &mut interruption, arguments.once).await;
    if let Err(error) = outcome {
        ground.keep();
        let logs = ground.dir().display().to_string();
        ground.stop().await?;
        bail!("{error:#}\nAll logs are in {logs}");
    }
    ground.stop().await?;
    outcome
}

/// All that happens on a running ground; it is stopped afterwards, however this ends.
async fn on_ground(
    screen: &Screen,
    ground: &Ground,
    interruption: &mut Interruption,
    once: bool,
) -> Result<End> {
    let toured = async {
        if let Some(node) = &ground.node {
            node.import(&shipped::image(shipped::TAG)?).await?;
        }
        let site = platform::set_up(screen, ground).await?;
        tour::walk(screen, &site).await?;
        anyhow::Ok(site)
    };
    let site = tokio::select! {
        site = toured => site?,
        () = interruption.wait() => return Ok(End::Interrupted),
    };
    if !once {
        visit::stay(screen, &site, interruption).await?;
    }
    site.operator.terminate(&site.tenant, GRACE).await?;
    Ok(End::Done)
}
