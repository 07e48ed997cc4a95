//! The names that a refusal gives its rule: the configuration key that could
//! allow it, or, without the prefix `policy.`, a rule that nothing lifts.

/// Vault's addresses.
pub const VAULT_ADDRESSES: &str = "policy.vaultAddresses";
/// Login methods.
pub const ALLOWED_AUTH_METHODS: &str = "policy.allowedAuthMethods";
/// ServiceAccounts that may log in.
pub const SERVICE_ACCOUNTS: &str = "policy.serviceAccounts";
/// Auth mounts.
pub const AUTH_MOUNTS: &str = "policy.authMounts";
/// Roles of Vault.
pub const VAULT_ROLES: &str = "policy.vaultRoles";
/// Vault namespaces.
pub const VAULT_NAMESPACES: &str = "policy.vaultNamespaces";
/// Paths that may be read.
pub const SECRET_PATHS: &str = "policy.secretPaths";
/// Paths under `sys/` and the like.
pub const SYSTEM_PATHS: &str = "policy.systemPaths";
/// Files that resources may name.
pub const FILE_PATHS: &str = "policy.filePaths";
/// `skipTLSVerify`.
pub const ALLOW_SKIP_TLS_VERIFY: &str = "policy.allowSkipTLSVerify";
/// Names of destinations.
pub const DESTINATION_NAMES: &str = "policy.destinationNames";
/// Namespaces whose objects others may use.
pub const REFERENCED_NAMESPACES: &str = "policy.referencedNamespaces";

/// Paths that somebody on the way could read as another path.
pub const PLAIN_PATHS: &str = "plain paths";
/// Headers that decide who asks, or how a request is framed.
pub const HEADERS: &str = "reserved headers";
/// The operator's own ServiceAccount, and those of other namespaces.
pub const OWN_ACCOUNT: &str = "the operator's own ServiceAccount";
/// ServiceAccounts of other namespaces.
pub const FOREIGN_ACCOUNT: &str = "ServiceAccounts of other namespaces";
/// Directories of the container that hold credentials of processes.
pub const PROTECTED_FILES: &str = "protected files";
/// Types of Secrets that give power over the cluster.
pub const DESTINATION_TYPES: &str = "destination types";
/// Labels and annotations that mean something to the cluster or to us.
pub const DESTINATION_METADATA: &str = "reserved labels and annotations";
/// The operator's own Secrets.
pub const OWN_SECRETS: &str = "the operator's own Secrets";
/// Secrets of other namespaces.
pub const FOREIGN_DESTINATION: &str = "destinations in other namespaces";
