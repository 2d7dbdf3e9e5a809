//go:build !linux

package lease

import "time"

// asleep knows nothing of suspended machines here. While one sleeps the monotonic clock stands still or runs on; if it
// runs on, the next scan comes late and sees that.
func asleep() time.Duration { return 0 }
