package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// "OPTIONS *" is answered by net/http itself unless it is told otherwise; here it needs a token as everything does.
func TestOptionsNeedAToken(t *testing.T) {
	s := running(t)
	for token, want := range map[string]int{"": http.StatusUnauthorized, s.AdminToken(): http.StatusNotFound} {
		conn, err := net.Dial("tcp", s.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("token %q: %d, want %d", token, answer.StatusCode, want)
		}
	}
}
