package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weftmesh/weft/internal/credential"
)

// defaultPort is that of the sessions of a server with default flags.
const defaultPort = 7070

// adminToken is the file in the data directory.
const adminToken = "admin.token"

// target is where REST is and how to be let in.
type target struct {
	base  string // http://127.0.0.1:7080
	token string
}

// find looks for the server: flag, WEFT_HTTP, credential file.
func (o *options) find() (target, error) {
	files := known()
	address := o.server
	if address == "" {
		address = os.Getenv("WEFT_HTTP")
	}
	if address == "" {
		f, err := choose(files)
		if err != nil {
			return target{}, err
		}
		address = f.HTTP
	}
	base, err := baseURL(address)
	if err != nil {
		return target{}, err
	}
	token, err := tokenFor(base.Host, files)
	return target{strings.TrimSuffix(base.String(), "/"), token}, err
}

// baseURL reads "127.0.0.1:7080" or "http://127.0.0.1:7080". The error is one of usage.
func baseURL(address string) (*url.URL, error) {
	text := address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, fmt.Errorf("server %q: want host:port or http://host:port, such as 127.0.0.1:7080", address)
	}
	return u, nil
}

// known reads the credential files by port. One that cannot be read is left out here, and explained by choose if
// it matters.
func known() map[int]credential.File {
	files := map[int]credential.File{}
	ports, _ := credential.Ports()
	for _, port := range ports {
		if f, err := credential.Read(port); err == nil {
			files[port] = f
		}
	}
	return files
}

// choose takes the file of the default port, or the only one.
func choose(files map[int]credential.File) (credential.File, error) {
	if f, ok := files[defaultPort]; ok {
		return f, nil
	}
	if _, err := credential.Read(defaultPort); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return credential.File{}, noContact("%w", err)
	}
	if len(files) == 0 {
		return credential.File{}, noContact("no registry server of this user runs on this host; start one with registry-server, or say where it is with --server or WEFT_HTTP")
	}
	if len(files) > 1 {
		maps.DeleteFunc(files, func(_ int, f credential.File) bool { return gone(f) })
	}
	var last credential.File
	var addresses []string
	for _, f := range files {
		last = f
		addresses = append(addresses, f.HTTP)
	}
	switch len(files) {
	case 0:
		return last, noContact("no registry server of this user runs on this host any more; start one with registry-server, or say where it is with --server or WEFT_HTTP")
	case 1:
		return last, nil
	}
	slices.Sort(addresses)
	return last, noContact("several registry servers run on this host; choose one with --server: %s", strings.Join(addresses, ", "))
}

// gone reports whether nobody listens where a credential file says: a server that was killed leaves its file behind.
func gone(f credential.File) bool {
	dialer := net.Dialer{Timeout: 200 * time.Millisecond}
	conn, err := dialer.DialContext(context.Background(), "tcp", f.HTTP)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	conn.Close()
	return false
}

// tokenFor reads WEFT_TOKEN, or the token of the server that has written down this very address: it is sent to no
// other.
func tokenFor(host string, files map[int]credential.File) (string, error) {
	if token := strings.TrimSpace(os.Getenv("WEFT_TOKEN")); token != "" {
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", errors.New("WEFT_TOKEN: want one word of printable characters, as in admin.token of the server's data directory")
		}
		return token, nil
	}
	for _, f := range files {
		if f.HTTP != host {
			continue
		}
		data, err := credential.ReadPrivate(filepath.Join(f.DataDir, adminToken))
		if err != nil {
			return "", noContact("the token of %s cannot be read: %w; set WEFT_TOKEN", host, err)
		}
		return strings.TrimSpace(string(data)), nil
	}
	return "", noContact("no token is known for %s; set WEFT_TOKEN to what is in admin.token of the server's data directory", host)
}
