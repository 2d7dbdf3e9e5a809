// Package credential keeps the one file by which processes of the same user on the same host find a registry
// server: where it listens, the pin of its key and a token for sessions. The server writes it when it listens and
// removes it when it stops; SDKs and weftctl read it.
//
//	f, err := credential.Read(7070) // <user configuration directory>/weft/7070.json
//	if err != nil {
//		return err // says which file, and what is wrong with it
//	}
//	dial(f.GRPC, f.Pin, f.Token)
//
// The file is 0600 in a directory that is 0700, is replaced atomically, and is not read when somebody else
// owns it or could read it.
package credential

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// File is what a registry server tells the processes of its user.
type File struct {
	GRPC    string `json:"grpc"`              // host:port of the sessions
	HTTP    string `json:"http"`              // host:port of REST
	HTTPPin string `json:"httpPin,omitempty"` // of the key of REST, which then speaks TLS; "": it is plain HTTP
	DataDir string `json:"dataDir"`           // absolute; admin.token is there
	Pin     string `json:"pin"`               // of the server's key, as [PinOf] gives it
	Token   string `json:"token"`             // the workload token, for sessions
}

// Dir returns the directory of the credential files, weft in [os.UserConfigDir].
func Dir() (string, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no directory for credential files: %w", err)
	}
	return filepath.Join(config, "weft"), nil
}

// Path returns the file of the server whose sessions are on the port.
func Path(port int) (string, error) {
	if port < 1 || port > 65535 {
		return "", fmt.Errorf("credential file of port %d: want 1 to 65535", port)
	}
	dir, err := Dir()
	return filepath.Join(dir, strconv.Itoa(port)+".json"), err
}

// Read returns what the server on the port has written. The error wraps [fs.ErrNotExist] if there is no file.
func Read(port int) (File, error) {
	path, err := Path(port)
	if err != nil {
		return File{}, err
	}
	data, err := ReadPrivate(path)
	if err != nil {
		return File{}, err
	}
	var f File
	if err := json.Unmarshal(data, &f); err != nil {
		return File{}, fmt.Errorf("credential file %s: %w; restart the registry server to write it anew", path, err)
	}
	return f, nil
}

// Write makes or replaces the file of the server on the port.
func Write(port int, f File) error {
	path, err := Path(port)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("credential directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("credential directory: %w", err)
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return WritePrivate(path, append(data, '\n'))
}

// Remove deletes the file of the port if it still says f: a server that stops leaves alone what its successor
// has written. No file is no error.
func Remove(port int, f File) error {
	current, err := Read(port)
	if errors.Is(err, fs.ErrNotExist) || err == nil && current != f {
		return nil
	}
	if err != nil {
		return err
	}
	path, err := Path(port)
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// Ports lists the ports for which there is a file, in order. No directory is no error.
func Ports() ([]int, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("credential directory: %w", err)
	}
	var ports []int
	for _, e := range entries {
		base, isJSON := strings.CutSuffix(e.Name(), ".json")
		if port, err := strconv.Atoi(base); isJSON && err == nil {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports, nil
}
