//go:build !linux

package store

import (
	"errors"
	"os"
)

func forget(*os.File) error { return errors.ErrUnsupported }
