package httpweft

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// body is the body of a response. Its end, whichever way it comes, settles the attempt.
type body struct {
	inner io.ReadCloser
	try   *try
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	if err != nil && b.try.claim() {
		b.try.settle(failure(err))
	}
	return n, err
}

// Close claims the end first: a Read that it interrupts is no failure of the server.
func (b *body) Close() error {
	claimed := b.try.claim()
	err := b.inner.Close()
	if claimed {
		b.try.settle(nil)
	}
	return err
}

func failure(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// upgraded is the body of a 101: the connection itself. The other side's EOF does not end it.
type upgraded struct{ body }

func (u *upgraded) Read(p []byte) (int, error) {
	n, err := u.inner.Read(p)
	if failure(err) != nil && u.try.claim() {
		u.try.settle(err)
	}
	return n, err
}

func (u *upgraded) Write(p []byte) (int, error) { return u.inner.(io.Writer).Write(p) }

// CloseWrite is what httputil.ReverseProxy looks for.
func (u *upgraded) CloseWrite() error {
	if cw, ok := u.inner.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", http.ErrNotSupported)
}

// bodyless reports whether a response ends with its header.
func bodyless(r *http.Response) bool {
	return r.Body == nil || r.Body == http.NoBody || r.Request.Method == http.MethodHead ||
		r.StatusCode == http.StatusNoContent || r.StatusCode == http.StatusNotModified
}

// maxDrain is how much of an unwanted answer is read to keep its connection, as in net/http's redirects.
const maxDrain = 2 << 10

// drainWait is how long the next attempt waits for that; making a connection takes about as long.
const drainWait = 5 * time.Millisecond

// drain reads the rest of a short answer. One of unknown length may never end, and over HTTP/2 a stream is closed
// without its connection.
func drain(r *http.Response) {
	if r.ProtoMajor == 1 && r.ContentLength >= 0 && r.ContentLength <= maxDrain {
		late := time.AfterFunc(drainWait, func() { r.Body.Close() })
		_, _ = io.Copy(io.Discard, r.Body)
		late.Stop()
	}
}
