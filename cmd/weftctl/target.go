package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weftmesh/weft/internal/credential"
)

// defaultPort is that of the sessions of a server with default flags.
const defaultPort = 7070

// adminToken is the file in the data directory.
const adminToken = "admin.token"

// target is where REST is and how to be let in.
type target struct {
	base  string // http://127.0.0.1:7080
	from  string // who says so
	token string
	pin   string // of the server's key; "": the system's certificates say whom to trust
}

// find looks for the server: flag, WEFT_HTTP, credential file.
func (o *options) find() (target, error) {
	address, from, err := o.address()
	if err != nil {
		return target{}, err
	}
	base, stated, err := baseURL(address)
	if err != nil {
		return target{}, err
	}
	f, known := local(base.Host)
	if known {
		base.Host = f.HTTP // behind another spelling of loopback somebody else may listen
	}
	if known && !stated {
		base.Scheme = schemeOf(f)
	}
	pin, err := pinFor(o.pin, base, f)
	if err != nil {
		return target{}, err
	}
	if base.Scheme == "http" && !isLoopback(base.Hostname()) {
		return target{}, fmt.Errorf("server %q (from %s): a token is not sent in plain text to another host; want https://%s, with --pin or WEFT_PIN if its certificate is its own", address, from, base.Host)
	}
	token, err := tokenFor(o.token, base.Host, f)
	return target{base.Scheme + "://" + base.Host, from, token, pin}, err
}

// schemeOf says how the server of a file speaks.
func schemeOf(f credential.File) string {
	if f.HTTPPin != "" {
		return "https"
	}
	return "http"
}

// address says where the server is, and where that is known from.
func (o *options) address() (address, from string, err error) {
	switch env := os.Getenv("WEFT_HTTP"); {
	case o.server != "":
		return o.server, "--server", nil
	case env != "":
		return env, "WEFT_HTTP", nil
	}
	f, err := choose()
	return f.HTTP, "the credential file of this user", err
}

// baseURL reads "127.0.0.1:7080" or "https://registry.example:7080", and says whether the scheme is given. The error is one
// of usage.
func baseURL(address string) (u *url.URL, scheme bool, err error) {
	text, scheme := address, strings.Contains(address, "://")
	if !scheme {
		text = "https://" + text
	}
	u, err = url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, false, fmt.Errorf("server %q: want host:port or a URL such as http://127.0.0.1:7080 or https://registry.example:7080", address)
	}
	if !scheme && isLoopback(u.Hostname()) {
		u.Scheme = "http"
	}
	return u, scheme, nil
}

// isLoopback reports whether a host is this one. What localhost resolves to is looked at once more when it is dialled.
func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// choose takes the file of the default port, or the only one, of servers that run.
func choose() (credential.File, error) {
	files, err := running()
	if f, ok := files[defaultPort]; ok {
		return f, nil
	}
	var last credential.File
	var addresses []string
	for _, f := range files {
		last = f
		addresses = append(addresses, f.HTTP)
	}
	switch {
	case len(files) == 1:
		return last, nil
	case len(files) == 0 && err != nil:
		return last, failed("%w", err)
	case len(files) == 0:
		return last, failed("no registry server of this user runs on this host; start one with registry-server, or say where it is with --server or WEFT_HTTP")
	}
	slices.Sort(addresses)
	return last, failed("several registry servers run on this host; choose one with --server: %s", strings.Join(addresses, ", "))
}

// running reads the credential files, by port, of the servers that are alive. The error is about those that cannot be
// read, beside which others may be.
func running() (map[int]credential.File, error) {
	ports, err := credential.Ports()
	files, errs := map[int]credential.File{}, []error{err}
	for _, port := range ports {
		f, err := credential.Read(port)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		if err != nil {
			continue
		}
		if alive, err := credential.Alive(f); err != nil {
			errs = append(errs, err)
		} else if alive {
			files[port] = f
		}
	}
	return files, errors.Join(errs...)
}

// tokenFor takes --token or WEFT_TOKEN, or else the administrator's token of the running server that has written down this
// address, if there is one: it is sent to no other.
func tokenFor(flag, host string, f credential.File) (string, error) {
	for _, given := range []struct{ from, token string }{{"--token", flag}, {"WEFT_TOKEN", os.Getenv("WEFT_TOKEN")}} {
		token := strings.TrimSpace(given.token)
		switch {
		case token == "":
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", fmt.Errorf("%s: want one word of printable characters, as in admin.token of the server's data directory", given.from)
		default:
			return token, nil
		}
	}
	if f.DataDir == "" {
		return "", failed("no token is known for %s: no running server of this user on this host has written it down; set WEFT_TOKEN, to what is in admin.token of the server's data directory or to what weftctl tokens create has shown", host)
	}
	data, err := credential.ReadPrivate(filepath.Join(f.DataDir, adminToken))
	if err != nil {
		return "", failed("the token of %s cannot be read: %w; set WEFT_TOKEN", host, err)
	}
	return strings.TrimSpace(string(data)), nil
}

// local gives what the running server of this user has written down that listens on an address.
func local(host string) (credential.File, bool) {
	f, err := credential.Find(host)
	if err != nil {
		return credential.File{}, false
	}
	if alive, err := credential.Alive(f); err != nil || !alive {
		return credential.File{}, false
	}
	return f, true
}
