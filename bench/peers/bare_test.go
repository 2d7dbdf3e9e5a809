package peers

var children = map[string]func() error{}
