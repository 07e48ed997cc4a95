#!/bin/sh
# What one tenant needs in Vault for certificates: a PKI engine of its own with its
# own root, a role that issues for one domain, a policy that may issue and revoke,
# and a role by which the tenant's ServiceAccount logs in.
#
#   examples/vault-pki.sh TENANT NAMESPACE SERVICEACCOUNT DOMAIN
#   examples/vault-pki.sh example example shop shop.example.com
#
# Needs what examples/vault-setup.sh needs. In place of a root here, an intermediate
# that your own root has signed is better: see Vault's "Build your own CA".
set -eu

if [ $# -ne 4 ]; then
  echo "usage: $0 TENANT NAMESPACE SERVICEACCOUNT DOMAIN" >&2
  exit 2
fi
tenant=$1 namespace=$2 account=$3 domain=$4
mount=$tenant-pki

vault secrets enable -path="$mount" pki
vault write "sys/mounts/$mount/tune" max_lease_ttl=87600h
vault write "$mount/root/generate/internal" common_name="$tenant" key_type=ec ttl=87600h
vault write "$mount/roles/$account" \
  allowed_domains="$domain" \
  allow_bare_domains=true \
  allow_subdomains=true \
  key_type=ec \
  key_bits=256 \
  max_ttl=72h

# Revoking covers every serial number of the mount: so it is this tenant's alone.
vault policy write "tenant-$mount" - <<POLICY
path "$mount/issue/$account" {
  capabilities = ["update"]
}
path "$mount/revoke" {
  capabilities = ["update"]
}
POLICY

vault write "auth/kubernetes/role/tenant-$mount" \
  bound_service_account_namespaces="$namespace" \
  bound_service_account_names="$account" \
  audience=vault \
  token_policies="tenant-$mount" \
  token_period=24h
