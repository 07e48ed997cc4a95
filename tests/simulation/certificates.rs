//! What the model Vault issues: real certificates of a PKI engine at the mount `pki`,
//! by keys that are the same in each run. Each is kept beside the leases, under its
//! lease's id where its role has one (`generate_lease`), else under its serial number.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};
use serde_json::{Map, Value, json};
use vault_tenant_operator::config::duration;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Lease as Given, Reply, Task};

use crate::leases::nothing;
use crate::leases::{Leases, Lives};
use crate::vault::reply;

/// Vault dates certificates back so far.
const DATED_BACK: Duration = Duration::from_secs(30);

/// A role of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// For which no more can be asked.
    pub max: Duration,
    /// `generate_lease`.
    pub leases: bool,
    /// `no_store`.
    pub forgets: bool,
}

/// What signs: an issuer without end, and the key of all certificates.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    issuer_pem: String,
    key: KeyPair,
}

/// A key of Ed25519, whose signatures are the same each time (RFC 8410, 7).
fn key(of: u8) -> KeyPair {
    let mut der = vec![
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    der.extend([of; 32]);
    KeyPair::try_from(der).unwrap()
}

fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        params.serial_number = Some(SerialNumber::from(vec![1]));
        let own = key(1);
        let issuer_pem = plain(&params.self_signed(&own).unwrap().pem());
        Signer {
            issuer: Issuer::new(params, own),
            issuer_pem,
            key: key(2),
        }
    })
}

/// As Vault spells it: line feeds, none at the end.
fn plain(pem: &str) -> String {
    pem.replace('\r', "").trim_end().to_owned()
}

/// As Vault spells the number of a certificate.
fn serial(number: u64) -> String {
    let bytes = [0x1f, 0, 0, 0].into_iter().chain(number.to_be_bytes());
    let pairs: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

/// Issues by a role; `None` where there is none such.
pub fn issue(
    leases: &mut Leases,
    token: &str,
    path: &str,
    body: Option<&Map<String, Value>>,
    now: Timestamp,
) -> Option<Reply> {
    let role = *leases.issues.get(path)?;
    let text = |field: &str| body?.get(field)?.as_str();
    let asked = text("ttl").and_then(|ttl| duration::parse(ttl).ok());
    let ttl = asked.map_or(role.max, |asked| asked.min(role.max));
    let number = leases.next();
    let serial = serial(number);
    let end = now.as_second() + i64::try_from(ttl.as_secs()).unwrap();

    let signer = signer();
    let name = text("common_name").unwrap_or_default().to_owned();
    let mut params = CertificateParams::new(vec![name]).unwrap();
    let since_1970 = |second: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(second).unwrap())
    };
    params.not_before = since_1970(now.as_second()) - DATED_BACK;
    params.not_after = since_1970(end);
    let bytes = serial
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16).unwrap());
    params.serial_number = Some(SerialNumber::from(bytes.collect::<Vec<u8>>()));
    let certificate = params.signed_by(&signer.key, &signer.issuer).unwrap();

    let lives = Lives {
        ttl: Duration::from_secs(u64::try_from(end - now.as_second()).unwrap()),
        max: None,
        renewable: false,
    };
    let id = match role.leases {
        true => format!("{path}/{number}"),
        false => serial.clone(),
    };
    let hangs_on = role.leases.then_some(token);
    leases.give(&id, (path, &serial), hangs_on, lives, now);
    if !role.forgets {
        leases.stored.insert(serial.clone());
    }
    let data = json!({
        // Of no meaning here.
        "authority_key_id": "01",
        "certificate": plain(&certificate.pem()),
        "issuing_ca": signer.issuer_pem,
        "ca_chain": [signer.issuer_pem],
        "private_key": plain(&signer.key.serialize_pem()),
        "private_key_type": "ed25519",
        "serial_number": serial,
        "expiration": end,
    });
    let lease = match role.leases {
        true => Given {
            id,
            duration: ttl,
            renewable: false,
        },
        false => Given::default(),
    };
    Some(Reply {
        lease,
        ..reply(200, &data)
    })
}

/// Revokes by a serial number, once or again.
pub fn revoke(
    leases: &mut Leases,
    body: &Map<String, Value>,
    now: Timestamp,
) -> Result<Reply, Problem> {
    let serial = body
        .get("serial_number")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !leases.stored.contains(serial) {
        let why = format!("certificate with serial {serial} not found.");
        return Err(nothing(Task::RevokeCertificate, 400, &why));
    }
    if let Some(id) = leases.of_mark(serial.as_bytes()).cloned() {
        leases.give_back(&id, now);
    }
    Ok(reply(200, &json!({ "revocation_time": now.as_second() })))
}
