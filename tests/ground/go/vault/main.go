// Command vault serves Vault's real core for tests: seal, tokens, policies, leases, audit and
// quotas are those of production. What a test has to prepare by hand elsewhere is done at start:
// the storage is initialised with one key share and the server unsealed.
//
// It listens on loopback alone, keeps its root token in a file, and is of no use in production.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/vault"

	"ground/vault/accesslog"
)

// How long requests in flight may take after SIGTERM before their connections are cut.
const drainTime = 3 * time.Second

// options is the command line; every field is one flag of the same name.
type options struct {
	address     string
	tlsCert     string
	tlsKey      string
	storage     string
	storageDir  string
	keysFile    string
	startSealed bool
	accessLog   string
	logLevel    string
}

func main() {
	switch err := run(); {
	case err == nil, errors.Is(err, flag.ErrHelp): // the help has been printed
	default:
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run() error {
	opts, err := parseOptions(os.Args[1:])
	if err != nil {
		return err
	}
	// Before anything else, so that a SIGTERM during the start is not lost.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	logger := log.New(&log.LoggerOptions{
		Name:              "vault",
		Level:             log.LevelFromString(opts.logLevel),
		Output:            os.Stderr,
		IndependentLevels: true,
	})
	// The cheap checks come first: a bad certificate or a busy port must not leave storage behind.
	listener, err := listen(opts)
	if err != nil {
		return err
	}
	defer listener.Close()

	lines, err := openAccessLog(opts.accessLog)
	if err != nil {
		return err
	}
	defer lines.Close()

	core, err := openCore(ctx, opts, logger)
	if err != nil {
		return err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{Type: "tcp", Address: opts.address},
	})
	if opts.accessLog != "" {
		handler = accesslog.New(handler, lines, os.Stderr)
	}
	return errors.Join(serve(ctx, listener, handler, logger), core.Shutdown())
}

// parseOptions reads the flags and refuses what cannot work, before anything is opened.
func parseOptions(args []string) (*options, error) {
	opts := &options{}
	flags := flag.NewFlagSet("vault", flag.ContinueOnError)
	flags.StringVar(&opts.address, "address", "127.0.0.1:8200", "loopback address and port to serve on")
	flags.StringVar(&opts.tlsCert, "tls-cert", "", "PEM file with the serving certificate (and its chain)")
	flags.StringVar(&opts.tlsKey, "tls-key", "", "PEM file with the key of the serving certificate")
	flags.StringVar(&opts.storage, "storage", "inmem", "inmem, or file: then the data outlives a restart")
	flags.StringVar(&opts.storageDir, "storage-dir", "", "folder of --storage=file; created if missing")
	flags.StringVar(&opts.keysFile, "keys-file", "", "JSON file with root_token and unseal_key: written (mode 0600) when new storage is initialised, read when known storage is unsealed")
	flags.BoolVar(&opts.startSealed, "start-sealed", false, "initialise if new, but leave the unsealing to the API")
	flags.StringVar(&opts.accessLog, "access-log", "", "file to append one JSON line per request to; none if empty")
	flags.StringVar(&opts.logLevel, "log-level", "warn", "level of Vault's own log on stderr: trace, debug, info, warn, error or off")
	flags.SetOutput(io.Discard) // one sentence on an error, not the whole help
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w; see --help for the flags", err)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%q is not a flag; every setting is given as --name=value, see --help", flags.Arg(0))
	}
	return opts, opts.check()
}

// onLoopbackInterface tells whether an address is one more of the loopback interface, as in the
// network of a node of its own.
func onLoopbackInterface(ip net.IP) bool {
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		return false
	}
	addresses, err := loopback.Addrs()
	if err != nil {
		return false
	}
	for _, address := range addresses {
		if network, is := address.(*net.IPNet); is && network.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// check names every flag that is missing or contradicts another, all at once.
func (o *options) check() error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	host, _, err := net.SplitHostPort(o.address)
	switch ip := net.ParseIP(host); {
	case err != nil:
		refuse("--address=%s is not an address with a port: %w; give one such as 127.0.0.1:8200", o.address, err)
	case ip == nil || !ip.IsLoopback() && !onLoopbackInterface(ip):
		refuse("--address=%s is not on loopback, where alone this test server may listen; give 127.0.0.1:PORT", o.address)
	}
	for _, path := range []struct{ flag, value string }{
		{"tls-cert", o.tlsCert}, {"tls-key", o.tlsKey}, {"keys-file", o.keysFile},
	} {
		if path.value == "" {
			refuse("--%s is missing; give the path of a file", path.flag)
		}
	}
	switch {
	case o.storage != storageInmem && o.storage != storageFile:
		refuse("--storage=%s is unknown; give inmem or file", o.storage)
	case o.storage == storageFile && o.storageDir == "":
		refuse("--storage=file needs a folder; give it with --storage-dir")
	case o.storage == storageInmem && o.storageDir != "":
		refuse("--storage-dir has no meaning for --storage=inmem; leave it out or give --storage=file")
	}
	if log.LevelFromString(o.logLevel) == log.NoLevel {
		refuse("--log-level=%s is unknown; give trace, debug, info, warn, error or off", o.logLevel)
	}
	return errors.Join(problems...)
}

// listen binds the port and puts TLS over it. Client certificates are asked for, not demanded:
// the cert auth method checks them itself.
func listen(opts *options) (net.Listener, error) {
	pair, err := tls.LoadX509KeyPair(opts.tlsCert, opts.tlsKey)
	if err != nil {
		mend := "give a PEM certificate and the key that belongs to it"
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			mend = "give two files that this user can read"
		}
		return nil, fmt.Errorf("the serving certificate (--tls-cert=%s, --tls-key=%s) cannot be used: %w; %s", opts.tlsCert, opts.tlsKey, err, mend)
	}
	listener, err := net.Listen("tcp", opts.address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another process; stop that one or choose another port with --address", opts.address)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; choose another port with --address", opts.address, err)
	}
	return tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequestClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}), nil
}

// openAccessLog opens the file for appending; without a path it returns nil, which may be closed.
func openAccessLog(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the access log cannot be opened: %w; give a path in a writable folder with --access-log", err)
	}
	return file, nil
}

// serve says `ready` on stdout and answers requests until ctx ends. The listener has queued
// connections since it was bound, so whoever reads `ready` can connect.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger log.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          stdlog.New(logger.StandardWriter(&log.StandardLoggerOptions{InferLevels: true}), "", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Println("ready")

	select {
	case err := <-failed:
		return fmt.Errorf("serving ended: %w; start the server again", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		// Not an error of ours: a client held its request open for too long.
		return server.Close()
	}
	return nil
}
