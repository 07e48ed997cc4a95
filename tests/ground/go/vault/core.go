package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/physical"
	physicalFile "github.com/hashicorp/vault/sdk/physical/file"
	physicalInmem "github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

const (
	storageInmem = "inmem"
	storageFile  = "file"
)

// keys is what initialisation yields and what unsealing needs; the shape of --keys-file.
type keys struct {
	RootToken string `json:"root_token"`
	// UnsealKey is the one share in base64, as sys/unseal takes it.
	UnsealKey string `json:"unseal_key"`
}

// openCore opens the storage, initialises it if it is new, and unseals it unless told otherwise.
func openCore(ctx context.Context, opts *options, logger log.Logger) (*vault.Core, error) {
	backend, err := openStorage(opts, logger)
	if err != nil {
		return nil, err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           backend,
		StorageType:        opts.storage,
		Logger:             logger,
		LogLevel:           opts.logLevel,
		DisableMlock:       true, // needs a privilege that tests do not have
		BuiltinRegistry:    builtins,
		LogicalBackends:    secretEngines,
		CredentialBackends: authMethods,
		AuditBackends:      auditDevices,
	})
	if err != nil {
		return nil, fmt.Errorf("Vault's core does not start on this storage: %w; for --storage=file, empty the folder %s", err, opts.storageDir)
	}
	if err := initialiseAndUnseal(ctx, core, opts); err != nil {
		return nil, errors.Join(err, core.Shutdown())
	}
	return core, nil
}

func openStorage(opts *options, logger log.Logger) (physical.Backend, error) {
	if opts.storage == storageInmem {
		return physicalInmem.NewInmem(nil, logger)
	}
	if err := os.MkdirAll(opts.storageDir, 0o700); err != nil {
		return nil, fmt.Errorf("the storage folder cannot be made: %w; give a folder in a writable place with --storage-dir", err)
	}
	return physicalFile.NewFileBackend(map[string]string{"path": opts.storageDir}, logger)
}

func initialiseAndUnseal(ctx context.Context, core *vault.Core, opts *options) error {
	known, err := core.Initialized(ctx)
	if err != nil {
		return fmt.Errorf("the storage cannot be read: %w; for --storage=file, check the folder %s", err, opts.storageDir)
	}
	var secret *keys
	if known {
		if opts.startSealed {
			return nil // nothing needs the key
		}
		secret, err = readKeys(opts)
	} else {
		secret, err = initialise(ctx, core, opts.keysFile)
	}
	if err != nil || opts.startSealed {
		return err
	}
	share, err := base64.StdEncoding.DecodeString(secret.UnsealKey)
	if err != nil {
		return fmt.Errorf("unseal_key in %s is not base64: %w; bring the file back, or empty the folder %s to start anew", opts.keysFile, err, opts.storageDir)
	}
	// One share is the whole key: this either unseals or fails.
	if _, err := core.Unseal(share); err != nil {
		return fmt.Errorf("the key in %s does not unseal the storage: %w; bring back the file that belongs to it, or empty the folder %s to start anew", opts.keysFile, err, opts.storageDir)
	}
	return nil
}

// initialise makes one key share, so that a test seals and unseals with one request.
func initialise(ctx context.Context, core *vault.Core, path string) (*keys, error) {
	result, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
		RecoveryConfig: &vault.SealConfig{},
	})
	if err != nil {
		return nil, fmt.Errorf("new storage cannot be initialised: %w; check that the disk has room and the folder is writable", err)
	}
	secret := &keys{
		RootToken: result.RootToken,
		UnsealKey: base64.StdEncoding.EncodeToString(result.SecretShares[0]),
	}
	if err := writeKeys(path, secret); err != nil {
		return nil, fmt.Errorf("the keys cannot be written: %w; give a path in a writable folder with --keys-file and empty the storage folder, if there is one", err)
	}
	return secret, nil
}

// writeKeys replaces the file in one step: a reader sees all of it or none.
func writeKeys(path string, secret *keys) error {
	text, err := json.Marshal(secret)
	if err != nil {
		return err
	}
	// CreateTemp makes the file with mode 0600.
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func readKeys(opts *options) (*keys, error) {
	text, err := os.ReadFile(opts.keysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the storage in %s was initialised before, but its keys are not in %s; bring the file back, or empty the folder to start anew", opts.storageDir, opts.keysFile)
	}
	if err != nil {
		return nil, fmt.Errorf("the keys cannot be read: %w; make the file readable for this user", err)
	}
	secret := &keys{}
	if err := json.Unmarshal(text, secret); err != nil {
		return nil, fmt.Errorf("%s is not the JSON that this server writes: %w; bring the file back, or empty the folder %s to start anew", opts.keysFile, err, opts.storageDir)
	}
	return secret, nil
}
