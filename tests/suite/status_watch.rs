//! `kubectl vto status` while things change and on a terminal, by a user who may read
//! the resources and nothing else. No operator: the trials speak in its place.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use ground::terminal::Terminal;
use ground::{Tenant, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::status_command::{KINDS, Reader, STATIC, ensure_plain, to_its_end};
use crate::support::{LONG, Suite, resources, static_secret};

crate::trials![
    "status_watch": changes_are_followed_line_by_line, a_terminal_has_colours_and_is_drawn_in_place,
];

/// To the terminal's other screen, and back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// One that runs on, and the lines that it prints.
struct Watching {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Watching {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        let (sender, lines) = unbounded_channel();
        // The pipe closes with this, once nobody takes a line any more.
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
        });
        Ok(Self { child, lines })
    }

    /// The next line, with single spaces between its words.
    async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(LONG, self.lines.recv()).await;
        let line = line.context("no line")?.context("it has ended")?;
        Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// That the next line begins so.
    async fn tells(&mut self, begin: &str) -> Result<()> {
        let line = self.line().await?;
        ensure!(line.starts_with(begin), "{line}, not {begin}");
        Ok(())
    }
}

/// Sends a signal (INT: Ctrl-C), and waits for the end: its code, and what it said on standard error.
async fn signalled(child: Child, signal: &str) -> Result<(Option<i32>, String)> {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
    ensure!(sent.success());
    ended(child).await
}

async fn ended(child: Child) -> Result<(Option<i32>, String)> {
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = tokio::time::timeout(LONG, ended).await???;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

/// Says of the resource in the operator's place that it is ready, or not.
async fn say(tenant: &Tenant, name: &str, ready: bool) -> Result<()> {
    let (status, reason) = if ready {
        ("True", "Synced")
    } else {
        ("False", "SecretNotFound")
    };
    let says = json!({ "status": { "lastGeneration": 1, "observedGeneration": 1, "conditions": [{
        "type": "Ready", "status": status, "reason": reason, "message": "as the trial says",
        "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
    }] } });
    let kind = resources(tenant, STATIC);
    kind.patch_status(name, &PatchParams::default(), &Patch::Merge(says))
        .await?;
    Ok(())
}

async fn changes_are_followed_line_by_line(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("status-watch").await?;
    let reader = Reader::of(suite, &tenant, &KINDS).await?;
    let resources = resources(&tenant, STATIC);
    let apply = async |name: &str| {
        let manifest = static_secret(&tenant, name, json!({}));
        tenant.apply(&manifest.to_string()).await
    };
    apply("app").await?;
    let mut watching = Watching::start(reader.command(&["--watch"])?)?;
    watching.tells("NAME STATE SOURCE AGE ").await?;
    watching.tells("vss/app Pending ").await?;
    say(&tenant, "app", true).await?;
    watching.tells("vss/app Ready ").await?;
    // What changes nothing that is shown is no line.
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    resources
        .patch("app", &PatchParams::default(), &Patch::Merge(label))
        .await?;
    say(&tenant, "app", false).await?;
    watching.tells("vss/app NotReady (SecretNotFound) ").await?;
    apply("other").await?;
    watching.tells("vss/other Pending ").await?;
    resources.delete("other", &DeleteParams::default()).await?;
    watching.tells("vss/other Deleted ").await?;
    let (code, said) = signalled(watching.child, "INT").await?;
    ensure!(code == Some(1) && said.is_empty(), "{code:?}: {said}");

    // As JSON; what is read no more ends quietly, as it stood.
    say(&tenant, "app", true).await?;
    let mut watching = Watching::start(reader.command(&["-w", "-o", "json"])?)?;
    let told: Value = serde_json::from_str(&watching.line().await?)?;
    ensure!(told["name"] == "app" && told["ready"] == true, "{told}");
    let Watching { child, lines } = watching;
    drop(lines);
    // The first of these is read by nobody, and the second has nowhere to go.
    for name in ["first", "second"] {
        apply(name).await?;
        say(&tenant, name, true).await?;
    }
    let (code, said) = ended(child).await?;
    ensure!(
        code.is_some_and(|code| code < 2) && said.is_empty(),
        "{code:?}: {said}"
    );
    Ok(())
}

async fn a_terminal_has_colours_and_is_drawn_in_place(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("status-terminal").await?;
    let manifest = static_secret(&tenant, "app", json!({}));
    tenant.apply(&manifest.to_string()).await?;
    say(&tenant, "app", true).await?;
    let reader = Reader::of(suite, &tenant, &KINDS).await?;
    let start = |arguments: &[&str], variable: (&str, &str), rows: u16| -> Result<_> {
        let mut command = reader.command(arguments)?;
        command.env(variable.0, variable.1);
        let terminal = Terminal::of(&mut command, rows)?;
        Ok((command.spawn()?, terminal))
    };
    let shows = async |terminal: &Terminal, words: &str| {
        wait_for(&format!("{words:?} on the terminal"), LONG, || async {
            let text = terminal.text();
            ensure!(text.contains(words), "{text:?}");
            Ok(())
        })
        .await
    };
    let green = "\x1b[32mReady\x1b[0m";
    let (child, terminal) = start(&[], ("LANG", "C"), 24)?;
    shows(&terminal, green).await?;
    ensure!(ended(child).await?.0 == Some(0));
    for without in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let (child, terminal) = start(&[], without, 24)?;
        shows(&terminal, "vss/app   Ready ").await?;
        ensure!(ended(child).await?.0 == Some(0));
        let text = terminal.text();
        ensure!(!text.contains('\x1b'), "{without:?}: {text:?}");
    }
    // What is no terminal has none, whatever a variable would force.
    let mut command = reader.command(&[])?;
    command.env("CLICOLOR_FORCE", "1");
    let ran = to_its_end(command).await?;
    ensure!(ran.out.contains("vss/app   Ready "), "{ran:?}");
    ensure_plain(&ran)?;

    // One that has no row for the last line.
    let (child, terminal) = start(&["-w"], ("LANG", "C"), 2)?;
    shows(&terminal, "(2 more: ").await?;
    ensure!(
        !terminal.text().contains("vss/app"),
        "{:?}",
        terminal.text()
    );
    ensure!(signalled(child, "TERM").await?.0 == Some(0));
    shows(&terminal, LEAVE).await?;

    let (child, terminal) = start(&["-w"], ("LANG", "C"), 24)?;
    shows(&terminal, green).await?;
    say(&tenant, "app", false).await?;
    let red = "\x1b[31mNotReady (SecretNotFound)\x1b[0m";
    shows(&terminal, red).await?;
    ensure!(signalled(child, "INT").await?.0 == Some(1));
    // The other screen is left, and the last table stays.
    shows(&terminal, LEAVE).await?;
    wait_for("the last table", LONG, || async {
        let text = terminal.text();
        let (drawn, last) = text.split_once(LEAVE).context("no end")?;
        ensure!(drawn.starts_with(ENTER) && last.contains(red), "{text:?}");
        Ok(())
    })
    .await
}
