package weft

// Hasty lets instances leave without waiting for their callers to take note: the control of the tests of draining.
func Hasty() Option {
	return option(func(c *config) error {
		c.hasty = true
		return nil
	})
}
