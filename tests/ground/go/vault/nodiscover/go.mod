// Takes the place of github.com/hashicorp/go-discover; see discover.go.
module github.com/hashicorp/go-discover

go 1.26.0
