// Package k8s takes the place of go-discover's provider of that name; see the package above it.
package k8s

import (
	"errors"
	"log"
)

// Provider finds nothing.
type Provider struct{}

// Addrs finds nothing and says why.
func (*Provider) Addrs(map[string]string, *log.Logger) ([]string, error) {
	return nil, errors.New("this server is built without cloud auto-join")
}

// Help names what is missing.
func (*Provider) Help() string {
	return "cloud auto-join is not part of this server"
}
