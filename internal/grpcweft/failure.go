package grpcweft

import (
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

// refused makes the application's error of a refusal. err is what grpc said about the last try, if there was one.
func (r *rpc) refused(ref *engine.Refusal, err error) error {
	e := &callerr.Error{Service: r.call.Service(), Method: r.method, Reason: callerr.Reason(ref.Reason), Rule: ref.Rule,
		RetryAfter: ref.RetryAfter, Err: ref.Err, Local: ref.Local}
	if ref.Reason == engine.NoInstance && err != nil {
		if !r.last.asked {
			return err // grpc or an interceptor ended the call before an endpoint was needed
		}
		if c := codeOf(err); c == codes.DeadlineExceeded || c == codes.Canceled {
			e.Err = err // a caller that waited for an endpoint until its time was over
		}
	}
	for _, f := range r.call.Fates() {
		e.Attempts = append(e.Attempts, callerr.Attempt{Endpoint: f.Endpoint, Address: f.Address, Fate: fate(f), Latency: f.Latency})
	}
	return e
}

func fate(f engine.Fate) string {
	if !f.Sent {
		return "not sent: " + status.Convert(f.Err).Message()
	}
	return codes.Code(f.Code).String()
}

// misdialled is the error of a call whose target is no service of the mesh.
func misdialled(cc *grpc.ClientConn, method string, err error) error {
	e := &callerr.Error{Service: cc.Target(), Method: method, Reason: callerr.Reason(engine.Misused), Err: err, Local: true}
	if ref, ok := errors.AsType[*engine.Refusal](err); ok {
		e.Reason, e.Rule, e.RetryAfter, e.Err = callerr.Reason(ref.Reason), ref.Rule, ref.RetryAfter, ref.Err
	}
	return e
}
