package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/access"
)

// The files of a data directory that nobody else may read, beside the store's.
const storeFile = "registry.db"

// Of tokens in files.
const (
	shortToken = 24                   // visible characters, below which somebody may have thought it up; ours have more
	oldToken   = 365 * 24 * time.Hour // who knew it a year ago may be gone
)

// directory reports whether there is a data directory to look into.
func (v *visit) directory() bool {
	const thing = "data directory"
	info, err := os.Stat(v.config.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.say(Bad, thing, v.config.DataDir+" is not there", "start the server once, which makes it, or say with --data-dir where it is")
	case err != nil:
		v.say(Bad, thing, err.Error(), "run this as the user of the server")
	case !info.IsDir():
		v.say(Bad, thing, v.config.DataDir+" is a file", "say with --data-dir where the directory is")
	default:
		v.modeOf(thing, v.config.DataDir, info, "700")
		return true
	}
	return false
}

// modeOf looks at who may reach a file or directory.
func (v *visit) modeOf(thing, path string, info fs.FileInfo, want string) {
	mode := info.Mode().Perm()
	switch owner, known := ownerOf(info); {
	case runtime.GOOS == "windows":
		v.say(OK, thing, path+" (who may reach it is in its access list, which is not looked at)", "")
	case mode&0o077 != 0:
		v.say(Weak, thing, fmt.Sprintf("%s has mode %04o, which lets others in", path, mode), "chmod "+want+" "+path)
	case known && owner != os.Getuid():
		v.say(Weak, thing, fmt.Sprintf("%s belongs to user %d, and this is user %d", path, owner, os.Getuid()), "run the doctor as the user of the server, or chown it to that user")
	default:
		v.say(OK, thing, fmt.Sprintf("%s (mode %04o, yours)", path, mode), "")
	}
}

// files looks at the modes of what is in the data directory.
func (v *visit) files() {
	for _, name := range []string{storeFile, access.AdminTokenFile, access.WorkloadTokenFile, access.IdentityFile, "backups"} {
		path := filepath.Join(v.config.DataDir, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // made when it is needed
		case err != nil:
			v.say(Bad, name, err.Error(), "run this as the user of the server")
		case info.IsDir():
			v.modeOf(name, path, info, "700")
		default:
			v.modeOf(name, path, info, "600")
		}
	}
}

// fileTokens looks at the two tokens of the data directory.
func (v *visit) fileTokens() {
	for _, name := range []string{access.AdminTokenFile, access.WorkloadTokenFile} {
		path := filepath.Join(v.config.DataDir, name)
		info, err := os.Stat(path)
		if err != nil {
			continue // told of, or not there
		}
		thing := "token in " + name
		data, err := credential.ReadPrivate(path)
		age := v.now.Sub(info.ModTime())
		const replace = "delete the file and restart the server to get a new one"
		switch text := strings.TrimSpace(string(data)); {
		case err != nil:
			v.say(Bad, thing, err.Error(), "the server does not start with it")
		case len(text) < access.MinToken:
			v.say(Bad, thing, fmt.Sprintf("it has %d characters, and the server does not start with less than %d", len(text), access.MinToken), replace)
		case len(text) < shortToken:
			v.say(Weak, thing, fmt.Sprintf("it has %d characters, so it may have been thought up and be guessed", len(text)), replace)
		case age > oldToken:
			v.say(Weak, thing, fmt.Sprintf("it is %d days old", age/(24*time.Hour)), replace)
		default:
			v.say(OK, thing, fmt.Sprintf("in use, %d days old; it never expires, so make others for people and services", max(0, age/(24*time.Hour))), "")
		}
	}
}
