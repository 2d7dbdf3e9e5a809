package server

import (
	"errors"
	"net"
	"testing"
)

func newDoor(t *testing.T, limit int) *door {
	t.Helper()
	d, err := openDoor("http-addr", "127.0.0.1:0", limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func dial(t *testing.T, d *door) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", d.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A connection that comes while nobody serves is served by the next.
func TestADoorStaysOpen(t *testing.T) {
	d := newDoor(t, 10)
	first := d.way()
	first.Close()
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a way that is closed: %v", err)
	}
	c := dial(t, d)
	second := d.way()
	got, err := second.Accept()
	if err != nil || got.RemoteAddr().String() != c.LocalAddr().String() {
		t.Fatal(got, err)
	}
	got.Close()
	d.close()
	if _, err := second.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a way whose door is closed: %v", err)
	}
}

// One address gets half of the places, and they become free again.
func TestADoorIsBounded(t *testing.T) {
	d := newDoor(t, 6)
	w := d.way()
	var open []net.Conn
	for range 3 {
		dial(t, d)
		c, err := w.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := dial(t, d).Read(make([]byte, 1)); err == nil {
		t.Error("a fourth connection from one address is not closed")
	}
	for _, c := range open {
		c.Close()
		c.Close() // counts once
	}
	dial(t, d)
	c, err := w.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if d.open != 1 || len(d.from) != 1 {
		t.Errorf("%d connections are counted, from %d addresses; want one", d.open, len(d.from))
	}
	c.Close()
	if d.open != 0 || len(d.from) != 0 {
		t.Errorf("%d connections are counted, from %d addresses; want none", d.open, len(d.from))
	}
}
