package server

import "crypto/tls"

// trusting is a client that does not look who the server is, for tests of something else.
func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
