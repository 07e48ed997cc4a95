// Package discover takes the place of go-discover, with which Vault finds raft peers at cloud
// providers. This server has no raft storage, and the providers' libraries are two fifths of the source
// that would be compiled. What Vault names of that package is here, and answers with an error.
package discover

import (
	"errors"
	"log"
)

var errNone = errors.New("this server is built without cloud auto-join; give leader_api_addr instead of auto_join")

// Provider looks up peers at one cloud.
type Provider interface {
	Addrs(args map[string]string, logger *log.Logger) ([]string, error)
	Help() string
}

// Providers is empty.
var Providers map[string]Provider

// Discover has nobody to ask.
type Discover struct{}

// Option would configure a Discover.
type Option func(*Discover) error

// WithProviders leaves the providers aside.
func WithProviders(map[string]Provider) Option {
	return func(*Discover) error { return nil }
}

// New returns a Discover whatever the options.
func New(...Option) (*Discover, error) {
	return &Discover{}, nil
}

// Addrs finds nothing and says why.
func (*Discover) Addrs(string, *log.Logger) ([]string, error) {
	return nil, errNone
}

// Config is an auto_join setting, of which none is accepted.
type Config map[string]string

// Parse refuses every auto_join setting.
func Parse(string) (Config, error) {
	return nil, errNone
}

// String is never asked for: Parse makes no Config.
func (Config) String() string {
	return ""
}
