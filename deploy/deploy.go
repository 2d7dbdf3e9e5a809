// Package deploy holds what is needed to run the registry server: a systemd unit, a Dockerfile and plain Kubernetes
// manifests. docs/operations.md says how to use them. The package's tests hold them to what they promise: least
// privilege, flags that exist, ports that agree.
package deploy

import "embed"

// Files are all of them, by their paths below this folder.
//
//go:embed systemd docker kubernetes
var Files embed.FS
