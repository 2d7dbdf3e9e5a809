package rest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
)

// maxBody is the largest body of a request, in bytes. Of a larger one up to maxDrain bytes more are read and
// thrown away: a client that is still sending when the connection closes does not see the answer. maxBodies bounds
// the bodies in memory all together.
const (
	maxBody   = 256 << 10
	maxDrain  = 4 << 20
	maxBodies = 64 << 20
)

// readBody reads the body before the handler runs, up to [maxBody]. Slow senders hold what they have sent and no
// place in a lane.
func (a *API) readBody(r *http.Request) *huma.ErrorModel {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	counted := &countedReader{r: io.LimitReader(r.Body, maxBody+1), sum: &a.bodies, most: a.maxBodies}
	defer counted.release()
	data, err := io.ReadAll(counted)
	switch {
	case err == errBodies:
		return problem(http.StatusServiceUnavailable, "the server is reading too many bodies; try again in a second")
	case err != nil:
		return problem(http.StatusBadRequest, "the body cannot be read: "+err.Error())
	case len(data) > maxBody:
		rest, _ := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain))
		return tooLarge(fmt.Sprintf("at least %d bytes", int64(len(data))+rest))
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

var errBodies = fmt.Errorf("more than %d bytes of bodies are being read", maxBodies)

// countedReader keeps count of the bytes that all readers of a sum hold.
type countedReader struct {
	r    io.Reader
	sum  *atomic.Int64
	mine int64
	most int64
}

// Read implements [io.Reader].
func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.mine += int64(n)
	if c.sum.Add(int64(n)) > c.most {
		return n, errBodies
	}
	return n, err
}

func (c *countedReader) release() { c.sum.Add(-c.mine) }
