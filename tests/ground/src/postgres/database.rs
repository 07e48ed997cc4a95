//! One database of a test's own, and a client that opens a new connection for each look, as an application does that
//! was given a credential.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::{Config, NoTls};

use super::random_password;

/// How long a connection may take; on loopback it is milliseconds.
const CONNECT: Duration = Duration::from_secs(10);

/// A database with an owner who may make roles (as Vault's database engine does) and the table `items`.
#[derive(Clone, Debug)]
pub struct Database {
    owner: Connection,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// The server let the user in and answered.
    Accepted,
    /// The server didn't take this user or this password; its own words.
    Refused(String),
}

impl Database {
    /// Creates the database and its owner, who has the same name.
    pub(super) async fn create(superuser: &Connection, name: &str) -> Result<Self> {
        let password = random_password()?;
        let quoted = quoted(name);
        superuser
            .execute(&[
                &format!("create role {quoted} login createrole password '{password}'"),
                &format!("create database {quoted} owner {quoted}"),
            ])
            .await
            .with_context(|| format!("create the database {name}"))?;
        let owner = Connection {
            database: name.to_owned(),
            user: name.to_owned(),
            password,
            ..superuser.clone()
        };
        let database = Self { owner };
        database
            .execute(&["create table items (name text)"])
            .await?;
        Ok(database)
    }

    /// Its name, which is also its owner's.
    pub fn name(&self) -> &str {
        &self.owner.database
    }

    /// Where a client finds it: `HOST:PORT/NAME`.
    pub fn place(&self) -> String {
        let Connection { host, port, .. } = self.owner;
        format!("{host}:{port}/{}", self.owner.database)
    }

    /// The password of its owner.
    pub fn password(&self) -> &str {
        &self.owner.password
    }

    /// The `connection_url` for Vault's database engine.
    pub fn vault_url(&self) -> String {
        format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@{}?sslmode=disable",
            self.place()
        )
    }

    /// Opens a new connection as this user, asks one thing and closes it.
    ///
    /// # Errors
    /// Anything but a refusal of the user or the password: no connection, no answer.
    pub async fn login(&self, user: &str, password: &str) -> Result<Login> {
        let connection = Connection {
            user: user.to_owned(),
            password: password.to_owned(),
            ..self.owner.clone()
        };
        let Err(error) = connection.execute(&["select 1"]).await else {
            return Ok(Login::Accepted);
        };
        let refusal = error
            .downcast_ref::<tokio_postgres::Error>()
            .and_then(tokio_postgres::Error::as_db_error)
            // Class 28 of PostgreSQL's error codes: invalid authorization specification.
            .filter(|refusal| refusal.code().code().starts_with("28"));
        match refusal {
            Some(refusal) => Ok(Login::Refused(refusal.message().to_owned())),
            None => Err(error),
        }
    }

    /// Runs statements as its owner, each in a transaction of its own.
    ///
    /// # Errors
    /// The server refuses one of them.
    pub async fn execute(&self, statements: &[&str]) -> Result<()> {
        self.owner.execute(statements).await
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) host: &'static str,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: String,
}

impl Connection {
    /// Connects, runs statements and closes the connection.
    pub(super) async fn execute(&self, statements: &[&str]) -> Result<()> {
        let mut config = Config::new();
        config
            .host(self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.user)
            .password(&self.password)
            .connect_timeout(CONNECT);
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let run = async {
            for statement in statements {
                client.simple_query(statement).await?;
            }
            Ok(())
        };
        let outcome: Result<()> = tokio::time::timeout(CONNECT, run)
            .await
            .context("PostgreSQL does not answer")
            .flatten();
        // The connection ends with its client.
        drop(client);
        let _ = connection.await;
        outcome
    }
}

/// A name as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
