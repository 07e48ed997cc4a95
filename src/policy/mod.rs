//! The guardrails: what a custom resource may make the operator do. One
//! function decides, before any packet, and only it can make a [`Permitted`].

mod permitted;

pub use permitted::{
    CaSource, Connection, DestinationRequest, Login, LoginMethod, Permitted, PermittedConnection,
    PermittedLogin, Read, Resolved,
};
