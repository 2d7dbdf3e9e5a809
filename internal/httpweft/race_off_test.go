//go:build !race

package httpweft

const raceEnabled = false
