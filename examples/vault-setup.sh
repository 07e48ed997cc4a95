#!/bin/sh
# What one tenant needs in Vault: a place for its secrets, a policy that reads
# them, and a role by which its ServiceAccount logs in.
#
#   examples/vault-setup.sh TENANT NAMESPACE SERVICEACCOUNT
#   examples/vault-setup.sh example example app
#
# Needs the vault CLI, VAULT_ADDR, and a token that may write policies, secret
# mounts and roles. Run it once for each tenant, after this, once for each
# cluster:
#
#   vault auth enable kubernetes
#   vault write auth/kubernetes/config \
#     kubernetes_host=https://kubernetes.example.com:6443 \
#     kubernetes_ca_cert=@ca.crt token_reviewer_jwt=@reviewer.jwt
#
# The reviewer is a ServiceAccount of Vault's, bound to the ClusterRole
# system:auth-delegator. It can't be left out for a Vault outside the cluster:
# a tenant's token is made for Vault, so the API server won't take it as proof
# for a review of itself.
set -eu

if [ $# -ne 3 ]; then
  echo "usage: $0 TENANT NAMESPACE SERVICEACCOUNT" >&2
  exit 2
fi
tenant=$1 namespace=$2 account=$3

# KV version 2: the operator reads TENANT/data/..., people write with
# "vault kv put TENANT/app password=...".
vault secrets enable -path="$tenant" -version=2 kv

# Reading, nothing else: no list, no metadata, no other mount.
vault policy write "tenant-$tenant" - <<EOF
path "$tenant/data/*" {
  capabilities = ["read"]
}
EOF

# The audience must be that of the VaultAuth (spec.kubernetes.audiences): a
# token that is stolen on its way to Vault is then of no use anywhere else.
# With a period instead of a maximum the login lasts while it is renewed, which
# the policy "default" allows.
vault write "auth/kubernetes/role/tenant-$tenant" \
  bound_service_account_namespaces="$namespace" \
  bound_service_account_names="$account" \
  audience=vault \
  token_policies="tenant-$tenant" \
  token_period=1h
