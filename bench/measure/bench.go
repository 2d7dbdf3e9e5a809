package measure

import (
	"testing"
	"time"
)

// Bench runs each case as a sub-benchmark, serially and with several goroutines for each processor, and reports
// processor time beside what the testing package reports: "cpu-ns/op".
func Bench(b *testing.B, cases []Case, perProcessor int) {
	for _, c := range cases {
		b.Run(c.Name+"/serial", func(b *testing.B) { serial(b, c.Work()) })
		b.Run(c.Name+"/parallel", func(b *testing.B) { parallel(b, c.Work, perProcessor) })
	}
}

func serial(b *testing.B, do func() error) {
	defer ballast()()
	b.ReportAllocs()
	before := CPU()
	for b.Loop() {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, before)
}

func parallel(b *testing.B, work Work, perProcessor int) {
	defer ballast()()
	b.ReportAllocs()
	b.SetParallelism(perProcessor)
	before := CPU()
	b.RunParallel(func(pb *testing.PB) {
		do := work()
		for pb.Next() {
			if err := do(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	reportCPU(b, before)
}

func reportCPU(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(CPU()-before)/float64(b.N), "cpu-ns/op")
}
