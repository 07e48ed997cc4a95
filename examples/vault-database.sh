#!/bin/sh
# What one tenant needs in Vault for credentials of a PostgreSQL database: the
# engine over the database, a role that makes logins, a policy that reads them and
# keeps their leases, and a role by which the tenant's ServiceAccount logs in.
#
#   examples/vault-database.sh TENANT NAMESPACE SERVICEACCOUNT URL USER PASSWORDFILE
#   examples/vault-database.sh example example orders \
#     'postgresql://{{username}}:{{password}}@db.example.com:5432/orders' vault password.txt
#
# Needs what examples/vault-setup.sh needs. USER may make roles in the database; let
# Vault alone know its password: vault write -force TENANT-database/rotate-root/main
set -eu

if [ $# -ne 6 ]; then
  echo "usage: $0 TENANT NAMESPACE SERVICEACCOUNT URL USER PASSWORDFILE" >&2
  exit 2
fi
tenant=$1 namespace=$2 account=$3 url=$4 user=$5 password=$6
mount=$tenant-database

vault secrets enable -path="$mount" database
vault write "$mount/config/main" \
  plugin_name=postgresql-database-plugin \
  allowed_roles="$account" \
  connection_url="$url" \
  username="$user" \
  password=@"$password"

# The operator renews a login for as long as max_ttl, and replaces it before: the
# Deployment rolls then. So max_ttl is long beside a rollout.
vault write "$mount/roles/$account" \
  db_name=main \
  creation_statements="create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}'; grant select on all tables in schema public to \"{{name}}\"" \
  default_ttl=1h \
  max_ttl=720h

# The logins themselves; keeping and ending their leases, and no others; and the
# token that leases hang on, which outlives the operator's process by its accessor.
vault policy write "tenant-$mount" - <<EOF
path "$mount/creds/$account" {
  capabilities = ["read"]
}
path "sys/leases/renew/$mount/creds/$account/*" {
  capabilities = ["update"]
}
path "sys/leases/revoke/$mount/creds/$account/*" {
  capabilities = ["update"]
}
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
path "auth/token/renew-accessor" {
  capabilities = ["update"]
}
EOF

# A lease ends with its token: the period is longer than the operator is ever down.
vault write "auth/kubernetes/role/tenant-$mount" \
  bound_service_account_namespaces="$namespace" \
  bound_service_account_names="$account" \
  audience=vault \
  token_policies="tenant-$mount" \
  token_period=24h
