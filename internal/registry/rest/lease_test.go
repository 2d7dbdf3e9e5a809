package rest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// A PUT that is refused leaves the lease of the instance that is there alone.
func TestARefusedPutLeavesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newStuckDisk()
		api := newAPIWith(t, disk, Config{})
		must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		must(t, api, 201, "PUT", product+"/p2", `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "24h"}`)
		<-disk.free
		disk.stop = store.ErrFull
		disk.free <- struct{}{}
		for _, id := range []string{"p1", "p2"} {
			must(t, api, 507, "PUT", product+"/"+id, `{"address": "127.0.0.1:9001", "protocol": "http", "ttl": "1s"}`)
		}
		<-disk.free
		disk.stop = nil
		disk.free <- struct{}{}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, id := range []string{"p1", "p2"} {
			if a := must(t, api, 200, "GET", product+"/"+id, ""); a.json(t)["state"] != "up" {
				t.Error(a.body)
			}
		}
	})
}
