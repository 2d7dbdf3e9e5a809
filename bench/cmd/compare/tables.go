package main

import (
	"github.com/weftmesh/weft/bench/call"
	"github.com/weftmesh/weft/bench/engine"
	"github.com/weftmesh/weft/bench/measure"
	"github.com/weftmesh/weft/bench/pick"
)

// table is a list of cases, each compared with the first.
type table struct {
	name, title string
	calls       int // in each round of each case
	goroutines  int // of the runs with many at once
	start       func() (cases []measure.Case, stop func() error, err error)
}

var tables = []table{
	{"grpc", "gRPC, one unary call", 3000, 64, started(call.GRPC)},
	{"http", "HTTP/1.1, one GET", 3000, 64, started(call.HTTP)},
	{"engine", "The engine alone, without a network", 100_000, 8, alone(engine.Cases)},
	{"pick", "Pick and report, 10 endpoints", 300_000, 8, picks(10)},
	{"pick", "Pick and report, 10,000 endpoints", 300_000, 8, picks(10_000)},
}

func started(start func(...call.Variant) (*call.World, error)) func() ([]measure.Case, func() error, error) {
	return func() ([]measure.Case, func() error, error) {
		w, err := start(call.Variants...)
		if err != nil {
			return nil, nil, err
		}
		return w.Cases, w.Close, nil
	}
}

func alone(list func() ([]measure.Case, error)) func() ([]measure.Case, func() error, error) {
	return func() ([]measure.Case, func() error, error) {
		cases, err := list()
		return cases, func() error { return nil }, err
	}
}

func picks(endpoints int) func() ([]measure.Case, func() error, error) {
	return alone(func() ([]measure.Case, error) { return pick.All(endpoints) })
}
