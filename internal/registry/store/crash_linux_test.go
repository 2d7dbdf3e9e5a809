package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

const sector = 512

// disk stands between bbolt and its file. It knows what a power cut would leave: what was synced, and any choice of the
// sectors that were written since. It judges many such images.
type disk struct {
	t      *testing.T
	st     *Bolt
	real   func([]byte, int64) (int, error)
	rand   *rand.Rand
	images int    // judged at each write
	dir    string // for images

	synced  []byte
	cache   map[int64][]byte // sectors written since the last sync
	acked   map[string]string
	pending map[string]string // what a commit would lead to whose outcome is open; else nil
	wrong   []string          // what the images had that they should not

	writes int // of the commit under way
	fault  fault
	mend   func() // ends a fault of the sync
}

// fault is what happens at one write of a commit.
type fault struct {
	write int   // its number
	err   error // of the write; nil: the write goes well, and the sync after it fails
	part  int   // bytes that are written before err
	want  error // of Commit
}

func (f fault) String() string {
	if f.err == nil {
		return fmt.Sprintf("the sync after write %d", f.write)
	}
	return fmt.Sprintf("write %d after %d bytes: %v", f.write, f.part, f.err)
}

var none = fault{write: -1}

// private reaches a field of bbolt's, which has no seam for this.
func private[T any](of any, path ...string) *T {
	v := reflect.ValueOf(of).Elem()
	for _, name := range path {
		v = v.FieldByName(name)
	}
	return (*T)(unsafe.Pointer(v.UnsafeAddr()))
}

// attach opens the store in a directory with the disk below it.
func (d *disk) attach(dir string) {
	d.t.Helper()
	st, err := Open(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	st.db.AllocSize = 16 << 10 // it grows often
	d.st, d.cache, d.fault = st, make(map[int64][]byte), none
	hook := private[func([]byte, int64) (int, error)](st.db, "ops", "writeAt")
	d.real, *hook = *hook, d.writeAt
}

func (d *disk) writeAt(p []byte, at int64) (int, error) {
	if at < int64(2*os.Getpagesize()) {
		d.sync() // bbolt has synced all other pages before it writes a meta page
	}
	d.writes++
	switch {
	case d.writes-1 != d.fault.write:
		return d.write(p, at)
	case d.fault.err == nil:
		n, err := d.write(p, at)
		d.breakSync()
		return n, err
	}
	n, _ := d.write(p[:d.fault.part], at)
	return n, &os.PathError{Op: "write", Path: fileName, Err: d.fault.err}
}

func (d *disk) write(p []byte, at int64) (int, error) {
	for i := 0; i < len(p); i += sector {
		d.cache[at+int64(i)] = slices.Clone(p[i:min(i+sector, len(p))])
	}
	n, err := d.real(p, at)
	if d.writes > d.fault.write { // what comes before the fault is that of a commit without one
		d.judge()
	}
	return n, err
}

// sync is one that went well.
func (d *disk) sync() {
	d.synced = d.image(1)
	clear(d.cache)
}

// breakSync makes the next sync fail by a pipe in the place of the file. As Linux does, it drops what was to be written:
// some of it has reached the disk, and the rest is clean in the page cache.
func (d *disk) breakSync() {
	d.synced = d.image(0.5)
	clear(d.cache)
	fd := int((*private[*os.File](d.st.db, "file")).Fd())
	kept, err := syscall.Dup(fd)
	if err != nil {
		d.t.Fatal(err)
	}
	var ends [2]int
	if err := errors.Join(syscall.Pipe2(ends[:], syscall.O_CLOEXEC), syscall.Dup3(ends[0], fd, syscall.O_CLOEXEC)); err != nil {
		d.t.Fatal(err)
	}
	d.mend = func() {
		err := errors.Join(syscall.Dup3(kept, fd, syscall.O_CLOEXEC), syscall.Close(kept), syscall.Close(ends[0]), syscall.Close(ends[1]))
		if err != nil {
			d.t.Fatal(err)
		}
		d.mend = nil
	}
}

// image is what a power cut leaves if each sector that was not synced reaches the disk with the chance given.
func (d *disk) image(chance float64) []byte {
	info, err := os.Stat(d.st.path)
	if err != nil {
		d.t.Fatal(err)
	}
	image := make([]byte, info.Size())
	copy(image, d.synced)
	for _, at := range slices.Sorted(maps.Keys(d.cache)) {
		if d.rand.Float64() < chance {
			copy(image[at:], d.cache[at])
		}
	}
	return image
}

// judge opens images of what a power cut would leave now.
func (d *disk) judge() {
	chances := []float64{0, 1, 0.5, 0.9, 0.1}
	for range d.images {
		if err := d.judgeImage(d.image(chances[d.rand.IntN(len(chances))])); err != nil {
			d.wrong = append(d.wrong, err.Error())
		}
	}
}

func (d *disk) judgeImage(image []byte) error {
	if err := os.WriteFile(filepath.Join(d.dir, fileName), image, 0o600); err != nil {
		d.t.Fatal(err)
	}
	st, err := Open(d.dir)
	if err != nil {
		return err
	}
	defer st.Close()
	return d.allowed(st)
}

// allowed checks that a store has all that was acknowledged, and all or nothing of a commit whose outcome is open.
func (d *disk) allowed(st Store) error {
	got, err := allOf(st)
	if err != nil || maps.Equal(got, d.acked) || d.pending != nil && maps.Equal(got, d.pending) {
		return err
	}
	return fmt.Errorf("%d entries, want the %d acknowledged or %d with those of the open commit", len(got), len(d.acked), len(d.pending))
}

// commit commits with a fault, and notes what that promises.
func (d *disk) commit(writes []Write, f fault) error {
	if d.st.broken.Load() { // the outcome of an earlier one is open
		return d.st.Commit(writes)
	}
	d.pending = maps.Clone(d.acked)
	for _, w := range writes {
		if w.Value == nil {
			delete(d.pending, w.Key)
		} else {
			d.pending[w.Key] = fmt.Sprintf("%d %s", w.Revision, w.Value)
		}
	}
	d.writes, d.fault = 0, f
	err := d.st.Commit(writes)
	d.fault = none
	switch {
	case err == nil:
		d.sync()
		d.acked, d.pending = d.pending, nil
	case errors.Is(err, ErrFull):
		d.pending = nil
	}
	d.judge()
	return err
}

// change is one of the commits: old entries updated and deleted, new ones appended, a large one that grows the file.
func change(number int) (writes []Write) {
	revision := uint64(1000 + number)
	for i := range 20 {
		writes = append(writes,
			Write{fmt.Sprintf("i/%05d", 1000*number+i), []byte(strings.Repeat("n", 40+i)), revision},
			Write{fmt.Sprintf("i/%05d", 7*i), fmt.Appendf(nil, "changed by %d", number), revision},
			Write{fmt.Sprintf("r/%05d", 11*(i+number)), nil, revision})
	}
	return append(writes, Write{"big", []byte(strings.Repeat("b", 9000+9000*number)), revision})
}

// crashBase makes the store in which the faults happen.
func crashBase(t *testing.T) (image []byte, content map[string]string) {
	t.Helper()
	dir := t.TempDir()
	st := mustOpen(t, dir)
	st.db.AllocSize = 16 << 10
	for round := range 3 {
		var writes []Write
		for i := range 150 {
			writes = append(writes,
				Write{fmt.Sprintf("i/%05d", i+round), fmt.Appendf(nil, "instance %d", round), uint64(1 + round)},
				Write{fmt.Sprintf("r/%05d", i*(round+1)), fmt.Appendf(nil, "rule %d", round), uint64(1 + round)})
		}
		commit(t, st, writes...)
	}
	content, err := allOf(st)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	return used(t, readFile(t, st.path)), content
}

// crash is one scenario: a fault in a commit, what follows in the same process, a restart, and a commit after it.
type crash struct {
	unlatched bool // control: go on after a failed sync
	unsettled bool // control: do not write the meta pages anew at the start
	images    int
	seed      uint64
	writes    int // of the commit with the fault, as it turned out

	base    []byte
	content map[string]string
}

func (c *crash) run(t *testing.T, f fault) (wrong []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), c.base, 0o600); err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, rand: rand.New(rand.NewPCG(c.seed, 1)), images: c.images, dir: memoryDir(t), synced: c.base, acked: c.content}
	d.attach(dir)
	err := d.commit(change(1), f)
	c.writes = d.writes
	if !errors.Is(err, f.want) {
		t.Errorf("%v: Commit = %v, want %v", f, err, f.want)
	}
	if d.mend != nil {
		d.mend()
	}
	if c.unlatched {
		d.unlatch()
	}
	err = d.commit(change(2), none)
	if latched := errors.Is(f.want, ErrBroken) && !c.unlatched; errors.Is(err, ErrBroken) != latched {
		t.Errorf("%v: the next Commit = %v", f, err)
	}
	c.restart(d, dir)
	if err := d.commit(change(3), none); err != nil {
		t.Errorf("%v: Commit after a restart = %v", f, err)
	}
	if err := d.st.Close(); err != nil {
		t.Fatal(err)
	}
	return d.wrong
}

// unlatch goes on as bbolt does, from what it shows.
func (d *disk) unlatch() {
	d.st.broken.Store(false)
	now, err := allOf(d.st)
	if err := errors.Join(err, d.st.load()); err != nil {
		d.t.Fatal(err)
	}
	d.acked = now
}

// restart ends the process but not the machine: the page cache stays.
func (c *crash) restart(d *disk, dir string) {
	if err := d.st.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.attach(dir)
	if err := d.allowed(d.st); err != nil {
		d.wrong = append(d.wrong, "after a restart: "+err.Error())
	}
	if !c.unsettled {
		seen, err := os.ReadFile(d.st.path)
		if err != nil {
			d.t.Fatal(err)
		}
		copy(d.synced[:2*os.Getpagesize()], seen)
	}
	now, err := allOf(d.st)
	if err != nil {
		d.t.Fatal(err)
	}
	d.acked, d.pending = now, nil // what was shown once must stay
}

// faults lists one of each kind at each write of a commit.
func faults(writes int) (all []fault) {
	for i := range writes {
		all = append(all,
			fault{i, syscall.EIO, 0, ErrBroken}, fault{i, syscall.EIO, sector, ErrBroken},
			fault{i, syscall.ENOSPC, 0, ErrFull})
	}
	return append(all,
		fault{0, syscall.EDQUOT, 0, ErrFull}, fault{0, syscall.EFBIG, sector, ErrFull},
		fault{writes - 2, nil, 0, ErrBroken}, fault{writes - 1, nil, 0, ErrBroken},
		fault{writes - 1, syscall.ENOSPC, os.Getpagesize(), ErrBroken}, // the meta page is there all the same
	)
}

// TestCrash fails every write and every sync of a commit, and cuts the power after each write: nothing acknowledged is
// lost, nothing is half applied, and after a failed sync nothing is acknowledged. WEFT_PROVE=full makes it ten times as many
// images.
func TestCrash(t *testing.T) {
	c := &crash{images: 1}
	c.base, c.content = crashBase(t)
	if full() {
		c.images = 10
	}
	if wrong := c.run(t, none); len(wrong) > 0 {
		t.Fatalf("without a fault: %q", wrong)
	}
	all := faults(c.writes)
	for i, f := range all {
		c.seed = uint64(i)
		if wrong := c.run(t, f); len(wrong) > 0 {
			t.Errorf("%v: %d wrong images, such as %s", f, len(wrong), wrong[0])
		}
	}
	t.Logf("%d writes in a commit, %d faults", c.writes, len(all))
}

// TestCrashControl goes on after a failed sync, in the same process or in the next one without writing the meta pages
// anew: the same images must show that something acknowledged is lost.
func TestCrashControl(t *testing.T) {
	for name, control := range map[string]crash{
		"no latch":        {unlatched: true},
		"no settled meta": {unsettled: true},
	} {
		t.Run(name, func(t *testing.T) {
			control.base, control.content = crashBase(t)
			control.run(t, none)
			last := control.writes - 1
			control.images = 5
			for seed := range uint64(20) {
				control.seed = seed
				wrong := control.run(t, fault{last, nil, 0, ErrBroken})
				if len(wrong) > 0 {
					t.Logf("seed %d: %d wrong images, such as %s", seed, len(wrong), wrong[0])
					return
				}
			}
			t.Error("no image shows a loss: the protection is not needed, or the test sees nothing")
		})
	}
}
