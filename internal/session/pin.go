package session

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
)

// PinError says that a server's key is not the pinned one.
type PinError struct {
	Want, Got [sha256.Size]byte
}

func (e *PinError) Error() string {
	return fmt.Sprintf("the server's key has pin %x, not the expected %x: another server answers there, or its data directory is new", e.Got, e.Want)
}

// pinnedTLS speaks TLS 1.3 only to the holder of the pinned key, whatever names and dates its certificate says.
// refused is told of another key, as gRPC would flatten the error to text.
func pinnedTLS(pin [sha256.Size]byte, refused func(error)) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // the pin replaces the chain; VerifyConnection also runs when a session is resumed
		VerifyConnection: func(state tls.ConnectionState) error {
			got := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
				err := &PinError{Want: pin, Got: got}
				refused(err)
				return err
			}
			return nil
		},
	}
}
