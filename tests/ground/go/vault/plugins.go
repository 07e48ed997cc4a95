package main

import (
	"maps"
	"slices"

	authJWT "github.com/hashicorp/vault-plugin-auth-jwt"
	authKubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	secretsKubernetes "github.com/hashicorp/vault-plugin-secrets-kubernetes"
	secretsKV "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	authAppRole "github.com/hashicorp/vault/builtin/credential/approle"
	authCert "github.com/hashicorp/vault/builtin/credential/cert"
	authUserpass "github.com/hashicorp/vault/builtin/credential/userpass"
	secretsDatabase "github.com/hashicorp/vault/builtin/logical/database"
	secretsPKI "github.com/hashicorp/vault/builtin/logical/pki"
	secretsTransit "github.com/hashicorp/vault/builtin/logical/transit"
	databasePostgres "github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// What this Vault offers, by the names that sys/mounts, sys/auth, sys/audit and the database
// engine know. Each import costs build time, so only what a test uses is here.
var (
	secretEngines = map[string]logical.Factory{
		"database":   secretsDatabase.Factory,
		"kubernetes": secretsKubernetes.Factory,
		"kv":         secretsKV.Factory,
		"pki":        secretsPKI.Factory,
		"transit":    secretsTransit.Factory,
	}
	authMethods = map[string]logical.Factory{
		"approle":    authAppRole.Factory,
		"cert":       authCert.Factory,
		"jwt":        authJWT.Factory,
		"kubernetes": authKubernetes.Factory,
		"userpass":   authUserpass.Factory,
	}
	auditDevices = map[string]audit.Factory{
		"file": audit.NewFileBackend,
	}
	databasePlugins = map[string]func() (any, error){
		"postgresql-database-plugin": databasePostgres.New,
	}
)

// builtins is Vault's plugin catalogue, reduced to the tables above.
var builtins = registry{
	consts.PluginTypeSecrets:    factories(secretEngines),
	consts.PluginTypeCredential: factories(authMethods),
	consts.PluginTypeDatabase:   databasePlugins,
}

// registry answers the questions of Vault's plugin catalogue. It never changes.
type registry map[consts.PluginType]map[string]func() (any, error)

func factories(backends map[string]logical.Factory) map[string]func() (any, error) {
	made := make(map[string]func() (any, error), len(backends))
	for name, factory := range backends {
		made[name] = func() (any, error) { return factory, nil }
	}
	return made
}

// Contains tells whether there is such a plugin.
func (r registry) Contains(name string, kind consts.PluginType) bool {
	_, found := r[kind][name]
	return found
}

// Get returns the constructor of a plugin: for engines and auth methods it yields a
// logical.Factory, for databases the plugin itself.
func (r registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	make, found := r[kind][name]
	return make, found
}

// Keys lists the names of one kind in order.
func (r registry) Keys(kind consts.PluginType) []string {
	return slices.Sorted(maps.Keys(r[kind]))
}

// DeprecationStatus is "supported" for all that is offered here.
func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	if !r.Contains(name, kind) {
		return consts.Unknown, false
	}
	return consts.Supported, true
}

// IsBuiltinEntPlugin is false for all: nothing here is from the enterprise edition.
func (r registry) IsBuiltinEntPlugin(string, consts.PluginType) bool {
	return false
}
