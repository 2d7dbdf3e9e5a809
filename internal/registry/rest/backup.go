package rest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

// maxRestore is the largest backup that is taken, in bytes.
const maxRestore = 1 << 30

// stallLimit is how long a client may neither take nor send a byte of a backup.
const stallLimit = 30 * time.Second

const octets = "application/octet-stream"

// copies are the backups and restores of a server: one at a time, as each reads or writes all there is.
type copies struct {
	busy sync.Mutex
	last atomic.Pointer[time.Time] // when a backup was finished; nil: none since the start
}

// ErrRestoring is what Restore of a [Config] says while another one is under way.
var ErrRestoring = errors.New("another backup is being restored; try again in a few seconds")

var errCopying = problem(http.StatusTooManyRequests, "a backup or a restore is under way; try again when it is finished")

func (a *API) addBackup() {
	get := operation("back-up", http.MethodGet, "/v1/backup", "Take a backup while the server runs", http.StatusNotImplemented)
	get.Responses = map[string]*huma.Response{strconv.Itoa(http.StatusOK): {Description: "The backup, for POST /v1/restore or registry-server restore", Content: binary()}}
	register(a, needs(access.Admin, everywhere).in(noLane).asCostly(), get, a.backUp)
	post := operation("restore", http.MethodPost, "/v1/restore", "Replace everything by a backup: the server goes on from it in a new epoch, and every SDK resyncs",
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusInsufficientStorage)
	post.RequestBody = &huma.RequestBody{Required: true, Content: binary(), Description: "a backup of at most 1 GiB"}
	post.DefaultStatus = http.StatusAccepted
	register(a, needs(access.Admin, everywhere).asStream().asCostly(), post, a.restore)
}

func binary() map[string]*huma.MediaType {
	return map[string]*huma.MediaType{octets: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
}

// backUp streams: what fails before the first byte is a problem, what fails later ends the connection, so that half a
// backup is not taken for one.
func (a *API) backUp(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	if a.Backup == nil {
		return nil, problem(http.StatusNotImplemented, "this server keeps nothing on disk that could be backed up")
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		if r.Method == http.MethodHead { // nobody gets a copy, so none is made
			w.Header().Set("Content-Type", octets)
			return
		}
		if !a.copies.busy.TryLock() {
			writeProblem(w, errCopying)
			return
		}
		defer a.copies.busy.Unlock()
		out := &steady{call: callOf(ctx), rc: http.NewResponseController(w), w: w}
		out.call.allow(stallLimit)
		w.Header().Set("Content-Type", octets)
		w.Header().Set("Content-Disposition", `attachment; filename="weft.backup"`)
		err := a.Backup(out)
		switch {
		case err == nil:
			now := time.Now()
			a.copies.last.Store(&now)
		case out.begun:
			a.Log.Error("rest: a backup was cut short", "error", err)
			panic(http.ErrAbortHandler)
		default:
			w.Header().Del("Content-Disposition")
			writeProblem(w, a.refusal(err))
		}
	}}, nil
}

// steady writes as long as the client takes what is written.
type steady struct {
	call  *call
	rc    *http.ResponseController
	w     io.Writer
	begun bool
}

// Write implements [io.Writer].
func (s *steady) Write(p []byte) (int, error) {
	s.begun = true
	s.call.extend(s.rc, stallLimit)
	return s.w.Write(p)
}

type restoreDone struct {
	Body struct {
		Accepted bool `json:"accepted" doc:"the backup is whole; the server begins anew with it"`
	}
}

// restoreFrom is the input of a restore, whose body the handler reads as it comes.
type restoreFrom struct {
	ContentType string `header:"Content-Type" hidden:"true"`
}

func (a *API) restore(ctx context.Context, in *restoreFrom) (*restoreDone, error) {
	if a.Restore == nil {
		return nil, problem(http.StatusNotImplemented, "this server keeps nothing on disk that could be restored")
	}
	if media, _, _ := mime.ParseMediaType(in.ContentType); media != octets && media != curlDefault {
		const message = `want "application/octet-stream"`
		return nil, problem(http.StatusUnsupportedMediaType, "content-type: "+message, wrong("header.Content-Type", message, in.ContentType))
	}
	if !a.copies.busy.TryLock() {
		return nil, errCopying
	}
	defer a.copies.busy.Unlock()
	c := callOf(ctx)
	c.allow(stallLimit)
	body := &incoming{call: c, rc: http.NewResponseController(c.w), r: http.MaxBytesReader(c.w, c.body, maxRestore)}
	if err := a.Restore(ctx, body); err != nil {
		return nil, a.refusal(err)
	}
	out := &restoreDone{}
	out.Body.Accepted = true
	return out, nil
}

// incoming reads as long as the client goes on sending.
type incoming struct {
	call *call
	rc   *http.ResponseController
	r    io.Reader
}

// Read implements [io.Reader].
func (in *incoming) Read(p []byte) (int, error) {
	_ = in.rc.SetReadDeadline(time.Now().Add(stallLimit))
	in.call.extend(in.rc, stallLimit+writeGrace)
	return in.r.Read(p)
}

// refusal is refuse for what a backup can fail of besides.
func (a *API) refusal(err error) *huma.ErrorModel {
	var large *http.MaxBytesError
	var p *huma.ErrorModel
	switch {
	case errors.As(err, &large):
		const limit = "at most 1073741824 bytes are read"
		return problem(http.StatusRequestEntityTooLarge, "the backup is too large: "+limit, wrong("body", limit, nil))
	case errors.Is(err, ErrRestoring):
		return problem(http.StatusTooManyRequests, err.Error())
	case errors.Is(err, store.ErrBackup):
		return problem(http.StatusUnprocessableEntity, "the backup cannot be used: "+err.Error(), wrong("body", err.Error(), nil))
	case errors.As(a.refuse(err), &p):
		return p
	}
	return problem(http.StatusInternalServerError, err.Error())
}
