//! An operator's line to the two servers of the model world. Every request takes
//! time, can meet a fault before or after its effect, and gets no answer any more
//! once its operator has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use vault_tenant_operator::problem::Problem;

use crate::vault::ADDRESS;
use crate::world::{Fault, Server, World};

/// One operator's line to the world; cut when that operator ends.
#[derive(Clone)]
pub struct Line {
    pub world: Rc<World>,
    pub alive: Rc<Cell<bool>>,
    /// Whether that operator may begin a request; one that is under way arrives
    /// all the same.
    pub leads: Rc<Cell<bool>>,
    /// Whether that operator has changed the content of a Secret.
    pub wrote: Rc<Cell<bool>>,
    /// When that operator began.
    pub born: Timestamp,
}

impl Line {
    async fn request<T>(
        &self,
        server: Server,
        what: String,
        broken: impl Fn(Fault) -> Problem,
        effect: impl FnOnce(&World) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let world = &self.world;
        self.still_there().await;
        if !self.leads.get() {
            std::future::pending::<()>().await;
        }
        let fault = world.count(&what);
        world.pause(world.latency.get()).await;
        self.still_there().await;
        match fault {
            Some(Fault::CrashBefore) => self.end().await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Panic) => panic!("a defect in a port: {what}"),
            _ if world.is_away(server) => return Err(broken(Fault::Away)),
            Some(Fault::CrashAfter | Fault::LostAnswer | Fault::HangAfter) | None => {}
            Some(refused) => return Err(broken(refused)),
        }
        let answer = effect(world);
        if let Err(problem) = &answer {
            world.note(format!("     {what}: {problem}"));
        }
        world.pause(world.latency.get()).await;
        self.still_there().await;
        match fault {
            Some(Fault::CrashAfter) => self.end().await,
            Some(Fault::HangAfter) => std::future::pending().await,
            Some(Fault::LostAnswer) => Err(broken(Fault::LostAnswer)),
            _ if world.is_away(server) => Err(broken(Fault::LostAnswer)),
            _ => answer,
        }
    }

    async fn still_there(&self) {
        if !self.alive.get() {
            std::future::pending::<()>().await;
        }
    }

    async fn end<T>(&self) -> T {
        self.alive.set(false);
        if self.leads.get() {
            self.world.crash.notify_one();
        }
        std::future::pending().await
    }

    pub async fn kubernetes<T>(
        &self,
        what: String,
        effect: impl FnOnce(&World) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let named = what.clone();
        let broken = move |fault| {
            let (what, why) = (named.clone(), format!("{fault:?} by chance"));
            match fault {
                Fault::Conflict => Problem::Conflict { what, why },
                Fault::Refused => Problem::KubernetesRefused { what, why },
                Fault::Forbidden => Problem::KubernetesForbidden { what, why },
                _ => Problem::KubernetesUnavailable { what, why },
            }
        };
        self.request(Server::Kubernetes, what, broken, effect).await
    }

    pub async fn vault<T>(
        &self,
        what: String,
        effect: impl FnOnce(&World) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let broken = |fault| {
            let (address, why) = (ADDRESS.to_owned(), format!("{fault:?}"));
            match fault {
                Fault::LostAnswer | Fault::Away => Problem::VaultUnreachable { address, why },
                Fault::Throttled => Problem::VaultRateLimited {
                    address,
                    retry_after: Some(Duration::from_secs(5)),
                    since: None,
                },
                _ => Problem::VaultUnavailable { address, why },
            }
        };
        // Probes have a budget of their own.
        if what != "health" {
            self.world.load.borrow_mut().add(Instant::now());
        }
        self.request(Server::Vault, what, broken, effect).await
    }
}
