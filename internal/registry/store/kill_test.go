package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childDir names the data directory to the child process of TestKill.
const childDir = "WEFT_STORE_TEST_DIR"

// child does what another process is needed for, and reports whether this is one.
func child() bool {
	if path := os.Getenv(rawFile); path != "" {
		openRaw(path)
		return true
	}
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	if os.Getenv(restoreForever) != "" {
		restoreOn(dir)
		return true
	}
	writeOn(dir, os.Getenv("WEFT_STORE_TEST_EARLY") != "")
	return true
}

// writeOn writes until it is killed, and prints each acknowledged key; early prints them before, which is what
// the test must notice.
func writeOn(dir string, early bool) {
	st, err := Open(dir)
	if err != nil {
		say("error " + err.Error())
		return
	}
	c := NewCommitter(st, nil)
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() { storm(c, fmt.Sprintf("%s-%02d", run, w), early) })
	}
	wg.Wait()
}

func storm(c *Committer, prefix string, early bool) {
	for i := 0; ; i++ {
		key := fmt.Sprintf("%s-%06d", prefix, i)
		if early {
			say(key)
		}
		err := c.Do(context.Background(), func(b *Batch) error { b.Put(key, []byte(key)); return nil })
		if err != nil {
			say("error " + err.Error())
			return
		}
		if !early {
			say(key)
		}
	}
}

// say writes a line in one system call, so that a kill cannot tear it.
func say(line string) { os.Stdout.WriteString(line + "\n") }

// round starts the child, lets it acknowledge some keys, kills it in the middle and gives what it acknowledged.
func round(t *testing.T, dir string, keys int, env ...string) (acked []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil || strings.HasPrefix(line, "error") {
			t.Errorf("child: %s %v", line, err)
			break
		}
		if acked = append(acked, strings.TrimSpace(line)); len(acked) == keys {
			cmd.Process.Kill() // the child writes on until it dies; what it still says counts
		}
	}
	_ = cmd.Wait() // it was killed
	return acked
}

// lost counts the acknowledged keys that are not in the store.
func lost(t *testing.T, dir string, acked []string) (n int) {
	t.Helper()
	st, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	there := make(map[string]bool)
	err = st.Range("", func(e Entry) error {
		key, value := e.Key, e.Value
		if key != string(value) {
			return fmt.Errorf("key %q has the value %q", key, value)
		}
		there[key] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range acked {
		if !there[key] {
			n++
		}
	}
	return n
}

// TestKill kills a process with SIGKILL in a write storm, again and again on the same store: nothing that was
// acknowledged is lost, and the store opens. WEFT_PROVE=full makes it 200 rounds.
func TestKill(t *testing.T) {
	rounds := 10
	if full() {
		rounds = 200
	}
	dir := t.TempDir()
	var acked []string
	for i := range rounds {
		acked = append(acked, round(t, dir, 100+137*i%900)...)
		if n := lost(t, dir, acked); n > 0 {
			t.Fatalf("round %d: %d of %d acknowledged keys are lost", i, n, len(acked))
		}
	}
	t.Logf("%d acknowledged keys in %d rounds", len(acked), rounds)
}

// TestKillControl acknowledges before the commit: the same check must find keys that are lost.
func TestKillControl(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for i := range 20 {
		acked = append(acked, round(t, dir, 100+i, "WEFT_STORE_TEST_EARLY=1")...)
		if lost(t, dir, acked) > 0 {
			return
		}
	}
	t.Errorf("%d keys were acknowledged before they were written, and none is lost", len(acked))
}

// restoreForever makes the child restore one backup after the other.
const restoreForever = "WEFT_STORE_TEST_RESTORE"

// alternative makes one of two backups.
func alternative(name string) []byte {
	entries := make([]Entry, 3*chunkKeys)
	for i := range entries {
		entries[i] = Entry{Key: fmt.Sprintf("i/%06d", i), Value: []byte(name)}
	}
	return handmade(1, entries...)
}

func restoreOn(dir string) {
	backups := [][]byte{alternative("one"), alternative("two")}
	for i := 0; ; i++ {
		if _, err := Restore(dir, bytes.NewReader(backups[i%2])); err != nil {
			say("error " + err.Error())
			return
		}
		say("restored")
	}
}

// TestKillRestore kills a process that restores: the store is the whole of the one backup or of the other.
func TestKillRestore(t *testing.T) {
	rounds := 6
	if full() {
		rounds = 100
	}
	dir := t.TempDir()
	for i := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childDir+"="+dir, restoreForever+"=1")
		out, err := cmd.StdoutPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(out)
		for range 2 {
			if line, err := r.ReadString('\n'); line != "restored\n" {
				t.Fatalf("the child says %q, %v", line, err)
			}
		}
		time.Sleep(time.Duration(i) * 7 * time.Millisecond) // somewhere in the next one
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		wantOneOf(t, dir)
	}
}

func wantOneOf(t *testing.T, dir string) {
	t.Helper()
	st, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	seen := map[string]int{}
	if err := st.Range("", func(e Entry) error { seen[string(e.Value)]++; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen["one"]+seen["two"] != 3*chunkKeys {
		t.Errorf("%v: want all of one backup", seen)
	}
}
