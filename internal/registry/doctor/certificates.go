package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/access"
)

// soon is when a certificate should have been renewed.
const soon = 14 * 24 * time.Hour

// identity looks at the server's own.
func (v *visit) identity() {
	thing := "certificate in " + access.IdentityFile
	path := filepath.Join(v.config.DataDir, access.IdentityFile)
	data, err := credential.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // made at the first start
	}
	const renew = "delete the file and restart the server; SDKs on other hosts need the new pin"
	if err != nil {
		v.say(Bad, thing, err.Error(), "the server does not start with it")
		return
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		v.say(Bad, thing, err.Error(), renew)
		return
	}
	v.expiry(thing, pair.Leaf, renew)
}

// given looks at that of --tls-cert.
func (v *visit) given() {
	if v.config.TLSCert == "" {
		return
	}
	const thing = "certificate of --tls-cert"
	pair, err := tls.LoadX509KeyPair(v.config.TLSCert, v.config.TLSKey)
	if err != nil {
		v.say(Bad, thing, err.Error(), "give a certificate and its key in PEM; the server does not start with these")
		return
	}
	v.expiry(thing, pair.Leaf, "renew it; the server reads the files again by itself")
	if info, err := os.Stat(v.config.TLSKey); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		v.say(Weak, "key of --tls-key", fmt.Sprintf("%s has mode %04o, which lets everybody read it", v.config.TLSKey, info.Mode().Perm()), "chmod o= "+v.config.TLSKey)
	}
}

func (v *visit) expiry(thing string, cert *x509.Certificate, remedy string) {
	left := cert.NotAfter.Sub(v.now)
	text := fmt.Sprintf("valid until %s, pin %s", cert.NotAfter.UTC().Format(time.RFC3339), credential.PinOf(cert))
	switch {
	case left <= 0:
		v.say(Bad, thing, "it expired at "+cert.NotAfter.UTC().Format(time.RFC3339), remedy)
	case v.now.Before(cert.NotBefore):
		v.say(Bad, thing, "it is valid only from "+cert.NotBefore.UTC().Format(time.RFC3339), "set the clock, or "+remedy)
	case left < soon:
		v.say(Weak, thing, fmt.Sprintf("%s, in %d days", text, left/(24*time.Hour)), remedy)
	default:
		v.say(OK, thing, text, "")
	}
}
