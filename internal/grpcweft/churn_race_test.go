//go:build race

package grpcweft

// churn is how often TestChurn dials and publishes. The race detector of Go 1.26 crashes in its own table of stacks (SIGSEGV
// in __sanitizer::StackDepotBase::Put) when a test makes it remember too many.
const churn = 4
