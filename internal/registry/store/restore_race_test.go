package store

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

// TestOpenDuringRestore opens a store while a restore is about to replace its file, or to make one: what is acknowledged
// is in the file that the next start finds.
func TestOpenDuringRestore(t *testing.T) {
	for _, there := range []bool{true, false} {
		dir := t.TempDir()
		if there {
			mustOpen(t, dir).Close()
		}
		in, out := io.Pipe()
		restored := make(chan error, 1)
		go func() { _, err := Restore(dir, in); restored <- err }()
		backup := smallBackup(t)
		out.Write(backup[:len(backup)/2]) // the restore is under way
		opened := make(chan *Bolt, 1)
		go func() {
			st, err := Open(dir)
			if err != nil && !errors.Is(err, ErrInUse) {
				t.Error(err)
			}
			opened <- st
		}()
		time.Sleep(lockWait / 3) // it waits for the lock, or has made a file
		out.Write(backup[len(backup)/2:])
		out.Close()
		err, st := <-restored, <-opened
		if (err == nil) == (st != nil) || err != nil && !errors.Is(err, ErrInUse) {
			t.Errorf("file there: %t: restore: %v, opened: %t; want one of them to find it in use", there, err, st != nil)
		}
		if st == nil {
			continue
		}
		if err := st.Commit([]Write{{"acked", []byte("v"), st.Revision() + 1}}); err != nil {
			t.Fatal(err)
		}
		st.Close()
		st = mustOpen(t, dir)
		wantContent(t, st, "acked", "acked=v")
	}
}

func smallBackup(t *testing.T) []byte {
	t.Helper()
	m := NewMemory()
	if err := m.Commit([]Write{{"k", []byte("restored"), 1}}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Backup(m, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
