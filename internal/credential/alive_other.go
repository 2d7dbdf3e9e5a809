//go:build !unix || solaris || aix

package credential

import "errors"

// isLocked cannot tell.
func isLocked(string) (bool, error) { return false, errors.ErrUnsupported }
