package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// door is a listener that outlives the servers behind it: while they are replaced, connections wait instead of being
// refused, and nobody else can take the port. It also bounds them: at most max connections are open, and at most half of
// these come from one address, so that no single host shuts out all others. What is above is closed at once.
type door struct {
	lis  net.Listener
	max  int
	next chan arrival
	shut chan struct{} // closed by close
	wg   sync.WaitGroup
	once sync.Once

	mu   sync.Mutex
	open int
	from map[netip.Addr]int
}

// arrival is the outcome of one Accept.
type arrival struct {
	conn net.Conn
	err  error
}

// openDoor listens. The flag is named in errors.
func openDoor(flag, addr string, limit int) (*door, error) {
	lis, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%s %s is in use by another process; stop it, or choose another port (0 takes a free one)", flag, addr)
	case err != nil:
		return nil, fmt.Errorf("--%s %s: %w; choose another address", flag, addr, err)
	}
	d := &door{lis: lis, max: limit, next: make(chan arrival), shut: make(chan struct{}), from: make(map[netip.Addr]int)}
	d.wg.Go(d.accept)
	return d, nil
}

// accept hands connections over, one at a time. Errors are handed over too, as the servers know which of them pass.
func (d *door) accept() {
	for {
		conn, err := d.lis.Accept()
		if err == nil {
			if conn = d.admit(conn.(*net.TCPConn)); conn == nil {
				continue
			}
		}
		select {
		case d.next <- arrival{conn, err}:
		case <-d.shut:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// admit counts a connection until it is closed; nil if there are too many.
func (d *door) admit(conn *net.TCPConn) net.Conn {
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open >= d.max || d.from[from] >= max(1, d.max/2) {
		conn.Close()
		return nil
	}
	d.open++
	d.from[from]++
	return &counted{TCPConn: conn, leave: sync.OnceFunc(func() { d.left(from) })}
}

func (d *door) left(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.from[from]--; d.from[from] == 0 {
		delete(d.from, from)
	}
}

// close ends listening and is idempotent. Connections that were handed over stay.
func (d *door) close() error {
	var err error
	d.once.Do(func() {
		close(d.shut)
		err = d.lis.Close()
		d.wg.Wait()
	})
	return err
}

// addr is where the door really is.
func (d *door) addr() *net.TCPAddr { return d.lis.Addr().(*net.TCPAddr) }

// counted is a connection that a door counts.
type counted struct {
	*net.TCPConn
	leave func()
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	c.leave()
	return c.TCPConn.Close()
}

// way is the listener of one server behind a door. Closing it leaves the door open for the next.
type way struct {
	*door
	closed chan struct{}
	once   sync.Once
}

func (d *door) way() *way { return &way{door: d, closed: make(chan struct{})} }

// Accept implements [net.Listener].
func (w *way) Accept() (net.Conn, error) {
	select { // a way that is closed takes nothing, even if something waits
	case <-w.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-w.next:
		return a.conn, a.err
	case <-w.closed:
	case <-w.shut:
	}
	return nil, net.ErrClosed
}

// Close implements [net.Listener].
func (w *way) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// Addr implements [net.Listener].
func (w *way) Addr() net.Addr { return w.lis.Addr() }
