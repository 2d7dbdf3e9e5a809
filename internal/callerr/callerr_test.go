package callerr

import "testing"

func TestText(t *testing.T) {
	e := &Error{Service: "stock.default", Method: "/shop.Stock/Get", Reason: "AttemptsFailed", Rule: "stock-retry@1-7",
		Attempts: []Attempt{{Endpoint: "s1", Address: "10.0.0.1:80", Fate: "UNAVAILABLE"}, {Fate: "not sent:\nno way"}}}
	want := "weft: stock.default /shop.Stock/Get: AttemptsFailed (rule stock-retry@1-7) [attempt 1 on s1 10.0.0.1:80: UNAVAILABLE; attempt 2 on no endpoint: not sent: no way]"
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
