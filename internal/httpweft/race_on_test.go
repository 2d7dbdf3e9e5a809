//go:build race

package httpweft

const raceEnabled = true
