//! `kubectl vto status`: how the secrets of a namespace stand, from the status of
//! their resources alone, with the rights of whoever asks. Reads; writes nothing.

mod board;
mod feed;
mod live;
mod row;
mod table;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;

use crate::cli::print;
use crate::key::is_namespace_name;
use anstream::{AutoStream, ColorChoice};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::Api;
use tokio::sync::mpsc;

use crate::kubectl::Outcome;
use crate::kubectl::cluster::{Cluster, connect, runtime};
use board::{Board, News};
use table::{Layout, Table};

/// Show how the secrets of a namespace stand: of each VaultStaticSecret,
/// VaultDynamicSecret and VaultPKISecret the state, where it comes from, what is
/// due when, what ends when, and whether its workloads have it
#[derive(Debug, Args)]
#[command(
    after_help = "NEXT DUE: when the source is read, or the credentials are renewed or replaced. EXPIRY: when they end if \
                  nobody renews them. SURVIVES UNTIL: until when they work if Vault or the operator stopped \
                  now.\n\nExit codes: 0 all are ready; 1 one is not, or could not be seen; 2 nothing could be told, or the \
                  namespace does not exist. With --watch, how it stood at the end."
)]
pub struct Status {
    #[command(flatten)]
    cluster: Cluster,

    /// The namespace [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// How to show it [default: a table]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,

    /// Show each change until Ctrl-C: in place on a terminal, elsewhere as a further line
    #[arg(short, long)]
    watch: bool,
}

/// Another form than the table of the usual width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One object for programs; with --watch, one for each change
    Json,
    /// The table with the Secret's name and the message
    Wide,
}

/// Shows what is asked for.
///
/// # Errors
/// A sentence, where nothing could be told.
pub fn run(command: &Status) -> Result<Outcome, String> {
    runtime()?.block_on(command.show())
}

impl Status {
    async fn show(&self) -> Result<Outcome, String> {
        let config = self.cluster.config().await?;
        let namespace = match &self.namespace {
            _ if self.all_namespaces => None,
            Some(given) => Some(given.clone()),
            None => Some(config.default_namespace.clone()),
        };
        if let Some(name) = namespace.as_deref().filter(|name| !is_namespace_name(name)) {
            return Err(format!(
                "{name:?} is no name of a namespace: give one with --namespace"
            ));
        }
        let client = connect(config)?;
        let mut news = feed::of_all(&client, namespace.as_deref(), self.watch);
        let board = first(&mut news, namespace.clone()).await?;
        if self.watch {
            return live::run(board, news, self.view()).await;
        }
        if board.is_empty()
            && let Some(name) = &namespace
            && !may_exist(client, name).await
        {
            let mend = match self.namespace {
                Some(_) => "correct --namespace",
                None => "it is that of the context, give another with --namespace",
            };
            return Err(format!("the namespace {name} does not exist: {mend}"));
        }
        for trouble in board.troubles() {
            eprintln!("{trouble}");
        }
        let now = Timestamp::now();
        if self.output == Some(Output::Json) {
            let text = board.as_json(now).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"))?;
        } else if let Some(nothing) = board.nothing() {
            eprintln!("{nothing}");
        } else {
            print(&Table::new(self.layout()).lines(board.rows(), now))?;
        }
        Ok(outcome(&board))
    }

    fn layout(&self) -> Layout {
        Layout {
            namespaces: self.all_namespaces,
            wide: self.output == Some(Output::Wide),
            // A terminal that takes them, and nobody has said NO_COLOR. That somebody has
            // said CLICOLOR_FORCE makes no terminal of a file.
            colours: std::io::stdout().is_terminal()
                && AutoStream::choice(&std::io::stdout()) != ColorChoice::Never,
        }
    }

    fn view(&self) -> live::View {
        match self.output {
            Some(Output::Json) => live::View::Json,
            _ if std::io::stdout().is_terminal() => live::View::Screen(self.layout()),
            _ => live::View::Lines(Table::new(self.layout())),
        }
    }
}

/// What there is at first.
///
/// # Errors
/// Why nothing can be seen, one line for each kind.
async fn first(
    news: &mut mpsc::Receiver<News>,
    namespace: Option<String>,
) -> Result<Board, String> {
    let mut board = Board::new(namespace);
    while !board.is_complete() {
        let Some(event) = news.recv().await else {
            break;
        };
        board.take(event);
    }
    if board.sees_something() {
        return Ok(board);
    }
    Err(board.troubles().collect::<Vec<_>>().join("\n"))
}

/// Whether a namespace may be there: what is refused is no sign that it is not, since
/// rights may be given without the one to see it.
async fn may_exist(client: Client, namespace: &str) -> bool {
    let namespaces: Api<Namespace> = Api::all(client);
    !matches!(namespaces.get_metadata_opt(namespace).await, Ok(None))
}

fn outcome(board: &Board) -> Outcome {
    if board.is_ready() {
        Outcome::Done
    } else {
        Outcome::NotReady
    }
}
