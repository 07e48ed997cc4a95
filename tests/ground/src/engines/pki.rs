//! Vault's pki engine twice: a root, and an intermediate that issues, revokes and signs its CRL.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::tenant::Tenant;
use crate::vault_api::VaultApi;

/// The life of the root: longer than that of any intermediate.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The mounts of a root and of its intermediate.
#[derive(Clone, Debug)]
pub struct PkiEngine {
    /// The mount of the intermediate; certificates are at `MOUNT/issue/ROLE`.
    pub mount: String,
    /// The certificate of the root: what clients trust.
    pub root_pem: String,
    vault: VaultApi,
}

/// A role of the intermediate. It takes any name.
#[derive(Clone, Copy, Debug)]
pub struct PkiRole {
    /// The life of a certificate for which none is asked, in whole seconds.
    pub ttl: Duration,
    /// The longest that can be asked for, in whole seconds.
    pub max_ttl: Duration,
    /// `ec` (P-256), `rsa` (2048 bits) or `ed25519`.
    pub key_type: &'static str,
    /// Whether Vault forgets what it issued: it can't be revoked by its serial then.
    pub no_store: bool,
    /// Whether each certificate comes with a lease, whose end revokes it.
    pub generate_lease: bool,
}

impl Default for PkiRole {
    /// An hour, at most a day; stored, without lease.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_ttl: Duration::from_secs(24 * 3600),
            key_type: "ec",
            no_store: false,
            generate_lease: false,
        }
    }
}

impl Tenant {
    /// Mounts a root and an intermediate that lives so long (whole seconds).
    ///
    /// # Errors
    /// Vault refuses a step.
    pub async fn pki_engine(&self, life: Duration) -> Result<PkiEngine> {
        let vault = &self.vault;
        let mount = format!("{}-pki", self.namespace);
        let root = format!("{mount}-root");
        tokio::try_join!(
            mount_pki(vault, &root, ROOT_LIFE),
            mount_pki(vault, &mount, life)
        )?;
        let of = |name: &str| json!({ "common_name": name, "key_type": "ec", "key_bits": 256 });
        let mut body = of("root of the test");
        body["ttl"] = ROOT_LIFE.as_secs().into();
        let made = vault
            .write(&format!("{root}/root/generate/internal"), &body)
            .await?;
        let root_pem = text(&made, "certificate")?;
        let asked = vault
            .write(
                &format!("{mount}/intermediate/generate/internal"),
                &of("intermediate of the test"),
            )
            .await?;
        let body = json!({
            "csr": text(&asked, "csr")?, "common_name": "intermediate of the test", "ttl": life.as_secs(),
        });
        let signed = vault
            .write(&format!("{root}/root/sign-intermediate"), &body)
            .await?;
        let body = json!({ "certificate": text(&signed, "certificate")? });
        vault
            .write(&format!("{mount}/intermediate/set-signed"), &body)
            .await?;
        Ok(PkiEngine {
            mount,
            root_pem,
            vault: vault.clone(),
        })
    }
}

impl PkiEngine {
    /// Writes a role and returns the path at which it issues.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn role(&self, name: &str, role: &PkiRole) -> Result<String> {
        let body = json!({
            "allow_any_name": true,
            "allowed_uri_sans": "*",
            "allowed_other_sans": "*",
            "allowed_user_ids": "*",
            "key_type": role.key_type,
            "key_bits": 0,
            "ttl": role.ttl.as_secs(),
            "max_ttl": role.max_ttl.as_secs(),
            "no_store": role.no_store,
            "generate_lease": role.generate_lease,
        });
        let mount = &self.mount;
        self.vault
            .write(&format!("{mount}/roles/{name}"), &body)
            .await?;
        Ok(format!("{mount}/issue/{name}"))
    }

    /// Revokes the certificate of this serial number (`aa:bb:…`).
    ///
    /// # Errors
    /// Vault refuses it, also when it knows no such certificate.
    pub async fn revoke(&self, serial: &str) -> Result<()> {
        let body = json!({ "serial_number": serial });
        self.vault
            .write(&format!("{}/revoke", self.mount), &body)
            .await?;
        Ok(())
    }

    /// Signs the CRL anew. Vault does so by itself at each revocation.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn rebuild_crl(&self) -> Result<()> {
        self.vault
            .read(&format!("{}/crl/rotate", self.mount))
            .await?;
        Ok(())
    }

    /// The intermediate's CRL (DER), as anybody may fetch it.
    ///
    /// # Errors
    /// Vault has none.
    pub async fn crl(&self) -> Result<Vec<u8>> {
        self.vault
            .with_token("")
            .bytes(&format!("{}/crl", self.mount))
            .await
    }
}

async fn mount_pki(vault: &VaultApi, mount: &str, max_life: Duration) -> Result<()> {
    let seconds = max_life.as_secs();
    let config = json!({ "max_lease_ttl": format!("{seconds}s") });
    vault
        .mount(mount, &json!({ "type": "pki", "config": config }))
        .await
}

/// A text of the answer's data.
fn text(answer: &Value, key: &str) -> Result<String> {
    let found = answer["data"][key].as_str();
    Ok(found
        .with_context(|| format!("no {key} in the answer"))?
        .to_owned())
}
