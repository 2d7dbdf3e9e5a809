//go:build !unix

package credential

import "io/fs"

// nonBlock is for pipes in the file system, which are a thing of Unix.
const nonBlock = 0

// checkOwner leaves it to the system: the user's configuration directory is closed to other users by its own
// access list, and the mode bits say nothing.
func checkOwner(fs.FileInfo) error { return nil }
