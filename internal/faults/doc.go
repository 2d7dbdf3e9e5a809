// Package faults holds tests that kill, stop and restart real processes: the registry server in a storm of writes, and
// the registry and instances of a service under the load of calls. There is nothing in it but tests.
//
//	go test ./internal/faults                      # a few rounds
//	WEFT_PROVE=full go test ./internal/faults      # 50 rounds, and what takes half a minute
package faults
