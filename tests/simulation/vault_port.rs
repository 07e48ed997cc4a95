//! The operator's port to Vault on the model world.

use std::cell::RefCell;

use vault_tenant_operator::key::Redacted;
use vault_tenant_operator::policy::{PermittedLogin, Read};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Endpoint, Reply, Task, Token, Upkeep, Vault};

use crate::judge::{VOLATILE, content};
use crate::leases::form;
use crate::line::Line;
use crate::vault::{PLAIN_LEASE, Source};
use crate::world::World;
use crate::{defects, lease_defects};

/// A credential that a request makes, until its answer arrived.
struct Minted<'a> {
    world: &'a World,
    line: &'a Line,
    lease: RefCell<Option<String>>,
}

impl<'a> Minted<'a> {
    fn new(line: &'a Line) -> Self {
        Self {
            world: &line.world,
            line,
            lease: RefCell::default(),
        }
    }

    fn note(&self, reply: &Reply) {
        self.world.see_ends();
        let mut serial = None;
        if let Some(data) = reply
            .data
            .as_ref()
            .filter(|_| is_of_engine(self.world, reply))
        {
            let source: Source = serde_json::from_str(data.expose().get()).unwrap();
            let mut given = content(&source);
            given.retain(|key, _| !VOLATILE.contains(&key.as_str()));
            // What filters may leave of it.
            let mut some = given.clone();
            some.retain(|key, _| !["username", "issuing_ca"].contains(&key.as_str()));
            serial = given.get("serial_number").cloned();
            let sources = &mut self.world.judge.borrow_mut().sources;
            sources.extend([given, some]);
        }
        let serial = serial.map(|serial| String::from_utf8(serial).unwrap());
        let lease = match reply.lease.id.as_str() {
            "" => serial.unwrap_or_default(),
            id => id.to_owned(),
        };
        if !lease.is_empty() {
            let mut leases = self.world.leases.borrow_mut();
            // Who leads no longer writes it no more: another may be needed.
            leases.minted(self.world, &lease, !self.line.leads.get());
            self.lease.replace(Some(lease));
        }
    }

    fn arrived(&self) {
        self.lease.replace(None);
    }
}

impl Drop for Minted<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.world.leases.borrow_mut().lost(&lease);
        }
    }
}

fn is_of_engine(world: &World, reply: &Reply) -> bool {
    let vault = world.vault.borrow();
    let leases = &vault.leases;
    let none = leases.roles.is_empty() && leases.rotated.is_empty() && leases.issues.is_empty();
    !none && reply.lease.duration != PLAIN_LEASE && reply.status == 200
}

/// The lease or certificate that a request is about, by its path or in its body.
fn lease_id(request: &Upkeep) -> String {
    let named = request.path.strip_prefix(form(request.task));
    let named = named.and_then(|rest| rest.strip_prefix('/'));
    let field = match request.task {
        Task::RevokeCertificate => "serial_number",
        _ => "lease_id",
    };
    let body = request.body.get(field).and_then(|id| id.as_str());
    named.or(body).unwrap_or_default().to_owned()
}

fn judge_renewal(world: &World, request: &Upkeep, answer: &Result<Reply, Problem>) {
    let mut leases = world.leases.borrow_mut();
    let (id, in_body) = (&lease_id(request), request.path == form(request.task));
    match answer {
        Ok(_) => {
            let lease = world.vault.borrow().leases.live.get(id).cloned();
            leases.renewed(world, id, lease.is_some_and(|lease| lease.shortened));
        }
        // The other form is tried first.
        Err(Problem::VaultDenied { .. }) if in_body => leases.denied(id),
        Err(Problem::LeaseNotFound { .. }) => leases.renewed_in_vain(world, id),
        Err(_) => {}
    }
}

/// Vault.
pub struct SimVault(pub Line);

impl Vault for SimVault {
    async fn login(
        &self,
        _: &Endpoint,
        _: &PermittedLogin,
        jwt: &Redacted<String>,
    ) -> Result<Token, Problem> {
        let answer = defects::sent(&self.0.world, async || {
            self.0
                .vault("login".to_owned(), |world| {
                    world.vault.borrow_mut().login(jwt.expose(), world.now())
                })
                .await
        })
        .await;
        self.0.world.logged_in.set(Some(answer.is_ok()));
        answer
    }

    async fn renew_self(
        &self,
        _: &Endpoint,
        _: &PermittedLogin,
        token: &Token,
    ) -> Result<Token, Problem> {
        self.0
            .vault("renew".to_owned(), |world| {
                world.vault.borrow_mut().renew(token, world.now())
            })
            .await
    }

    async fn read(&self, _: &Endpoint, token: &Token, read: &Read) -> Result<Reply, Problem> {
        let minted = Minted::new(&self.0);
        let answer = defects::sent(&self.0.world, async || {
            self.0
                .vault(format!("read {}", read.path), |world| {
                    let reply = world.vault.borrow_mut().read(token, read, world.now())?;
                    minted.note(&reply);
                    Ok(defects::in_reply(world, reply))
                })
                .await
        })
        .await;
        if answer.is_ok() {
            minted.arrived();
        }
        answer
    }

    async fn upkeep(
        &self,
        _: &Endpoint,
        token: &Token,
        request: &Upkeep,
    ) -> Result<Reply, Problem> {
        let id = lease_id(request);
        let what = match request.task {
            Task::RenewLease | Task::RevokeLease | Task::RevokeCertificate => {
                format!("{:?} {id}", request.task)
            }
            _ => format!("{:?} {}", request.task, request.path),
        };
        let (request, skipped) = lease_defects::in_request(&self.0, &id, request);
        if let Some(reply) = skipped {
            return reply;
        }
        let answer = self
            .0
            .vault(what, |world| {
                let now = world.now();
                let answer = world.vault.borrow_mut().upkeep(token, &request, now);
                let denied = matches!(answer, Err(Problem::VaultDenied { .. }));
                match request.task {
                    Task::RenewLease => judge_renewal(world, &request, &answer),
                    Task::LookUpToken | Task::RenewToken if denied => {
                        world.leases.borrow_mut().accessors_denied();
                    }
                    _ => {}
                }
                world.see_ends();
                answer
            })
            .await;
        lease_defects::in_answer(&self.0.world, &request, answer)
    }

    async fn health(&self, _: &Endpoint) -> Result<(), Problem> {
        self.0
            .vault("health".to_owned(), |world| world.vault.borrow().health())
            .await
    }
}
