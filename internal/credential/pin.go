package credential

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// PinOf returns the pin of the certificate's key: the SHA-256 of its SubjectPublicKeyInfo, in hex.
func PinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
