package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// MaxSize is the largest private file that is read, in bytes.
const MaxSize = 64 << 10

// ReadPrivate reads a file that holds a secret. It refuses one that is not a regular file, belongs to another
// user, is readable or writable by the group or by others, or is larger than [MaxSize].
func ReadPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0) // a pipe would wait for its writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The open file is checked, not the path, so that it cannot be swapped in between.
	if err := checkPrivate(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: more than %d bytes", path, MaxSize)
	}
	return data, nil
}

func checkPrivate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file; move it away")
	}
	return checkOwner(info)
}

// WritePrivate makes or replaces a file with mode 0600: a reader, or a crash, sees the old content or the new,
// never a part. The directory must exist.
func WritePrivate(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // CreateTemp's mode is 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
