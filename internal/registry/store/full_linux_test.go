package store

import (
	"errors"
	"fmt"
	"maps"
	"syscall"
	"testing"
)

// TestFileSizeLimit runs into the limit of the process on the size of files, and goes on once it is raised.
func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	st := mustOpen(t, dir)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	raise := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
	}
	defer raise()
	low := before
	low.Cur = 3 * allocSize
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &low); err != nil {
		t.Fatal(err)
	}
	acked := map[string]string{}
	write := func(i int) error {
		key, value := fmt.Sprintf("i/%03d", i), make([]byte, 900_000)
		err := st.Commit([]Write{put(key, string(value))})
		if err == nil {
			acked[key] = "0 " + string(value)
		}
		return err
	}
	i := 0
	for ; ; i++ {
		if err := write(i); err != nil {
			wantError(t, err, ErrFull, "file too large")
			break
		}
		if i > 100 {
			t.Fatal("the limit was never met")
		}
	}
	if err := write(i); !errors.Is(err, ErrFull) {
		t.Errorf("Commit = %v while it is full", err)
	}
	raise()
	if err := write(i); err != nil {
		t.Errorf("Commit = %v once the limit is raised", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if got := mustAll(t, mustOpen(t, dir)); !maps.Equal(got, acked) {
		t.Errorf("%d entries, want the %d acknowledged", len(got), len(acked))
	}
}
