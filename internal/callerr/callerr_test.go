package callerr

import "testing"

func TestText(t *testing.T) {
	e := &Error{Service: "stock.default", Method: "/shop.Stock/Get", Reason: "AttemptsFailed", Rule: "stock-retry@1-7",
		Attempts: []Attempt{{Endpoint: "s1", Address: "10.0.0.1:80", Fate: "Unavailable"}, {Endpoint: "s2", Address: "10.0.0.2:80", Fate: "not sent:\nno way"}}}
	want := "weft: stock.default /shop.Stock/Get: AttemptsFailed (rule stock-retry@1-7) [attempt 1 on s1 10.0.0.1:80: Unavailable; attempt 2 on s2 10.0.0.2:80: not sent: no way]"
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
