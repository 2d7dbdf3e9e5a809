//go:build !race

package grpcweft

// churn is how often TestChurn dials and publishes.
const churn = 20
