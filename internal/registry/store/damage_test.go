package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// victim is a small store with all that a file has, at two moments.
type victim struct {
	older, whole []byte
	content      map[string]string
	path         string // of the damaged file
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	dir := t.TempDir()
	st := mustOpen(t, dir)
	st.db.AllocSize = 4 << 10
	v := &victim{path: filepath.Join(memoryDir(t), fileName)}
	for round := range 6 {
		if round == 3 {
			v.older = readFile(t, st.path)
		}
		var writes []Write
		for i := range 120 {
			writes = append(writes, Write{fmt.Sprintf("i/%05d", i+40*round), fmt.Appendf(nil, "value %d of %d", i, round), uint64(1 + round)})
		}
		writes = append(writes,
			Write{fmt.Sprintf("bare-%d", round), []byte("x"), uint64(1 + round)},
			Write{"t/1", []byte(strings.Repeat("t", 5000+round)), uint64(1 + round)})
		commit(t, st, writes...)
	}
	var err error
	v.content, err = allOf(st)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	v.whole = used(t, readFile(t, st.path))
	return v
}

// memoryDir is a directory in memory, where there is one: to open an image syncs, which proves nothing about it.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "weft") //nolint:usetesting // elsewhere
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// allOf reads everything, with the revisions.
func allOf(st Store) (map[string]string, error) {
	content := make(map[string]string)
	err := st.Range("", func(e Entry) error {
		content[e.Key] = fmt.Sprintf("%d %s", e.Revision, e.Value)
		return nil
	})
	return content, err
}

// outcome of opening and reading a damaged file.
type outcome string

const (
	right   outcome = "right"   // the damage was where nothing is read
	refused outcome = "refused" // with ErrCorrupt or ErrLayout
	silent  outcome = "silently wrong"
	strange outcome = "refused with another error"
)

func (v *victim) try(t *testing.T, content []byte, trust bool) (outcome, error) {
	t.Helper()
	if err := os.WriteFile(v.path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := openDir(filepath.Dir(v.path), trust)
	got := map[string]string{}
	if err == nil {
		got, err = allOf(st)
		err = errors.Join(err, st.Close())
	}
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrLayout):
		return refused, err
	case err != nil:
		return strange, err
	case maps.Equal(got, v.content):
		return right, nil
	}
	return silent, nil
}

// flip changes one bit.
func (v *victim) flip(r *rand.Rand) []byte {
	content := bytes.Clone(v.whole)
	content[r.IntN(len(content))] ^= 1 << r.IntN(8)
	return content
}

// tear changes one sector: to zeros, to noise, to what another sector has, to what it had earlier. The earlier state of
// a meta page is left out, as it cannot be told from a crash before the last commit.
func (v *victim) tear(r *rand.Rand) []byte {
	const sector = 512
	content := bytes.Clone(v.whole)
	at := sector * r.IntN(len(content)/sector)
	torn := content[at : at+sector]
	switch r.IntN(4) {
	case 0:
		clear(torn)
	case 1:
		for i := range torn {
			torn[i] = byte(r.Uint32())
		}
	case 2:
		copy(torn, v.whole[sector*r.IntN(len(v.whole)/sector):])
	case 3:
		if at >= 2*os.Getpagesize() && at < len(v.older) {
			copy(torn, v.older[at:])
		}
	}
	return content
}

// TestFlipsAndTears damages a file at random: it is read as it was, or refused. WEFT_PROVE=full makes it 20 times as often.
func TestFlipsAndTears(t *testing.T) {
	rounds := 1000
	if full() {
		rounds = 20_000
	}
	v := newVictim(t)
	if got, err := v.try(t, v.whole, false); got != right {
		t.Fatalf("undamaged: %s: %v", got, err)
	}
	for name, damage := range map[string]func(*rand.Rand) []byte{"flips": v.flip, "tears": v.tear} {
		t.Run(name, func(t *testing.T) {
			seen := make(map[outcome]int)
			for i := range rounds {
				got, err := v.try(t, damage(rand.New(rand.NewPCG(uint64(i), 0))), false)
				if seen[got]++; got == silent || got == strange {
					t.Errorf("seed %d: %s: %v", i, got, err)
				}
			}
			if seen[right] == 0 || seen[refused] == 0 {
				t.Errorf("%v: want some of both, or the test sees nothing", seen)
			}
			t.Log(seen)
		})
	}
}

// TestFlipsControl verifies no checksum and no total: some flip passes unnoticed.
func TestFlipsControl(t *testing.T) {
	v := newVictim(t)
	for i := range 2000 {
		if got, _ := v.try(t, v.flip(rand.New(rand.NewPCG(uint64(i), 0))), true); got == silent {
			t.Logf("seed %d", i)
			return
		}
	}
	t.Error("every flip was noticed without checksums: they are not needed, or the test sees nothing")
}

// TestEveryMetaBit flips each bit of both meta pages, where a single one could take back a commit.
func TestEveryMetaBit(t *testing.T) {
	v := newVictim(t)
	for id := range 2 {
		for bit := range 8 * metaSize {
			content := bytes.Clone(v.whole)
			content[id*os.Getpagesize()+headerSize+bit/8] ^= 1 << (bit % 8)
			if got, err := v.try(t, content, false); got != refused {
				t.Fatalf("page %d, bit %d: %s: %v", id, bit, got, err)
			}
		}
	}
}

// TestFlipWhileOpen damages a value below an open store.
func TestFlipWhileOpen(t *testing.T) {
	for _, trust := range []bool{false, true} {
		t.Run(fmt.Sprintf("trust %t", trust), func(t *testing.T) {
			dir := t.TempDir()
			st, err := openDir(dir, trust)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			commit(t, st, put("a/1", "value one"), put("a/2", "value two"), put("b", "three"))
			content := readFile(t, st.path)
			f, err := os.OpenFile(st.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("V"), int64(bytes.LastIndex(content, []byte("value two")))); err != nil {
				t.Fatal(err)
			}
			err = st.Range("a/", func(Entry) error { return nil })
			if trust {
				if err != nil {
					t.Errorf("the control noticed it: %v", err)
				}
				return
			}
			wantError(t, err, ErrCorrupt, `key "a/2"`)
			wantError(t, err, ErrCorrupt, st.path)
			wantContent(t, st, "b", "b=three")
		})
	}
}

// TestMissingEntry takes entries away in ways that leave each of the others right.
func TestMissingEntry(t *testing.T) {
	dir := t.TempDir()
	st := mustOpen(t, dir)
	commit(t, st, put("a/1", "x"), put("a/2", "y"), put("b", "z"))
	st.now.families["a/"] = total{3, 4} // as if a third were missing
	commit(t, st, put("c", ""))
	for _, prefix := range []string{"", "a", "a/"} {
		wantError(t, st.Range(prefix, func(Entry) error { return nil }), ErrCorrupt, `bucket "a/": 2 entries`)
	}
	wantContent(t, st, "a/1", "a/1=x") // it cannot be known from a part
	wantContent(t, st, "b", "b=z")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	wantError(t, err, ErrCorrupt, `bucket "a/": 2 entries`)
}
